//! HTTP+SSE with bare requests: the old transport as its clients use it.

use futures_util::{Stream, StreamExt};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{ANN, BOB, Fixture, PATIENCE, http};

/// A client of the old transport.
pub(crate) struct SseClient {
    pub(crate) endpoint: String,
    token: &'static str,
    stream: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    unread: String,
    /// Comments seen so far.
    pub(crate) comments: Vec<String>,
}

pub(crate) async fn open(fixture: &Fixture, token: &str) -> Response {
    http().get(fixture.url("/sse")).bearer_auth(token).send().await.unwrap()
}

impl SseClient {
    pub(crate) async fn connect(fixture: &Fixture, token: &'static str) -> Self {
        let response = open(fixture, token).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let stream = response.bytes_stream().boxed();
        let mut client = Self { endpoint: String::new(), token, stream, unread: String::new(), comments: Vec::new() };
        let (name, path) = client.event().await.unwrap();
        assert_eq!(name, "endpoint");
        client.endpoint = fixture.url(&path);
        client
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn event(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.unread = rest;
                if let Some(comment) = block.strip_prefix(':') {
                    self.comments.push(comment.trim().to_owned());
                    continue;
                }
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap().to_owned()
                };
                return Some((field("event"), field("data")));
            }
            let chunk = timeout(PATIENCE, self.stream.next()).await.expect("the stream is silent")?;
            self.unread.push_str(std::str::from_utf8(&chunk.ok()?).unwrap());
        }
    }

    pub(crate) async fn message(&mut self) -> Option<Value> {
        self.event().await.map(|(_, text)| serde_json::from_str(&text).unwrap())
    }

    pub(crate) async fn post(&self, message: &Value) -> Response {
        self.post_as(self.token, message).await
    }

    pub(crate) async fn post_as(&self, token: &str, message: &Value) -> Response {
        let request = http().post(&self.endpoint).bearer_auth(token).header("content-type", "application/json");
        request.body(message.to_string()).send().await.unwrap()
    }

    /// Asks, and takes the next message as the answer.
    pub(crate) async fn ask(&mut self, id: u32, method: &str, params: Value) -> Value {
        let response = self.post(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.text().await.unwrap(), "");
        let answer = self.message().await.unwrap();
        assert_eq!(answer["id"], id);
        answer
    }

    pub(crate) async fn initialize(&mut self, revision: &str) -> Value {
        self.initialize_with(revision, json!({})).await
    }

    async fn initialize_with(&mut self, revision: &str, capabilities: Value) -> Value {
        let client = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": client});
        let answer = self.ask(1, "initialize", params).await;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(self.post(&initialized).await.status(), StatusCode::ACCEPTED);
        answer
    }
}

#[tokio::test]
async fn a_conversation_goes_over_the_pair_of_endpoints() {
    let fixture = Fixture::start().await;
    let mut client = SseClient::connect(&fixture, ANN).await;
    let answer = client.initialize("2024-11-05").await;
    assert_eq!(answer["result"]["protocolVersion"], "2024-11-05");
    let answer = client.ask(2, "tools/list", json!({})).await;
    assert!(answer["result"]["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "whoami"));
    let answer = client.ask(3, "tools/call", json!({"name": "whoami"})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "ann");
}

/// What the server asks while a call waits goes the way of its answers, and comes back as any message does.
#[tokio::test]
async fn a_person_is_asked_over_the_pair_of_endpoints() {
    let fixture = Fixture::start().await;
    for revision in ["2025-06-18", "2025-11-25"] {
        let mut client = SseClient::connect(&fixture, ANN).await;
        client.initialize_with(revision, json!({"elicitation": {}})).await;
        let arguments = json!({"schedule_kind": "cron", "schedule_expr": "0 9 * * *"});
        let params = json!({"name": "preview_schedule", "arguments": arguments});
        let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params});
        assert_eq!(client.post(&call).await.status(), StatusCode::ACCEPTED);
        let asked = client.message().await.unwrap();
        assert_eq!(asked["method"], "elicitation/create", "{asked}");
        assert_eq!(asked["params"]["requestedSchema"]["required"], json!(["timezone"]));
        let filled = json!({"action": "accept", "content": {"timezone": "Europe/Chisinau"}});
        let reply = json!({"jsonrpc": "2.0", "id": asked["id"], "result": filled});
        assert_eq!(client.post(&reply).await.status(), StatusCode::ACCEPTED);
        let answer = client.message().await.unwrap();
        assert_eq!(answer["id"], 2);
        let schedule = &answer["result"]["structuredContent"]["schedule"];
        assert_eq!(
            (&schedule["timezone"], &schedule["timezone_source"]),
            (&json!("Europe/Chisinau"), &json!("person"))
        );
    }
}

#[tokio::test]
async fn the_newest_revision_of_this_transport_is_2025_11_25() {
    let fixture = Fixture::start().await;
    for (offered, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let mut client = SseClient::connect(&fixture, ANN).await;
        assert_eq!(client.initialize(offered).await["result"]["protocolVersion"], agreed, "{offered}");
    }
}

#[tokio::test]
async fn a_session_is_its_agents_alone() {
    let fixture = Fixture::start().await;
    let mut client = SseClient::connect(&fixture, ANN).await;
    let ping = json!({"jsonrpc": "2.0", "id": 9, "method": "ping"});
    assert_eq!(client.post_as(BOB, &ping).await.status(), StatusCode::NOT_FOUND);
    client.initialize("2025-06-18").await;

    let id = client.endpoint.split_once("session_id=").unwrap().1;
    assert_eq!(id.len(), 32);
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()));
    client.endpoint = client.endpoint.replace(id, &"0".repeat(32));
    assert_eq!(client.post(&ping).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_message_that_is_no_json_rpc_is_refused() {
    let fixture = Fixture::start().await;
    let client = SseClient::connect(&fixture, ANN).await;
    let response = client.post(&json!({"hello": "there"})).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_session_ends_with_its_stream() {
    let fixture = Fixture::start_with(|config| config.sessions_per_agent = 1).await;
    let client = SseClient::connect(&fixture, ANN).await;
    assert_eq!(open(&fixture, ANN).await.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(client);
    // The server notices when it next writes or the connection's end is read.
    let reopened = async {
        while open(&fixture, ANN).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, reopened).await.expect("the seat of a gone client is free again");
}

#[tokio::test]
async fn a_client_that_does_not_initialize_is_dropped() {
    let fixture = Fixture::start_with(|config| config.initialize_timeout = std::time::Duration::from_millis(50)).await;
    let mut client = SseClient::connect(&fixture, ANN).await;
    assert_eq!(client.event().await, None);
    let ping = json!({"jsonrpc": "2.0", "id": 9, "method": "ping"});
    assert_eq!(client.post(&ping).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive_by_comments() {
    let fixture = Fixture::start_with(|config| config.keep_alive = std::time::Duration::from_millis(20)).await;
    let mut client = SseClient::connect(&fixture, ANN).await;
    client.initialize("2025-06-18").await;
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "hold"}});
    client.post(&call).await;
    let waited = timeout(PATIENCE, async {
        let chunk = client.stream.next().await.unwrap().unwrap();
        String::from_utf8_lossy(&chunk).into_owned()
    });
    assert!(waited.await.unwrap().starts_with(": keep-alive"));
}

#[tokio::test]
async fn the_endpoint_carries_the_base_path() {
    let fixture = Fixture::start_with(|config| config.base_path = "/ordinaut".to_owned()).await;
    let response = http().get(fixture.url("/ordinaut/sse")).bearer_auth(ANN).send().await.unwrap();
    let first = response.bytes_stream().next().await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&first).into_owned();
    assert!(text.starts_with("event: endpoint\ndata: /ordinaut/messages?session_id="), "{text}");
    let mut client = SseClient::connect(&fixture, ANN).await;
    assert_eq!(client.initialize("2025-06-18").await["result"]["protocolVersion"], "2025-06-18");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_session() {
    let fixture = Fixture::start().await;
    let mut client = SseClient::connect(&fixture, ANN).await;
    client.initialize("2025-06-18").await;
    // Answers of some size, never read: the socket fills, then the queue, then the session is closed.
    let name = "x".repeat(200_000);
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": name, "params": {}});
    let closed = async {
        loop {
            if client.post(&call).await.status() == StatusCode::NOT_FOUND {
                break;
            }
        }
    };
    timeout(PATIENCE, closed).await.expect("the queue never filled");
}
