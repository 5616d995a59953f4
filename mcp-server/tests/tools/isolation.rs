//! Agents over HTTP: each with its token, none with a view of the other's tasks, none past its scopes.

use std::{sync::Arc, time::Duration};

use ordinaut_mcp::{
    backend::{Backend, Services, Stage, Starter},
    config::{Mcp, ServiceUrl},
    http::{HttpServer, Parts},
    server::OrdinautServer,
    telemetry::Metrics,
};
use ordinaut_schema::{action::Grants, id::AgentId};
use ordinaut_store::testing::{Database, Fixture};
use rmcp::{
    RoleClient, ServiceExt as _,
    service::RunningService,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::{call, chisinau, task};

pub(crate) struct Site {
    pub(crate) store: Fixture,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) drain: CancellationToken,
    _starter: Starter,
    pub(crate) database: Database,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_beside(None).await
    }

    /// With a Redis where events come from.
    pub(crate) async fn start_beside(redis: Option<String>) -> Self {
        let (store, database) = Fixture::fresh().await;
        let (starter, backend) = Backend::starting("the fixture");
        starter.tell(Stage::Ready(Services::new(store.mcp.clone()).with_redis(redis.map(ServiceUrl::new))));
        let metrics = Metrics::new().unwrap();
        let drain = CancellationToken::new();
        let server = OrdinautServer::guarded(backend.clone(), metrics.clone(), chisinau());
        let tokens = Arc::new(backend.clone());
        // A stream that ends does so for a reason of the test's.
        let config = Mcp { initialize_timeout: Duration::from_hours(1), ..Mcp::default() };
        let http = HttpServer::new(&config, Parts { server, backend, tokens, metrics, drain: drain.clone() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        // The first to ask sets it; none speaks TLS, but the client will not be built without.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let serving = tokio::spawn(http.serve(listener));
        Self { store, url, http: client, serving, drain, _starter: starter, database }
    }

    pub(crate) async fn agent(&self, name: &str, scopes: &[&str]) -> RunningService<RoleClient, ()> {
        let (_agent, token) = self.add(name, scopes).await;
        ().serve(self.transport(token)).await.unwrap()
    }

    /// The way in of whoever has a token.
    pub(crate) fn transport(&self, token: String) -> StreamableHttpClientTransport<reqwest::Client> {
        let config = StreamableHttpClientTransportConfig::with_uri(self.url.clone()).auth_header(token);
        StreamableHttpClientTransport::with_client(self.http.clone(), config)
    }

    /// Another agent, and its token.
    pub(crate) async fn add(&self, name: &str, scopes: &[&str]) -> (AgentId, String) {
        let scopes: Vec<_> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let added = self.store.executor.add_agent(name, Some("Asia/Tokyo"), &Grants::default(), &scopes, None).await;
        let (agent, token) = added.unwrap();
        (agent, token.text)
    }

    pub(crate) async fn end(self, clients: impl IntoIterator<Item = RunningService<RoleClient, ()>>) {
        for client in clients {
            client.cancel().await.unwrap();
        }
        self.drain.cancel();
        self.serving.await.unwrap();
    }
}

#[tokio::test]
async fn one_agent_never_sees_anothers_task() {
    let site = Site::start().await;
    let scopes = ["task:read", "task:write", "run:control", "event:publish"];
    let ann = site.agent("ann", &scopes).await;
    let bob = site.agent("bob", &scopes).await;
    let created = call(&ann, "create_task", task("Secret", json!({}))).await;
    assert!(!created.refused, "{}", created.text);
    assert_eq!(created.content["task"]["schedule"]["timezone_source"], "agent");
    assert!(created.content["now"].as_str().unwrap().ends_with("+09:00"));
    let id = &created.content["task"]["id"];
    let run = call(&ann, "run_now", json!({ "task": "secret" })).await.content["run"]["id"].clone();

    for named in [id.clone(), json!("Secret")] {
        for tool in ["get_task", "pause", "resume", "cancel", "run_now"] {
            let refused = call(&bob, tool, json!({ "task": named })).await;
            assert_eq!(refused.code(), "task_not_found", "{tool}: {}", refused.text);
            assert!(refused.content.get("near").is_none());
        }
        let refused = call(&bob, "update_task", json!({ "task": named, "changes": { "priority": 1 } })).await;
        assert_eq!(refused.code(), "task_not_found");
        let refused = call(&bob, "snooze", json!({ "task": named, "skip": 1 })).await;
        assert_eq!(refused.code(), "task_not_found");
    }
    for tool in ["get_run", "cancel_run", "retry_run"] {
        assert_eq!(call(&bob, tool, json!({ "run": run })).await.code(), "run_not_found", "{tool}");
    }
    assert_eq!(call(&bob, "list_tasks", json!({})).await.content["tasks"], json!([]));
    assert_eq!(call(&bob, "list_runs", json!({})).await.content["runs"], json!([]));
    // The title is free for him, and her task is as it was.
    assert_eq!(call(&bob, "create_task", task("Secret", json!({}))).await.content["outcome"], "created");
    assert_eq!(call(&ann, "get_task", json!({ "task": id })).await.content["task"]["state"], "active");
    site.end([ann, bob]).await;
}

#[tokio::test]
async fn a_token_without_the_scope_is_refused_by_the_name_of_the_scope() {
    let site = Site::start().await;
    let reader = site.agent("reader", &["task:read"]).await;
    for (tool, arguments, scope) in [
        ("create_task", task("X", json!({})), "task:write"),
        ("pause", json!({ "task": "x" }), "task:write"),
        ("run_now", json!({ "task": "x" }), "run:control"),
        ("publish_event", json!({ "topic": "a.b" }), "event:publish"),
    ] {
        let refused = call(&reader, tool, arguments).await;
        assert_eq!(refused.code(), "not_permitted", "{tool}");
        assert!(refused.text.contains(scope), "{}", refused.text);
    }
    assert!(!call(&reader, "list_tasks", json!({})).await.refused);
    site.end([reader]).await;
}
