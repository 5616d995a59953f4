//! Every answer has a name, and so has what is logged while it is made.

use reqwest::{Method, StatusCode};

use crate::{
    sse,
    support::{ANN, Fixture, Log, http, until},
};

async fn named(fixture: &Fixture, (method, path): (&str, &str), own: Option<&str>) -> (StatusCode, String) {
    let mut request = http().request(Method::from_bytes(method.as_bytes()).unwrap(), fixture.url(path));
    if let Some(own) = own {
        request = request.header("x-request-id", own);
    }
    let response = request.send().await.unwrap();
    let ids: Vec<_> = response.headers().get_all("x-request-id").iter().collect();
    assert_eq!(ids.len(), 1, "{method} {path}");
    (response.status(), ids[0].to_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_answer_has_a_name_a_refused_one_too() {
    let fixture = Fixture::start().await;
    let mut seen = std::collections::BTreeSet::new();
    let routes = [
        ("POST", "/mcp"),
        ("GET", "/sse"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
        ("PUT", "/sse"),
    ];
    for route in routes {
        let (_, made) = named(&fixture, route, None).await;
        assert_eq!(made.len(), 24, "{made}");
        assert!(seen.insert(made), "each has its own");
        assert_eq!(named(&fixture, route, Some("of-the-client/7")).await.1, "of-the-client/7");
        for strange in ["", "with a blank", "<script>", &"long".repeat(20)] {
            assert_eq!(named(&fixture, route, Some(strange)).await.1.len(), 24, "{strange}");
        }
    }
    assert_eq!(named(&fixture, ("POST", "/mcp"), None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(named(&fixture, ("GET", "/nowhere"), None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_logged_says_for_which_request_and_sessions_say_whose() {
    let (log, _keeping) = Log::keep();
    let fixture = Fixture::start().await;
    http()
        .get(fixture.url("/metrics"))
        .header("host", "evil.example")
        .header("x-request-id", "find-me")
        .send()
        .await
        .unwrap();
    assert!(log.lines_with("request refused")[0].contains("request.id=find-me"), "{}", log.text());

    let stream = sse::open(&fixture, ANN).await;
    let opened = crate::streamable::initialize(&fixture, ANN).await;
    drop(stream);
    let session = opened.headers()["mcp-session-id"].clone();
    let ended = http().delete(fixture.url("/mcp")).bearer_auth(ANN).header("mcp-session-id", session).send().await;
    assert_eq!(ended.unwrap().status(), StatusCode::NO_CONTENT);
    until("both sessions close", async || log.lines_with("session closed").len() == 2).await;
    for line in log
        .lines_with("session ")
        .iter()
        .filter(|line| line.contains("session opened") || line.contains("session closed"))
    {
        for part in ["INFO", "agent.name=\"ann\"", "token.label=\"test\""] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    assert_eq!(log.lines_with("session opened").len(), 2);
}
