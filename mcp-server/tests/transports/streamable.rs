//! Streamable HTTP with the SDK's client, and its sessions with bare requests.

use reqwest::{RequestBuilder, Response, StatusCode};
use rmcp::{
    ClientHandler, ErrorData, ServiceExt,
    model::{
        CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction,
        ElicitationCapability, Implementation, ProtocolVersion,
    },
    service::{ClientLifecycleMode, RequestContext, RoleClient, RunningService, serve_client_with_lifecycle},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{ANN, BOB, Fixture, PATIENCE, http, text};

fn transport(fixture: &Fixture, token: &str) -> StreamableHttpClientTransport<reqwest::Client> {
    let config = StreamableHttpClientTransportConfig::with_uri(fixture.url("/mcp")).auth_header(token);
    StreamableHttpClientTransport::with_client(http(), config)
}

async fn whoami<S: rmcp::Service<RoleClient>>(client: &RunningService<RoleClient, S>) -> String {
    let result = client.call_tool(CallToolRequestParams::new("whoami")).await.unwrap();
    text(&result).to_owned()
}

#[tokio::test]
async fn a_client_with_a_session_is_known_by_its_token() {
    let fixture = Fixture::start().await;
    let client = ().serve(transport(&fixture, ANN)).await.unwrap();
    let server = client.peer_info().unwrap();
    assert_eq!(server.protocol_version, ProtocolVersion::V_2025_11_25);
    assert!(server.instructions.as_ref().unwrap().contains("untrusted_"));
    assert!(client.list_all_tools().await.unwrap().iter().any(|tool| tool.name == "whoami"));
    assert_eq!(whoami(&client).await, "ann");
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_stateless_client_is_known_by_its_token() {
    let fixture = Fixture::start().await;
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = serve_client_with_lifecycle((), transport(&fixture, BOB), newest).await.unwrap();
    assert!(client.list_all_tools().await.unwrap().iter().any(|tool| tool.name == "whoami"));
    assert_eq!(whoami(&client).await, "bob");
    client.cancel().await.unwrap();
}

/// A client with forms, whose person lives in Chisinau.
struct Person;

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(ElicitationCapability::default());
        ClientConfig::new(capabilities, Implementation::new("person", "1"))
    }

    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let filled = json!({"timezone": "Europe/Chisinau"});
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(filled))
    }
}

#[tokio::test]
async fn a_person_is_asked_in_a_session_and_without_one() {
    let fixture = Fixture::start().await;
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for lifecycle in [ClientLifecycleMode::Initialize, newest] {
        let client = serve_client_with_lifecycle(Person, transport(&fixture, ANN), lifecycle).await.unwrap();
        let arguments = json!({"schedule_kind": "cron", "schedule_expr": "0 9 * * *"});
        let request = CallToolRequestParams::new("preview_schedule");
        let request = request.with_arguments(arguments.as_object().unwrap().clone());
        let answer = timeout(PATIENCE, client.call_tool(request)).await.unwrap().unwrap().structured_content.unwrap();
        assert_eq!(answer["schedule"]["timezone_source"], "person", "{answer}");
        client.cancel().await.unwrap();
    }
}

pub(crate) fn post(fixture: &Fixture, token: &str, body: &serde_json::Value) -> RequestBuilder {
    http()
        .post(fixture.url("/mcp"))
        .bearer_auth(token)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(body.to_string())
}

/// A call without a session, as 2026-07-28 has it: the kind of the answer, and the answer.
async fn call_once(fixture: &Fixture, tool: &str) -> (String, String) {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": "p",
    });
    let params = json!({ "name": tool, "arguments": {}, "_meta": meta });
    let request = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
    let response = post(fixture, ANN, &request)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, response.text().await.unwrap())
}

#[tokio::test]
async fn an_answer_alone_is_json_and_one_that_is_told_of_before_is_a_stream() {
    let fixture = Fixture::start().await;
    let (kind, answer) = call_once(&fixture, "whoami").await;
    assert_eq!(kind, "application/json");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((answer["id"].as_u64(), answer["result"]["content"][0]["text"].as_str()), (Some(7), Some("ann")));

    let (kind, answer) = call_once(&fixture, "tell").await;
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let (progress, result) = (answer.find("notifications/progress").unwrap(), answer.find("told").unwrap());
    assert!(progress < result, "{answer}");
}

pub(crate) async fn initialize(fixture: &Fixture, token: &str) -> Response {
    initialize_as(fixture, token, "2025-06-18").await
}

async fn initialize_as(fixture: &Fixture, token: &str, revision: &str) -> Response {
    let params = json!({"protocolVersion": revision, "capabilities": {},
                        "clientInfo": {"name": "test", "version": "1"}});
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    post(fixture, token, &request).send().await.unwrap()
}

pub(crate) fn session(response: &Response) -> String {
    response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_revision_with_sessions_is_agreed_upon() {
    let fixture = Fixture::start().await;
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let answer = initialize_as(&fixture, ANN, revision).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let answer = answer.text().await.unwrap();
        assert!(answer.contains(&format!("\"protocolVersion\":\"{revision}\"")), "{answer}");
    }
}

#[tokio::test]
async fn another_agents_session_does_not_exist() {
    let fixture = Fixture::start().await;
    let anns = session(&initialize(&fixture, ANN).await);
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});

    let bobs_post = post(&fixture, BOB, &ping).header("mcp-session-id", &anns).send().await.unwrap();
    assert_eq!(bobs_post.status(), StatusCode::NOT_FOUND);
    let bobs_stream = http()
        .get(fixture.url("/mcp"))
        .bearer_auth(BOB)
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &anns);
    assert_eq!(bobs_stream.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let bobs_delete = http().delete(fixture.url("/mcp")).bearer_auth(BOB).header("mcp-session-id", &anns);
    assert_eq!(bobs_delete.send().await.unwrap().status(), StatusCode::NOT_FOUND);

    let anns_post = post(&fixture, ANN, &ping).header("mcp-session-id", &anns).send().await.unwrap();
    assert_eq!(anns_post.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_deleted_session_makes_room_for_another() {
    let fixture = Fixture::start_with(|config| config.sessions_per_agent = 1).await;
    let first = initialize(&fixture, ANN).await;
    assert_eq!(first.status(), StatusCode::OK);

    let second = initialize(&fixture, ANN).await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(second.headers().contains_key("retry-after"));
    assert_eq!(initialize(&fixture, BOB).await.status(), StatusCode::OK);

    let delete = http().delete(fixture.url("/mcp")).bearer_auth(ANN).header("mcp-session-id", session(&first));
    assert_eq!(delete.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(initialize(&fixture, ANN).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn sessions_opened_too_fast_are_refused() {
    let fixture = Fixture::start_with(|config| config.sessions_opened_per_minute = 2).await;
    for _ in 0..2 {
        assert_eq!(initialize(&fixture, ANN).await.status(), StatusCode::OK);
    }
    assert_eq!(initialize(&fixture, ANN).await.status(), StatusCode::TOO_MANY_REQUESTS);
}
