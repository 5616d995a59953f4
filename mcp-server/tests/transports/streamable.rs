//! Streamable HTTP with the SDK's client, and its sessions with bare requests.

use reqwest::{RequestBuilder, Response, StatusCode};
use rmcp::{
    ServiceExt,
    model::{CallToolRequestParams, ProtocolVersion},
    service::{ClientLifecycleMode, RoleClient, RunningService, serve_client_with_lifecycle},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::json;

use crate::support::{ANN, BOB, Fixture, http, text};

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

fn post(fixture: &Fixture, token: &str, body: &serde_json::Value) -> RequestBuilder {
    http()
        .post(fixture.url("/mcp"))
        .bearer_auth(token)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(body.to_string())
}

async fn initialize(fixture: &Fixture, token: &str) -> Response {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {},
                        "clientInfo": {"name": "test", "version": "1"}});
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    post(fixture, token, &request).send().await.unwrap()
}

fn session(response: &Response) -> String {
    response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
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
