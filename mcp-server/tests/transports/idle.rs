//! Sessions that nobody uses end; whoever listens uses theirs.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Response, StatusCode};
use serde_json::json;

use crate::{
    streamable::{initialize, post, session},
    support::{ANN, BOB, Fixture, http, until},
};

async fn listen(fixture: &Fixture, token: &str, session: &str) -> Response {
    let request = http().get(fixture.url("/mcp")).bearer_auth(token).header("mcp-session-id", session);
    let response = request.header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response
}

async fn ping(fixture: &Fixture, token: &str, session: &str) -> StatusCode {
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    post(fixture, token, &ping).header("mcp-session-id", session).send().await.unwrap().status()
}

async fn open_sessions(fixture: &Fixture) -> String {
    let metrics = http().get(fixture.url("/metrics")).send().await.unwrap().text().await.unwrap();
    metrics.lines().find_map(|line| line.strip_prefix("ordinaut_mcp_sessions ")).unwrap().to_owned()
}

#[tokio::test]
async fn a_session_on_which_somebody_listens_outlives_one_that_nobody_uses() {
    let fixture = Fixture::start_with(|config| {
        config.session_idle_timeout = Duration::from_millis(100);
        config.keep_alive = Duration::from_millis(20);
    })
    .await;
    let anns = initialize(&fixture, ANN).await;
    let bobs = initialize(&fixture, BOB).await;
    let (anns, bobs) = (session(&anns), session(&bobs));
    let mut heard = listen(&fixture, ANN, &anns).await.bytes_stream();
    until("what nobody uses ends", async || open_sessions(&fixture).await == "1").await;
    assert_eq!(ping(&fixture, BOB, &bobs).await, StatusCode::NOT_FOUND);
    assert_eq!(ping(&fixture, ANN, &anns).await, StatusCode::OK);
    assert!(heard.next().await.unwrap().is_ok(), "the stream goes on");

    drop(heard);
    until("who listens no more leaves", async || open_sessions(&fixture).await == "0").await;
    assert_eq!(ping(&fixture, ANN, &anns).await, StatusCode::NOT_FOUND);
}
