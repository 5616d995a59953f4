//! Clients that send nonsense or leave in the middle: answered or dropped, and nobody else is the worse for it.

use reqwest::StatusCode;
use rmcp::{
    ServiceExt as _,
    model::CallToolRequestParams,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use crate::{
    sse::SseClient,
    support::{ANN, BOB, Fixture, PATIENCE, http, text},
};

/// Frames that are no message of the protocol's.
fn malformed() -> Vec<Vec<u8>> {
    let nested = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let batch = br#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]"#;
    let long_id = format!(r#"{{"jsonrpc":"1.0","id":"{}","method":"ping"}}"#, "9".repeat(500_000));
    let mut frames: Vec<Vec<u8>> = vec![nested, batch.to_vec(), long_id.into_bytes(), b"\xff\xfe{\x80}".to_vec()];
    frames.extend(
        [
            "",
            "{",
            "null",
            "[]",
            "42",
            "\"ping\"",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"\0}",
        ]
        .map(|frame| frame.as_bytes().to_vec()),
    );
    frames
}

#[tokio::test]
async fn a_malformed_frame_is_the_senders_fault_and_nobody_elses() {
    let fixture = Fixture::start().await;
    let config = StreamableHttpClientTransportConfig::with_uri(fixture.url("/mcp")).auth_header(BOB);
    let bob = ().serve(StreamableHttpClientTransport::with_client(http(), config)).await.unwrap();
    let anns = SseClient::connect(&fixture, ANN).await;
    for frame in malformed() {
        for url in [fixture.url("/mcp"), anns.endpoint.clone()] {
            let request = http()
                .post(&url)
                .bearer_auth(ANN)
                .header("accept", "application/json, text/event-stream")
                .header("content-type", "application/json");
            let status = request.body(frame.clone()).send().await.unwrap().status();
            let shown = String::from_utf8_lossy(&frame[..frame.len().min(60)]).into_owned();
            assert!(status.is_client_error(), "{url}: {shown}: {status}");
            assert_ne!(status, StatusCode::REQUEST_TIMEOUT, "{url}: {shown}");
        }
        let answer = timeout(PATIENCE, bob.call_tool(CallToolRequestParams::new("whoami"))).await.unwrap().unwrap();
        assert_eq!(text(&answer), "bob");
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_call_takes_nobody_along() {
    let fixture = Fixture::start().await;
    let config = StreamableHttpClientTransportConfig::with_uri(fixture.url("/mcp")).auth_header(BOB);
    let bob = ().serve(StreamableHttpClientTransport::with_client(http(), config)).await.unwrap();
    let mut anns = SseClient::connect(&fixture, ANN).await;
    anns.initialize("2025-06-18").await;
    let call = serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "hold"}});
    anns.post(&call).await;
    fixture.held.acquire().await.unwrap().forget();
    let endpoint = anns.endpoint.clone();
    // The stream goes while the call is in hand, and another request is cut in its body.
    drop(anns);
    let mut cut = TcpStream::connect(fixture.address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ANN}\r\ncontent-length: 500\r\n\r\n{{"
    );
    cut.write_all(head.as_bytes()).await.unwrap();
    drop(cut);

    let answer = timeout(PATIENCE, bob.call_tool(CallToolRequestParams::new("whoami"))).await.unwrap().unwrap();
    assert_eq!(text(&answer), "bob");
    // Her session ends with her stream, whatever was in hand.
    let gone = async {
        loop {
            let sent = http().post(&endpoint).bearer_auth(ANN).body(call.to_string()).send().await.unwrap();
            if sent.status() == StatusCode::NOT_FOUND {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the session ends");
    fixture.release.add_permits(1);
}
