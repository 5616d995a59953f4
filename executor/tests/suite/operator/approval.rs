//! `approval.request` with a channel: a person hears of it, with a link that no model sees.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use ordinaut_executor::{
    actions::{
        Action as _, Answer, StepCall,
        approval::RequestApproval,
        notify::{Desktop, NotifySend},
    },
    clock::DatabaseClock,
};
use ordinaut_schema::{
    limits::Limits,
    run::{ErrorKind, StepFailure},
    schedule::ScheduleKind,
};
use ordinaut_store::{Caller, testing::accepted};
use serde_json::{Value, json};

use super::endpoint::{Base, Endpoint, call};

const PUBLIC: &str = "https://ordinaut.example";

/// The action, and a call of a run that is being attempted.
async fn asking(
    base: &Base,
    endpoint: &Endpoint,
    channel: &str,
    public_url: Option<&str>,
) -> (RequestApproval, StepCall) {
    let local = Caller::local("test");
    let now = base.store.now().await.unwrap();
    base.store.insert_task(&local, &accepted("Pay", (ScheduleKind::Manual, ""), now), None).await.unwrap();
    let task = base.store.find_task(&local, &"Pay".into()).await.unwrap();
    base.store.run_now(&local, task.id, "x", None).await.unwrap();
    let lease = Duration::from_mins(5);
    let run = base.store.claim_runs(uuid::Uuid::now_v7(), NonZeroU16::MIN, lease, i64::MIN).await.unwrap().remove(0);

    let standing = base.standing(&json!({ "channels": { "hook": { "kind": "webhook", "url": endpoint.url("/in") } } }));
    let notify = NotifySend::new(standing, base.store.clone(), base.secrets(), Desktop::default(), &Limits::DEFAULT);
    let clock = DatabaseClock::new(now);
    let action = RequestApproval::new(base.store.clone(), clock, Arc::new(notify), public_url.map(str::to_owned));
    let with = json!({ "message": "Pay 12 orders?", "data": ["a"], "channel": channel });
    let key = format!("{}/ask", run.id);
    let made = StepCall { idempotency_key: key, task: run.task, run: run.id, ..call("approval.request", with) };
    (action, made)
}

async fn waiting(action: &RequestApproval, call: &StepCall) -> Value {
    match action.execute(call.clone()).await {
        Ok(Answer::Parked { waiting, .. }) => waiting,
        other => panic!("it does not wait: {other:?}"),
    }
}

async fn failure(action: &RequestApproval, call: &StepCall) -> StepFailure {
    action.execute(call.clone()).await.unwrap_err()
}

/// The token of the link in a message.
fn token(sent: &Value) -> String {
    let text = sent["text"].as_str().unwrap();
    let token = text.split_once("https://ordinaut.example/approvals/").unwrap().1.lines().next().unwrap();
    assert_eq!(token.len(), 64, "{text}");
    token.to_owned()
}

#[tokio::test]
async fn a_person_is_told_once_with_a_link_that_leads_to_what_waits() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let (action, call) = asking(&base, &endpoint, "hook", Some(PUBLIC)).await;
    let shown = waiting(&action, &call).await;
    waiting(&action, &call).await;
    let sent = endpoint.seen();
    assert_eq!(sent.len(), 1, "once, however often the call is made");
    assert_eq!(sent[0].header("idempotency-key"), call.idempotency_key);
    assert!(sent[0].body["text"].as_str().unwrap().starts_with("Pay 12 orders?\n"), "{}", sent[0].body);
    let token = token(&sent[0].body);
    let approval = base.store.approval_of_link(&token).await.unwrap().unwrap();
    assert_eq!((json!(approval.id), approval.run), (shown["approval"].clone(), call.run));
    // Nothing that an agent's tools show has it.
    let inbox = base.store.check_inbox(&Caller::local("test"), None, 10).await.unwrap();
    assert!(!format!("{shown} {inbox:?}").contains(&token));
}

#[tokio::test]
async fn a_channel_that_cannot_be_reached_now_is_tried_again_and_its_failure_shows_no_link() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let (action, call) = asking(&base, &endpoint, "hook", Some(PUBLIC)).await;
    endpoint.then(503, &[], "TEXT");
    // Cut in the middle of the link.
    endpoint.then(400, &[], format!("{}TEXT", "x".repeat(110)));
    let now = base.store.now().await.unwrap();
    let Ok(Answer::Parked { until, waiting: shown }) = action.execute(call.clone()).await else { panic!("it waits") };
    assert!(until < now + Duration::from_mins(10), "not at its end only, which is in a day");
    let why = shown["not_told"].as_str().unwrap();
    assert!(why.contains("503") && why.contains("[hidden]"), "{why}");
    let refused = failure(&action, &call).await;
    assert_eq!(refused.kind, ErrorKind::ClientError);
    for (n, sent) in endpoint.seen().iter().enumerate() {
        let token = token(&sent.body);
        assert!(![why, &refused.message][n].contains(&token[..8]), "{shown} {refused}");
    }
    assert_eq!(waiting(&action, &call).await.get("not_told"), None);
    assert_eq!(endpoint.seen().len(), 3);
}

#[tokio::test]
async fn me_is_told_by_the_message_that_the_inbox_has_anyway() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let (action, call) = asking(&base, &endpoint, "me", Some(PUBLIC)).await;
    waiting(&action, &call).await;
    let inbox = base.store.check_inbox(&Caller::local("test"), None, 10).await.unwrap();
    assert_eq!(inbox.len(), 1);
    assert!(!inbox[0].body.contains("/approvals/"), "a link is no model's: {}", inbox[0].body);
}

#[tokio::test]
async fn without_a_public_address_the_command_is_told() {
    let (base, endpoint) = (Base::new().await, Endpoint::open().await);
    let (action, call) = asking(&base, &endpoint, "hook", None).await;
    let shown = waiting(&action, &call).await;
    let text = endpoint.last().body["text"].as_str().unwrap().to_owned();
    assert!(text.contains(&format!("ordinaut approve {}", shown["approval"].as_str().unwrap())), "{text}");
}
