//! What gets past the guard, on both transports alike.

use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use crate::support::{ANN, Fixture, http};

const ROUTES: [(&str, &str); 3] = [("POST", "/mcp"), ("GET", "/sse"), ("POST", "/messages?session_id=none")];

async fn send(fixture: &Fixture, (method, path): (&str, &str), headers: &[(&str, &str)]) -> Response {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = http()
        .request(method, fixture.url(path))
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    request.body(ping.to_string()).send().await.unwrap()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn a_request_without_a_token_is_challenged() {
    let fixture = Fixture::start().await;
    for route in ROUTES {
        let response = send(&fixture, route, &[]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{route:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer", "{route:?}");

        let response = send(&fixture, route, &[("authorization", "Bearer made-up")]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{route:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer error=\"invalid_token\"", "{route:?}");

        let response = send(&fixture, route, &[("authorization", "Basic YTpi")]).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{route:?}");
    }
}

#[tokio::test]
async fn a_rebound_name_is_refused_before_the_token_is_looked_at() {
    let fixture = Fixture::start().await;
    for route in ROUTES {
        let response = send(&fixture, route, &[("host", "evil.example")]).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{route:?}");
        assert!(response.text().await.unwrap().contains("mcp.allowed_hosts"), "{route:?}");
    }
}

#[tokio::test]
async fn a_foreign_page_is_refused_even_with_a_token() {
    let fixture = Fixture::start().await;
    for route in ROUTES {
        let headers = [("authorization", &*bearer(ANN)), ("origin", "https://evil.example")];
        assert_eq!(send(&fixture, route, &headers).await.status(), StatusCode::FORBIDDEN, "{route:?}");
        let headers = [("authorization", &*bearer(ANN)), ("origin", "http://localhost:6274")];
        assert_ne!(send(&fixture, route, &headers).await.status(), StatusCode::FORBIDDEN, "{route:?}");
    }
}

#[tokio::test]
async fn a_body_past_the_limit_is_refused() {
    let fixture = Fixture::start_with(|config| config.body_bytes = 1000).await;
    for path in ["/mcp", "/messages?session_id=none"] {
        let request = http().post(fixture.url(path)).bearer_auth(ANN).body(vec![b' '; 1001]);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        // Without a declared length, too.
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b' '; 1001])]));
        let request = http().post(fixture.url(path)).bearer_auth(ANN).body(body);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let fixture = Fixture::start_with(|config| config.body_timeout = std::time::Duration::from_millis(50)).await;
    let body = reqwest::Body::wrap_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let response = http().post(fixture.url("/mcp")).bearer_auth(ANN).body(body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn probes_need_no_token_and_metrics_count_sessions() {
    let fixture = Fixture::start().await;
    let healthy = send(&fixture, ("GET", "/healthz"), &[("host", "10.0.0.7")]).await;
    assert_eq!(healthy.status(), StatusCode::OK);
    let ready = send(&fixture, ("GET", "/readyz"), &[("host", "10.0.0.7")]).await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().await.unwrap().contains("the fixture"));
    let metrics = send(&fixture, ("GET", "/metrics"), &[]).await.text().await.unwrap();
    assert!(metrics.contains("ordinaut_mcp_sessions 0"), "{metrics}");
    let foreign = send(&fixture, ("GET", "/metrics"), &[("host", "evil.example")]).await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask_and_read() {
    let fixture = Fixture::start().await;
    let page = ("origin", "http://localhost:6274");
    let asked = send(&fixture, ("OPTIONS", "/mcp"), &[page, ("access-control-request-method", "POST")]).await;
    assert_eq!(asked.status(), StatusCode::NO_CONTENT);
    assert_eq!(asked.headers()["access-control-allow-origin"], page.1);
    let refused = send(&fixture, ("POST", "/mcp"), &[page]).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers()["access-control-allow-origin"], page.1);
    let foreign = send(&fixture, ("OPTIONS", "/mcp"), &[("origin", "https://evil.example")]).await;
    assert!(!foreign.headers().contains_key("access-control-allow-origin"));
}

/// Every route there is, and who judges it: the transports' guard, the pages' own, the address alone, or nobody.
const EVERY_ROUTE: [(&str, &str, Judged); 13] = [
    ("POST", "/mcp", Judged::Whole),
    ("GET", "/mcp", Judged::Whole),
    ("DELETE", "/mcp", Judged::Whole),
    ("GET", "/sse", Judged::Whole),
    ("POST", "/messages?session_id=none", Judged::Whole),
    ("OPTIONS", "/mcp", Judged::Whole),
    ("OPTIONS", "/sse", Judged::Whole),
    ("GET", "/approvals/style.css", Judged::Page),
    ("GET", "/approvals/made-up", Judged::Page),
    ("POST", "/approvals/made-up", Judged::Page),
    ("GET", "/metrics", Judged::Whole),
    ("GET", "/healthz", Judged::ByNobody),
    ("GET", "/readyz", Judged::ByNobody),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// The host and the origin must be allowed.
    Whole,
    /// The host must be allowed, and the origin be this page's own.
    Page,
    /// Probes say whatever address they were given.
    ByNobody,
}

#[tokio::test]
async fn every_route_judges_every_host_and_every_origin_alike() {
    let fixture = Fixture::start().await;
    let own = format!("localhost:{}", fixture.address.port());
    let hosts = [
        (own.as_str(), true),
        ("LOCALHOST.", true),
        ("127.0.0.1", true),
        ("[::1]:7447", true),
        ("evil.example", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example:80", false),
        ("evil@localhost", false),
        ("0.0.0.0", false),
    ];
    // Whether a page of theirs may call, and whether it is this server's own page, as `own` is named.
    let own_page = format!("http://{own}");
    let origins = [
        (None, true, true),
        (Some(own_page.as_str()), true, true),
        (Some("http://localhost:6274"), true, false),
        (Some("https://localhost:6274"), false, false),
        (Some("https://evil.example"), false, false),
        (Some("http://localhost.evil.example"), false, false),
        (Some("null"), false, false),
        (Some("file://"), false, false),
        (Some(""), false, false),
    ];
    for (method, path, judged) in EVERY_ROUTE {
        for (host, host_allowed) in hosts {
            for (origin, origin_allowed, is_own) in origins {
                // A page is its own under the one name by which it was asked for.
                let is_own = origin.is_none() || (is_own && host == own);
                let passes = match judged {
                    Judged::Whole => host_allowed && origin_allowed,
                    Judged::Page => host_allowed && is_own,
                    Judged::ByNobody => true,
                };
                let mut headers = vec![("host", host)];
                headers.extend(origin.map(|origin| ("origin", origin)));
                let status = send(&fixture, (method, path), &headers).await.status();
                let named = !host.contains('@');
                let refused = if named { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
                if passes {
                    assert!(
                        ![StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST].contains(&status),
                        "{method} {path} as {host} from {origin:?}: {status}"
                    );
                } else {
                    assert_eq!(status, refused, "{method} {path} as {host} from {origin:?}");
                }
            }
        }
    }
}
