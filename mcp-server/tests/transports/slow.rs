//! Clients that connect and take their time: each is let go after a bound.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{interval, timeout},
};

use crate::support::{Fixture, PATIENCE};

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
