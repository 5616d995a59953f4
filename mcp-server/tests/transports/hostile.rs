//! Clients that send nonsense or leave in the middle: answered or dropped, and nobody else is the worse for it.

use reqwest::StatusCode;
use rmcp::{
    ServiceExt as _,
    model::CallToolRequestParams,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

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

/// What is no HTTP/1.1 request, or none that can be answered.
fn broken_requests() -> Vec<Vec<u8>> {
    let to = |path: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ANN}\r\naccept: application/json, \
             text/event-stream\r\n{more}"
        )
    };
    let mut broken =
        vec![b"\x00\xff\xfe\x80".repeat(64), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()];
    let mut more = vec!["GET / HTTP/9.9\r\n\r\n".to_owned(), "{\"jsonrpc\":\"2.0\"}\r\n\r\n".to_owned()];
    for path in ["/mcp", "/messages?session_id=none"] {
        for rest in [
            "content-type: application/json\r\ncontent-length: many\r\n\r\n{}",
            "content-type: application/json\r\ncontent-length: -1\r\n\r\n{}",
            "content-type: application/json\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
            "content-type: application/json\r\ncontent-length: 99999999999999999999999\r\n\r\n{}",
            "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
            "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n",
            "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}and more",
            "content-type: application/json\r\nbad header\r\n\r\n",
            "content-type: application/json\r\nmcp-session-id: none\r\ncontent-length: 40\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
            "content-type: application/json\r\nmcp-protocol-version: 1999-01-01\r\ncontent-length: 40\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        ] {
            more.push(to(path, rest));
        }
        more.push(to(path, &format!("x-long: {}\r\n\r\n", "x".repeat(1 << 20))));
        more.push(to(path, &format!("{}\r\n", "x-many: 1\r\n".repeat(10_000))));
    }
    more.push(to("/mcp", "content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}"));
    more.push(to("/mcp", "content-length: 2\r\n\r\n{}").replace("accept:", "x-accept:"));
    more.push(to("/mcp", "content-length: 2\r\n\r\n{}").replacen("POST", "PUT", 1));
    more.push(to("/sse", "content-length: 2\r\n\r\n{}"));
    broken.extend(more.into_iter().map(String::into_bytes));
    broken
}

#[tokio::test]
async fn a_broken_request_is_answered_with_what_is_wrong_or_ends_its_connection_and_harms_nobody() {
    let fixture = Fixture::start_with(|config| config.body_timeout = std::time::Duration::from_millis(200)).await;
    let config = StreamableHttpClientTransportConfig::with_uri(fixture.url("/mcp")).auth_header(BOB);
    let bob = ().serve(StreamableHttpClientTransport::with_client(http(), config)).await.unwrap();
    for request in broken_requests() {
        let shown = String::from_utf8_lossy(&request[..request.len().min(300)]).into_owned();
        let mut client = TcpStream::connect(fixture.address).await.unwrap();
        // A server that has seen enough may close before all of it is sent.
        let _ = client.write_all(&request).await;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        // A reset after the answer, for what was not read of the request, is an end too.
        let _ = timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("the server lets go");
        let status = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        assert!(status.is_empty() || status.starts_with("HTTP/1.1 4"), "{shown}: {status}");
        let answer = timeout(PATIENCE, bob.call_tool(CallToolRequestParams::new("whoami"))).await.unwrap().unwrap();
        assert_eq!(text(&answer), "bob");
    }
}

#[tokio::test]
async fn requests_that_come_in_one_piece_are_answered_one_after_the_other() {
    let fixture = Fixture::start().await;
    let mut client = TcpStream::connect(fixture.address).await.unwrap();
    let missing = "GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let refused = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";
    let healthy = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n";
    let all = format!("{healthy}\r\n{refused}{missing}{healthy}connection: close\r\n\r\n");
    client.write_all(all.as_bytes()).await.unwrap();
    let mut answers = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answers)).await.unwrap().unwrap();
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "401", "404", "200"], "{answers}");
}
