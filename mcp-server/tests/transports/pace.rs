//! How fast one agent may call, and one place may try tokens: the rest is told when to return, and nobody else is.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{ANN, BOB, Fixture, Log, http};

async fn post(fixture: &Fixture, path: &str, token: &str) -> Response {
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let request = http()
        .post(fixture.url(path))
        .bearer_auth(token)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    request.body(ping.to_string()).send().await.unwrap()
}

async fn metrics(fixture: &Fixture) -> String {
    http().get(fixture.url("/metrics")).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn an_agent_that_calls_too_fast_is_told_the_limit_and_when_to_return() {
    let fixture = Fixture::start_with(|config| {
        config.calls_per_minute = 2;
        config.calls_burst = 4;
    })
    .await;
    // Both transports draw on one pace.
    for path in ["/mcp", "/messages?session_id=none", "/mcp", "/messages?session_id=none"] {
        assert_ne!(post(&fixture, path, ANN).await.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    for path in ["/mcp", "/messages?session_id=none"] {
        let refused = post(&fixture, path, ANN).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
        assert_eq!(refused.headers()["content-type"], "application/json");
        // What a JSON-RPC client can show to whoever called.
        let body: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
        assert_eq!(body["jsonrpc"], "2.0");
        assert_eq!(body["id"], Value::Null);
        let said = body["error"]["message"].as_str().unwrap();
        for part in ["2 times a minute", "4 of them at once", "mcp.calls_per_minute", "mcp.calls_burst"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    assert_ne!(post(&fixture, "/mcp", BOB).await.status(), StatusCode::TOO_MANY_REQUESTS, "each has a pace");
    assert!(metrics(&fixture).await.contains("ordinaut_mcp_refused_total{reason=\"too_many_calls\"} 2"));
}

#[tokio::test]
async fn initialize_is_counted_like_any_call() {
    let fixture = Fixture::start_with(|config| {
        config.calls_per_minute = 1;
        config.calls_burst = 1;
    })
    .await;
    let opened = crate::streamable::initialize(&fixture, ANN).await;
    assert_eq!(opened.status(), StatusCode::OK);
    assert_eq!(crate::streamable::initialize(&fixture, ANN).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn guessing_tokens_is_slow_counted_and_hardly_logged_and_harms_nobody_who_is_known() {
    let (log, _keeping) = Log::keep();
    let fixture = Fixture::start().await;
    assert_ne!(post(&fixture, "/mcp", ANN).await.status(), StatusCode::UNAUTHORIZED);
    let mut answers = Vec::new();
    for n in 0..80 {
        answers.push(post(&fixture, "/mcp", &format!("ordinaut_guess_{n}")).await.status());
    }
    assert!(answers[..60].iter().all(|status| *status == StatusCode::UNAUTHORIZED), "{answers:?}");
    assert!(answers[60..].contains(&StatusCode::TOO_MANY_REQUESTS), "{answers:?}");
    // From the same place: she was let in before; a stranger, even with a good token, has to wait for a moment.
    let anns = post(&fixture, "/mcp", ANN).await.status();
    assert!(![StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].contains(&anns), "{anns}");
    let bobs = post(&fixture, "/mcp", BOB).await;
    assert_eq!(bobs.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(bobs.headers().contains_key("retry-after"));

    let counted = metrics(&fixture).await;
    assert!(counted.contains("ordinaut_mcp_refused_total{reason=\"token_invalid\"} 6"), "{counted}");
    let lines = log.lines_with("reason=\"token_invalid\"");
    assert!((1..=25).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines.iter().all(|line| line.contains("WARN") && line.contains("peer=127.0.0.1")), "{}", lines[0]);
    // The beginning of its SHA-256, by which an operator finds a token of theirs, and nothing of the token itself.
    assert!(lines[0].contains("token.sha256=6153c694"), "{}", lines[0]);
    assert!(!log.text().contains("ordinaut_guess"), "{}", log.text());
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_counted_and_logged() {
    let (log, _keeping) = Log::keep();
    let fixture = Fixture::start().await;
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let request = http().post(fixture.url("/mcp")).bearer_auth(ANN).header(name, value);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    let counted = metrics(&fixture).await;
    for reason in ["host", "origin"] {
        assert!(counted.contains(&format!("ordinaut_mcp_refused_total{{reason=\"{reason}\"}} 1")), "{counted}");
        let lines = log.lines_with(&format!("reason=\"{reason}\""));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("WARN") && lines[0].contains("evil.example"), "{}", lines[0]);
    }
}
