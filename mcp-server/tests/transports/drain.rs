//! How the server ends: calls in hand are answered, streams end, the process goes.

use std::time::Duration;

use reqwest::StatusCode;
use rmcp::{
    ServiceExt,
    model::CallToolRequestParams,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    sse::SseClient,
    support::{ANN, Fixture, PATIENCE, http, text},
};

#[tokio::test]
async fn a_drain_answers_the_call_in_hand_and_ends_the_stream() {
    let fixture = Fixture::start().await;
    let mut client = SseClient::connect(&fixture, ANN).await;
    client.initialize("2025-06-18").await;
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "hold"}});
    assert_eq!(client.post(&call).await.status(), StatusCode::ACCEPTED);
    fixture.held.acquire().await.unwrap().forget();

    fixture.drain.cancel();
    fixture.release.add_permits(1);
    assert_eq!(client.message().await.unwrap()["result"]["content"][0]["text"], "released");
    assert_eq!(client.event().await, None);
    timeout(PATIENCE, fixture.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_answers_the_call_in_hand_over_streamable_http() {
    let fixture = Fixture::start().await;
    let config = StreamableHttpClientTransportConfig::with_uri(fixture.url("/mcp")).auth_header(ANN);
    let client = ().serve(StreamableHttpClientTransport::with_client(http(), config)).await.unwrap();
    let peer = client.peer().clone();
    let call = tokio::spawn(async move { peer.call_tool(CallToolRequestParams::new("hold")).await });
    fixture.held.acquire().await.unwrap().forget();

    fixture.drain.cancel();
    fixture.release.add_permits(1);
    assert_eq!(text(&timeout(PATIENCE, call).await.unwrap().unwrap().unwrap()), "released");
    timeout(PATIENCE, fixture.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_at_the_limit() {
    let fixture = Fixture::start_with(|config| {
        config.drain_timeout = Duration::from_millis(50);
        config.abort_timeout = Duration::from_millis(50);
    })
    .await;
    let mut client = SseClient::connect(&fixture, ANN).await;
    client.initialize("2025-06-18").await;
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "hold"}});
    client.post(&call).await;
    fixture.held.acquire().await.unwrap().forget();
    fixture.drain.cancel();
    timeout(PATIENCE, fixture.serving).await.unwrap().unwrap();
}
