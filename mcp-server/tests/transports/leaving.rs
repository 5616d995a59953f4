//! Clients of the program itself that leave in the middle: what they asked for happened whole or not at all, and
//! nothing is kept for them.

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{served::Served, wire::Client};

fn task(number: usize) -> Value {
    json!({
        "title": format!("Task {number}"),
        "schedule_kind": "manual",
        "pipeline": [{ "id": "tell", "uses": "inbox.post", "with": { "text": "Good morning" } }],
        "request_id": format!("request {number}"),
    })
}

/// A whole request for it, as a stateless client sends it.
fn request(token: &str, tool: &str, arguments: &Value) -> Vec<u8> {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "leaver", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string();
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n\
         mcp-name: {tool}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn a_call_that_is_cut_happened_or_did_not_and_the_same_request_id_finds_out() {
    let served = Served::start("calls_burst = 10000").await;
    let (_, token) = served.agent("ann").await;
    let mut ann = Client::stateless(served.address, &token).await;
    let mut cuts = Vec::new();
    for number in 0..24 {
        let whole = request(&token, "create_task", &task(number));
        // In the middle of the headers, of the body, before the last byte, and with all of it sent.
        let head = whole.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let cut = [head / 2, head + 40, whole.len() - 1, whole.len()][number % 4];
        let mut leaver = TcpStream::connect(served.address).await.unwrap();
        leaver.write_all(&whole[..cut]).await.unwrap();
        // Gone at once, or in the course of the call: the reset comes before the answer, or the answer before it.
        if number % 8 == 3 {
            leaver.set_zero_linger().unwrap();
        }
        drop(leaver);
        cuts.push(cut == whole.len());
    }
    for (number, was_whole) in cuts.into_iter().enumerate() {
        let outcome = ann.call("create_task", task(number)).await["outcome"].take();
        assert!(outcome == "created" || was_whole && outcome == "existed", "{number}: {outcome}");
        assert_eq!(ann.call("create_task", task(number)).await["outcome"], "existed");
        let listed = ann.call("list_tasks", json!({ "text": format!("Task {number}") })).await;
        let titled = |it: &&Value| it["title"] == format!("Task {number}");
        assert_eq!(listed["tasks"].as_array().unwrap().iter().filter(titled).count(), 1);
    }
}

#[tokio::test]
async fn who_leaves_while_it_waits_for_a_run_leaves_nothing_behind() {
    let served = Served::start("sessions_per_agent = 1").await;
    let (_, token) = served.agent("ann").await;
    let mut ann = Client::stateless(served.address, &token).await;
    ann.call("create_task", task(0)).await;
    let wait = json!({ "task": "Task 0", "wait": 60 });

    // Without a session: the connection is all there is.
    let mut leaver = TcpStream::connect(served.address).await.unwrap();
    leaver.write_all(&request(&token, "run_now", &wait)).await.unwrap();
    served.until_metric("ordinaut_mcp_subscribers", 1).await;
    drop(leaver);
    served.until_metric("ordinaut_mcp_subscribers", 0).await;

    // With a session, of either kind. An agent may have one: another finds a seat only where it was given back.
    for _ in 0..2 {
        let mut pair = Client::pair(served.address, &token).await;
        tokio::select! {
            ended = pair.call("run_now", wait.clone()) => panic!("it ended: {ended}"),
            () = served.until_metric("ordinaut_mcp_subscribers", 1) => {}
        }
        drop(pair);
        served.until_metric("ordinaut_mcp_subscribers", 0).await;
        served.until_metric("ordinaut_mcp_sessions", 0).await;
    }
    let mut session = Client::session(served.address, &token).await;
    let Client::Session { id, .. } = &session else { unreachable!("it has one") };
    let id = id.clone();
    tokio::select! {
        ended = session.call("run_now", wait.clone()) => panic!("it ended: {ended}"),
        () = served.until_metric("ordinaut_mcp_subscribers", 1) => {}
    }
    drop(session);
    // It outlives its connections, for a client that comes back; here another connection ends it.
    assert_eq!(served.metric("ordinaut_mcp_sessions").await, 1);
    let ended = crate::support::http().delete(served.url("/mcp")).bearer_auth(&token).header("mcp-session-id", id);
    assert!(ended.send().await.unwrap().status().is_success());
    served.until_metric("ordinaut_mcp_sessions", 0).await;
    served.until_metric("ordinaut_mcp_subscribers", 0).await;

    // The runs go on: leaving ends the wait only.
    let runs = ann.call("list_runs", json!({ "task": "Task 0" })).await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 4, "{runs}");
}
