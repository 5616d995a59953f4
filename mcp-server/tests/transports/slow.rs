//! Clients that connect and take their time: each is let go after a bound.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{interval, timeout},
};

use crate::support::{ANN, BOB, Fixture, LONG, PATIENCE, http};

const SHORT: Duration = Duration::from_millis(100);

/// Sends `text` byte by byte, again and again, and ends when the server has let go.
async fn trickle(fixture: &Fixture, text: &'static [u8]) {
    let (mut from, mut to) = TcpStream::connect(fixture.address).await.unwrap().into_split();
    let sending = async {
        let mut beat = interval(Duration::from_millis(5));
        for byte in text.iter().cycle() {
            beat.tick().await;
            if to.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let reading = async {
        let mut answer = Vec::new();
        // Cut by either means: what matters is that it ends.
        let _ = from.read_to_end(&mut answer).await;
    };
    let ended = timeout(PATIENCE, async {
        tokio::select! {
            () = sending => {}
            () = reading => {}
        }
    });
    ended.await.expect("the server lets go");
}

#[tokio::test]
async fn a_client_that_never_ends_its_headers_is_let_go() {
    let fixture = Fixture::start_with(|config| config.header_timeout = SHORT).await;
    trickle(&fixture, b"GET /healthz HTTP/1.1\r\nx-slow: ").await;
}

#[tokio::test]
async fn a_client_that_does_not_even_say_which_http_it_speaks_is_let_go() {
    let fixture = Fixture::start_with(|config| config.header_timeout = SHORT).await;
    let mut silent = TcpStream::connect(fixture.address).await.unwrap();
    silent.write_all(b"PRI * HT").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, silent.read_to_end(&mut answer)).await.expect("the server lets go");
}

#[tokio::test]
async fn a_connection_that_is_kept_and_not_used_is_let_go() {
    let fixture = Fixture::start_with(|config| config.header_timeout = SHORT).await;
    let mut client = TcpStream::connect(fixture.address).await.unwrap();
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("the server lets go");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_request_in_hand_may_take_as_long_as_it_takes() {
    let fixture = Fixture::start_with(|config| config.header_timeout = SHORT).await;
    let mut client = crate::sse::SseClient::connect(&fixture, crate::support::ANN).await;
    client.initialize("2025-06-18").await;
    let call = serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "hold"}});
    client.post(&call).await;
    fixture.held.acquire().await.unwrap().forget();
    // Another connection outlives its bound first: the stream, opened before it, is past its own.
    let mut silent = TcpStream::connect(fixture.address).await.unwrap();
    let _ = timeout(PATIENCE, silent.read_to_end(&mut Vec::new())).await.expect("the server lets go");
    fixture.release.add_permits(1);
    assert_eq!(client.message().await.unwrap()["result"]["content"][0]["text"], "released");
}

/// A connection whose client has room for little.
async fn narrow(fixture: &Fixture) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(fixture.address).await.unwrap()
}

#[tokio::test]
async fn who_asks_for_much_and_reads_nothing_is_let_go() {
    let fixture = Fixture::start_with(|config| config.write_timeout = SHORT).await;
    let mut client = narrow(&fixture).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{
        "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},
        "io.modelcontextprotocol/clientInfo":{"name":"deaf","version":"1"}}}}"#;
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ANN}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/list\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let asking = async { while client.write_all(request.as_bytes()).await.is_ok() {} };
    timeout(LONG, asking).await.expect("the server lets go");
    // What was answered was a list of tools, and not a refusal: it is in the socket still.
    let mut answer = vec![0; 12];
    if client.read_exact(&mut answer).await.is_ok() {
        assert_eq!(answer, b"HTTP/1.1 200");
    }
    let other = http().get(fixture.url("/sse")).bearer_auth(BOB).send().await.unwrap();
    assert!(other.status().is_success());
}

#[tokio::test]
async fn a_stream_that_nobody_reads_gives_back_its_connection_and_its_seat() {
    let fixture = Fixture::start_with(|config| {
        config.write_timeout = SHORT;
        config.sessions_per_agent = 1;
        // It is not the pace that ends her calls.
        config.calls_burst = 1_000_000;
    })
    .await;
    let mut stream = narrow(&fixture).await;
    let open = format!("GET /sse HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ANN}\r\n\r\n");
    stream.write_all(open.as_bytes()).await.unwrap();
    let mut head = String::new();
    let path = loop {
        let mut byte = [0; 1];
        timeout(PATIENCE, stream.read_exact(&mut byte)).await.unwrap().unwrap();
        head.push(byte[0].into());
        if let Some((_, path)) = head.split_once("data: ")
            && let Some(path) = path.strip_suffix('\n')
        {
            break path.to_owned();
        }
    };
    let post = async |message: String| {
        http().post(fixture.url(&path)).bearer_auth(ANN).body(message).send().await.unwrap().status()
    };
    let about = r#"{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"deaf","version":"1"}}"#;
    post(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{about}}}"#)).await;
    post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned()).await;
    let closed = async {
        while post(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#.to_owned()).await.is_success() {}
        // The connection goes too, though its client never says a word.
        while stream.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, closed).await.expect("the server lets go");
    // And with it the one seat that she has.
    let reopened = async {
        while !crate::sse::open(&fixture, ANN).await.status().is_success() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, reopened).await.expect("the seat is free again");
}

/// HTTP/2: the connection is read, its answers are not.
#[tokio::test]
async fn who_takes_everything_but_the_answer_is_let_go() {
    let fixture = Fixture::start_with(|config| {
        config.write_timeout = SHORT;
        config.keep_alive = SHORT;
    })
    .await;
    let stream = TcpStream::connect(fixture.address).await.unwrap();
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(100);
    let (mut sender, connection) = client.handshake::<_, Body>(TokioIo::new(stream)).await.unwrap();
    let ended = tokio::spawn(connection);
    let open = Request::get(fixture.url("/sse")).header("authorization", format!("Bearer {ANN}"));
    let answer = sender.send_request(open.body(Body::empty()).unwrap()).await.unwrap();
    assert!(answer.status().is_success());
    let mut first = Body::new(answer.into_body()).into_data_stream();
    // The address to post to takes what little there is room for; the first answer finds none, and what comes after
    // it is not even asked for.
    let opened = String::from_utf8(timeout(PATIENCE, first.next()).await.unwrap().unwrap().unwrap().to_vec()).unwrap();
    let path = opened.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let about = r#"{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"deaf","version":"1"}}"#;
    let hello = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{about}}}"#);
    let post = http().post(fixture.url(path)).bearer_auth(ANN).body(hello).send().await.unwrap();
    assert!(post.status().is_success());
    // The connection may end as it likes.
    let _ = timeout(LONG, ended).await.expect("the server lets go").unwrap();
    drop(first);
}
