//! Who subscribed is told: by session and by listening, with Redis and without, and nobody of another's.
#![expect(deprecated, reason = "revisions up to 2025-11-25 subscribe by resources/subscribe")]

use std::{num::NonZeroU16, time::Duration};

use futures_util::StreamExt as _;
use ordinaut_schema::run::Verdict;
use ordinaut_store::{
    claims::{ClaimedRun, Lease},
    conclusions::Conclusion,
    testing::redis_url,
};
use rmcp::{
    ClientHandler, RoleClient, ServiceExt as _,
    model::{
        ProtocolVersion, ReadResourceRequestParams, ResourceContents, ResourceUpdatedNotificationParam,
        ServerNotification, SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
    },
    service::{
        ClientLifecycleMode, NotificationContext, RunningService, Service, Subscription, serve_client_with_lifecycle,
    },
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    isolation::Site,
    support::{Chat, PATIENCE, call, task},
};

const ALL: [&str; 4] = ["task:read", "task:write", "run:control", "event:publish"];

/// A client that keeps what it is told.
#[derive(Debug, Clone)]
struct Ear(mpsc::Sender<String>);

impl ClientHandler for Ear {
    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.0.send(params.uri).await.unwrap();
    }
}

fn ear() -> (Ear, mpsc::Receiver<String>) {
    let (sender, told) = mpsc::channel(64);
    (Ear(sender), told)
}

async fn heard(told: &mut mpsc::Receiver<String>) -> String {
    timeout(PATIENCE, told.recv()).await.expect("an update").unwrap()
}

/// Takes what is told until the run is in that state, as its resource says.
async fn until_state<S: Service<RoleClient>>(
    client: &RunningService<RoleClient, S>,
    told: &mut mpsc::Receiver<String>,
    uri: &str,
    state: &str,
) {
    loop {
        assert_eq!(heard(told).await, uri);
        if read(client, uri).await["run"]["state"] == state {
            return;
        }
    }
}

async fn read<S: Service<RoleClient>>(client: &RunningService<RoleClient, S>, uri: &str) -> Value {
    let result = client.read_resource(ReadResourceRequestParams::new(uri)).await.unwrap();
    let [ResourceContents::TextResourceContents { text, .. }] = &result.contents[..] else { panic!("one text") };
    serde_json::from_str(text).unwrap()
}

async fn claim(site: &Site) -> ClaimedRun {
    let one = NonZeroU16::new(1).unwrap();
    let claimed = site.store.executor.claim_runs(uuid::Uuid::from_u128(1), one, Duration::from_mins(1), i64::MIN).await;
    claimed.unwrap().remove(0)
}

async fn succeed(site: &Site, run: &ClaimedRun) {
    let conclusion = Conclusion {
        lease: Lease { run: run.id, token: run.lease_token },
        verdict: Verdict::Succeeded { output: Value::Null },
        steps: Vec::new(),
        ran_for: Duration::ZERO,
    };
    site.store.executor.conclude_runs(vec![conclusion]).await.unwrap();
}

/// Says in Redis what a relay would.
async fn publish(redis: &str, topic: &str, agent: impl ToString, run: impl ToString) {
    let client = redis::Client::open(redis).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let fields = [("topic", topic.to_owned()), ("agent", agent.to_string()), ("run", run.to_string())];
    redis::cmd("XADD").arg("ordinaut:events").arg("*").arg(&fields).exec_async(&mut connection).await.unwrap();
}

async fn planned<S: Service<RoleClient>>(client: &RunningService<RoleClient, S>, title: &str) -> (String, String) {
    let call = async |tool: &'static str, arguments: Value| {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let params = rmcp::model::CallToolRequestParams::new(tool).with_arguments(arguments);
        client.call_tool(params).await.unwrap().structured_content.unwrap()
    };
    let created = call("create_task", task(title, json!({}))).await;
    let run = call("run_now", json!({ "task": title })).await["run"]["id"].as_str().unwrap().to_owned();
    (created["task"]["id"].as_str().unwrap().to_owned(), run)
}

/// How many follow something, as the metrics have it.
async fn followers(site: &Site) -> u64 {
    let text = site.http.get(site.url.replace("/mcp", "/metrics")).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("ordinaut_mcp_subscribers ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

pub(crate) async fn until_followers(site: &Site, count: u64) {
    timeout(PATIENCE, async {
        while followers(site).await != count {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the followers go");
}

async fn listening(site: &Site, token: String) -> RunningService<RoleClient, ()> {
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    serve_client_with_lifecycle((), site.transport(token), newest).await.unwrap()
}

async fn next_update(subscription: &mut Subscription) -> ServerNotification {
    timeout(PATIENCE, subscription.next()).await.expect("an update").unwrap().unwrap()
}

fn updated(notification: &ServerNotification) -> &str {
    let ServerNotification::ResourceUpdatedNotification(updated) = notification else { panic!("{notification:?}") };
    &updated.params.uri
}

#[tokio::test]
async fn a_session_that_subscribed_hears_of_a_run_until_its_end_and_of_nothing_else() {
    for redis in [None, Some(redis_url().await)] {
        let site = Site::start_beside(redis).await;
        let (_, token) = site.add("ann", &ALL).await;
        let (ear, mut told) = ear();
        let client = ear.serve(site.transport(token)).await.unwrap();
        let resources = client.peer_info().unwrap().capabilities.resources.clone().unwrap();
        assert_eq!((resources.subscribe, resources.list_changed), (Some(true), None));
        let (_, run) = planned(&client, "Followed").await;
        let (other_task, _) = planned(&client, "Other").await;
        let uri = format!("ordinaut://runs/{run}");
        client.subscribe(SubscribeRequestParams::new(&uri)).await.unwrap();
        let other = format!("ordinaut://tasks/{other_task}");
        client.subscribe(SubscribeRequestParams::new(&other)).await.unwrap();
        client.unsubscribe(UnsubscribeRequestParams::new(&other)).await.unwrap();
        let claimed = [claim(&site).await, claim(&site).await];
        until_state(&client, &mut told, &uri, "running").await;
        for claimed in &claimed {
            succeed(&site, claimed).await;
        }
        until_state(&client, &mut told, &uri, "succeeded").await;
        assert_eq!(followers(&site).await, 1);
        client.cancel().await.unwrap();
        until_followers(&site, 0).await;
        site.end([]).await;
    }
}

#[tokio::test]
async fn whoever_listens_hears_of_runs_tasks_and_the_list_and_of_the_end() {
    let site = Site::start_beside(Some(redis_url().await)).await;
    let (_, token) = site.add("ann", &ALL).await;
    let client = listening(&site, token).await;
    let (task_id, run) = planned(&client, "Followed").await;
    let uris = [format!("ordinaut://tasks/{task_id}"), format!("ordinaut://runs/{run}")];
    let filter = SubscriptionFilter::builder()
        .resources_list_changed()
        .tools_list_changed()
        .resource_subscriptions(uris.clone())
        .resource_subscription("ordinaut://guide/pipelines")
        .build();
    let mut subscription = client.peer().listen(filter).await.unwrap();
    let accepted = subscription.acknowledged();
    assert_eq!(accepted.resource_subscriptions.as_deref(), Some(&uris[..]));
    assert_eq!((accepted.resources_list_changed, accepted.tools_list_changed), (Some(true), None));
    for uri in &uris {
        assert_eq!(updated(&next_update(&mut subscription).await), uri, "what may have changed before");
    }
    let first = next_update(&mut subscription).await;
    assert!(matches!(first, ServerNotification::ResourceListChangedNotification(_)), "{first:?}");
    assert_eq!(followers(&site).await, 1);

    claim(&site).await;
    let mut both = vec![
        updated(&next_update(&mut subscription).await).to_owned(),
        updated(&next_update(&mut subscription).await).to_owned(),
    ];
    both.sort_by_key(|uri| std::cmp::Reverse(uri.clone()));
    assert_eq!(both, uris);
    assert!(!call(&client, "create_task", task("More", json!({}))).await.refused);
    let notification = next_update(&mut subscription).await;
    assert!(matches!(notification, ServerNotification::ResourceListChangedNotification(_)), "{notification:?}");
    subscription.cancel().await.unwrap();
    until_followers(&site, 0).await;
    site.end([client]).await;
}

#[tokio::test]
async fn anothers_run_is_not_there_to_be_followed() {
    let site = Site::start().await;
    let ann = site.agent("ann", &ALL).await;
    let (task_id, run) = planned(&ann, "Secret").await;
    let bob = site.agent("bob", &ALL).await;
    let (_, token) = site.add("eve", &ALL).await;
    let eve = listening(&site, token).await;
    for uri in
        [format!("ordinaut://tasks/{task_id}"), format!("ordinaut://runs/{run}"), "ordinaut://nothing".to_owned()]
    {
        let reading = bob.read_resource(ReadResourceRequestParams::new(&uri)).await.unwrap_err().to_string();
        let following = bob.subscribe(SubscribeRequestParams::new(&uri)).await.unwrap_err().to_string();
        assert_eq!(following, reading);
    }
    let uri = format!("ordinaut://runs/{run}");
    let filter = SubscriptionFilter::builder().resource_subscription(&uri).build();
    let mut refused = eve.peer().listen(filter).await.unwrap();
    let refusal = timeout(PATIENCE, refused.next()).await.unwrap().unwrap_err().to_string();
    assert!(refusal.contains("does not exist"), "{refusal}");
    until_followers(&site, 0).await;
    site.end([ann, bob, eve]).await;
}

#[tokio::test]
async fn an_event_that_is_a_lie_tells_nobody_anything() {
    let redis = redis_url().await;
    let site = Site::start_beside(Some(redis.clone())).await;
    let (agent, token) = site.add("ann", &ALL).await;
    let (ear, mut told) = ear();
    let client = ear.serve(site.transport(token)).await.unwrap();
    let (_, run) = planned(&client, "Quiet").await;
    let (_, marker) = planned(&client, "Loud").await;
    for run in [&run, &marker] {
        client.subscribe(SubscribeRequestParams::new(format!("ordinaut://runs/{run}"))).await.unwrap();
    }
    publish(&redis, "run.succeeded", agent, &run).await;
    assert!(!call_any(&client, "cancel_run", json!({ "run": marker })).await);
    publish(&redis, "run.cancelled", agent, &marker).await;
    assert_eq!(heard(&mut told).await, format!("ordinaut://runs/{marker}"));
    client.cancel().await.unwrap();
    site.end([]).await;
}

/// Whether a call was refused.
async fn call_any<S: Service<RoleClient>>(
    client: &RunningService<RoleClient, S>,
    tool: &'static str,
    arguments: Value,
) -> bool {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    let params = rmcp::model::CallToolRequestParams::new(tool).with_arguments(arguments);
    client.call_tool(params).await.unwrap().is_error == Some(true)
}

#[tokio::test]
async fn a_drained_server_ends_what_is_listened_to_in_order() {
    let site = Site::start().await;
    let (_, token) = site.add("ann", &ALL).await;
    let client = listening(&site, token).await;
    let filter = SubscriptionFilter::builder().resources_list_changed().build();
    let mut subscription = client.peer().listen(filter).await.unwrap();
    next_update(&mut subscription).await;
    site.drain.cancel();
    assert!(timeout(PATIENCE, subscription.next()).await.unwrap().unwrap().is_none());
    let end = format!("{:?}", subscription.end());
    assert!(end.contains("Graceful") || end.contains("Complete"), "{end}");
    client.cancel().await.unwrap();
    site.serving.await.unwrap();
}

#[tokio::test]
async fn the_old_transport_is_told_too() {
    let site = Site::start().await;
    let (_, token) = site.add("ann", &ALL).await;
    let ann = ().serve(site.transport(token.clone())).await.unwrap();
    let (_, run) = planned(&ann, "Followed").await;
    let base = site.url.trim_end_matches("/mcp").to_owned();
    let stream = site.http.get(format!("{base}/sse")).bearer_auth(&token).send().await.unwrap();
    let mut stream = stream.bytes_stream();
    let mut text = String::new();
    let mut until = async |wanted: &str| {
        while !text.contains(wanted) {
            let chunk = timeout(PATIENCE, stream.next()).await.expect("the stream is silent").unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        text.clone()
    };
    let opened = until("/messages?session_id=").await;
    let path = opened.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
    let post = async |message: Value| {
        let request = site.http.post(format!("{base}{path}")).bearer_auth(&token);
        let request = request.header("content-type", "application/json").body(message.to_string());
        assert!(request.send().await.unwrap().status().is_success());
    };
    let params =
        json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    post(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})).await;
    until("\"id\":1").await;
    post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    let uri = format!("ordinaut://runs/{run}");
    post(json!({"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": uri}})).await;
    until("\"id\":2").await;
    assert_eq!(followers(&site).await, 1);
    claim(&site).await;
    assert!(until("notifications/resources/updated").await.contains(&uri));
    drop(stream);
    until_followers(&site, 0).await;
    site.end([ann]).await;
}

#[tokio::test]
async fn a_client_on_a_pipe_listens_and_subscribes() {
    let chat = Chat::start().await;
    let (ear, mut told) = ear();
    let client = ear.serve(crate::support::serve(chat.server.for_session())).await.unwrap();
    let (task_id, _) = planned(&client, "Followed").await;
    let uri = format!("ordinaut://tasks/{task_id}");
    client.subscribe(SubscribeRequestParams::new(&uri)).await.unwrap();
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let pipe = crate::support::serve(chat.server.for_session());
    let listener = serve_client_with_lifecycle((), pipe, newest).await.unwrap();
    let filter = SubscriptionFilter::builder().resource_subscription(&uri).build();
    let mut subscription = listener.peer().listen(filter).await.unwrap();
    assert_eq!(updated(&next_update(&mut subscription).await), uri);
    chat.ok("pause", json!({ "task": task_id })).await;
    assert_eq!(heard(&mut told).await, uri);
    assert_eq!(updated(&next_update(&mut subscription).await), uri);
    subscription.cancel().await.unwrap();
}
