//! HTTP steps against real local servers, and against a canary that must never be reached.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use ordinaut_executor::actions::{
    Action, StepCall,
    http::{
        HttpAction, HttpLimits,
        guard::{Guard, Resolve, SystemResolver},
    },
};
use ordinaut_schema::{
    id::{AgentId, RunId, TaskId},
    run::{ErrorKind, StepFailure},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// A listener that counts who comes; nobody ever should.
struct Canary {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Canary {
    async fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, visits) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let counted = visits.clone();
        tasks.spawn(async move {
            while let Ok((_, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, visits, _tasks: tasks }
    }

    /// A connection of our own comes last: whoever came before has been counted when it is.
    async fn assert_never_visited(&self) {
        drop(tokio::net::TcpStream::connect(self.address).await.unwrap());
        tokio::time::timeout(Duration::from_secs(5), async {
            while self.visits.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(self.visits.load(Ordering::SeqCst), 1, "the canary was reached");
    }
}

async fn serve(router: Router) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, tasks)
}

fn allowing(addresses: &[SocketAddr]) -> HttpAction {
    let allowed = addresses.iter().map(|it| it.to_string().parse().unwrap()).collect();
    HttpAction::new(Guard::new(allowed, SystemResolver), HttpLimits::default())
}

fn call(uses: &str, input: Value) -> StepCall {
    StepCall {
        uses: uses.to_owned(),
        input,
        idempotency_key: "root/step".to_owned(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        limit: Duration::from_secs(20),
        agent: AgentId::new(),
        task: TaskId::new(),
        run: RunId::floor(jiff::Timestamp::UNIX_EPOCH),
        cause_depth: 0,
        budget: ordinaut_schema::budget::Budget::default(),
        zone: ordinaut_schema::time::Zone::utc(),
        cancelled: CancellationToken::new(),
    }
}

async fn run(action: &HttpAction, uses: &str, input: Value) -> Result<Value, StepFailure> {
    action.execute(call(uses, input)).await.map(|answer| answer.output().unwrap())
}

/// What arrived, said back.
async fn echo(request: Request) -> Response {
    let (method, uri) = (request.method().to_string(), request.uri().to_string());
    let headers: serde_json::Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    axum::Json(json!({"method": method, "uri": uri, "headers": headers, "body": body})).into_response()
}

#[tokio::test]
async fn a_call_sends_what_the_step_says_and_returns_parsed_json() {
    let (server, _tasks) = serve(Router::new().route("/in", any(echo))).await;
    let action = allowing(&[server]);
    let output = run(
        &action,
        "http.post",
        json!({
            "url": format!("http://{server}/in"),
            "query": {"q": "a b"},
            "headers": {"X-One": "1"},
            "json": {"n": 1},
        }),
    )
    .await
    .unwrap();
    assert_eq!(output["status"], 200);
    assert_eq!(output["body"]["uri"], "/in?q=a+b");
    assert_eq!(output["body"]["body"], "{\"n\":1}");
    assert_eq!(output["body"]["headers"]["x-one"], "1");
    assert_eq!(output["body"]["headers"]["idempotency-key"], "root/step");
    assert_eq!(output["headers"]["content-type"], "application/json");
}

#[tokio::test]
async fn every_way_of_writing_loopback_is_refused_and_the_canary_sleeps() {
    let canary = Canary::at("127.0.0.1:0").await;
    let port = canary.address.port();
    let action = allowing(&[]);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "017700000001",
        "0x7f.0.0.1",
        "0x7f000001",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "１２７.0.0.1",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let failure = run(&action, "http.get", json!({"url": format!("http://{host}:{port}/")})).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Denied, "{host}: {failure}");
        assert!(!failure.sent, "{host}");
    }
    for url in [
        format!("http://public.example@127.0.0.1:{port}/"),
        format!("http://public.example:80@127.0.0.1:{port}/"),
        format!("http:\\\\127.0.0.1:{port}\\"),
        format!("file://127.0.0.1:{port}/etc/passwd"),
        format!("gopher://127.0.0.1:{port}/"),
    ] {
        let failure = run(&action, "http.get", json!({"url": url})).await.unwrap_err();
        assert!(matches!(failure.kind, ErrorKind::Denied | ErrorKind::ClientError), "{url}: {failure}");
    }
    canary.assert_never_visited().await;
}

#[tokio::test]
async fn an_allowance_opens_one_port_and_no_other() {
    let (server, _tasks) = serve(Router::new().route("/", get(|| async { "hello" }))).await;
    let canary = Canary::at("127.0.0.1:0").await;
    let action = allowing(&[server]);
    let output = run(&action, "http.get", json!({"url": format!("http://{server}/")})).await.unwrap();
    assert_eq!(output["body"], "hello");
    let failure = run(&action, "http.get", json!({"url": format!("http://{}/", canary.address)})).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Denied);
    canary.assert_never_visited().await;
}

#[tokio::test]
async fn a_redirect_to_loopback_is_refused() {
    let canary = Canary::at("127.0.0.1:0").await;
    let port = canary.address.port();
    let mut router = Router::new();
    let targets =
        [format!("http://127.0.0.1:{port}/"), format!("http://0x7f.1:{port}/"), format!("//localhost:{port}/")];
    for (n, target) in targets.iter().enumerate() {
        let target = target.clone();
        router = router.route(&format!("/{n}"), any(async move || Redirect::temporary(&target)));
    }
    let (server, _tasks) = serve(router).await;
    let action = allowing(&[server]);
    for n in 0..targets.len() {
        let failure = run(&action, "http.get", json!({"url": format!("http://{server}/{n}")})).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Denied, "{failure}");
    }
    canary.assert_never_visited().await;
}

/// Answers with the allowed address first and the canary's ever after.
struct Fickle(Arc<AtomicUsize>);

#[async_trait]
impl Resolve for Fickle {
    async fn resolve(&self, _name: &str) -> std::io::Result<Vec<IpAddr>> {
        let nth = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![if nth == 0 { "127.0.0.1" } else { "127.0.0.2" }.parse().unwrap()])
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_and_its_second_answer_is_judged_anew() {
    let (server, _tasks) = serve(Router::new().route("/", get(|| async { "first" }))).await;
    let canary = Canary::at(&format!("127.0.0.2:{}", server.port())).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let guard = Guard::new(vec![server.to_string().parse().unwrap()], Fickle(asked.clone()));
    let action = HttpAction::new(guard, HttpLimits::default());
    let url = json!({"url": format!("http://rebind.example:{}/", server.port())});
    let output = run(&action, "http.get", url.clone()).await.unwrap();
    assert_eq!(output["body"], "first");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "one call resolves once");
    let failure = run(&action, "http.get", url).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Denied);
    assert!(!failure.message.contains("127.0.0.2"), "{failure}");
    canary.assert_never_visited().await;
}

struct Mixed;

#[async_trait]
impl Resolve for Mixed {
    async fn resolve(&self, _name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec!["1.1.1.1".parse().unwrap(), "127.0.0.1".parse().unwrap()])
    }
}

#[tokio::test]
async fn one_bad_address_refuses_the_whole_name() {
    let canary = Canary::at("127.0.0.1:0").await;
    let action = HttpAction::new(Guard::new(Vec::new(), Mixed), HttpLimits::default());
    let url = format!("http://mixed.example:{}/", canary.address.port());
    let failure = run(&action, "http.get", json!({ "url": url })).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Denied);
    canary.assert_never_visited().await;
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_origin() {
    let (target, _target_tasks) = serve(Router::new().route("/in", any(echo))).await;
    let location = format!("http://{target}/in");
    let (server, _tasks) = serve(
        Router::new()
            .route("/away", any(async move || Redirect::to(&location)))
            .route("/near", any(|| async { Redirect::to("/in") }))
            .route("/in", any(echo)),
    )
    .await;
    let action = allowing(&[server, target]);
    let with = |path: &str| {
        json!({"url": format!("http://{server}{path}"),
               "headers": {"Authorization": "Bearer x", "Cookie": "c=1", "X-Token": "t", "Accept": "application/json"}})
    };
    let away = run(&action, "http.get", with("/away")).await.unwrap();
    let headers = &away["body"]["headers"];
    assert!(headers["authorization"].is_null() && headers["cookie"].is_null() && headers["x-token"].is_null());
    assert_eq!(headers["accept"], "application/json");
    let near = run(&action, "http.get", with("/near")).await.unwrap();
    assert_eq!(near["body"]["headers"]["authorization"], "Bearer x");
}

#[tokio::test]
async fn redirects_end_after_five_hops() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = visits.clone();
    let (server, _tasks) = serve(Router::new().route(
        "/",
        get(async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Redirect::to("/")
        }),
    ))
    .await;
    let failure = run(&allowing(&[server]), "http.get", json!({"url": format!("http://{server}/")})).await.unwrap_err();
    assert!(failure.message.contains("redirects"), "{failure}");
    assert_eq!(visits.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn an_expected_redirect_is_returned_and_not_followed() {
    let (server, _tasks) = serve(Router::new().route("/", get(|| async { Redirect::to("/next") }))).await;
    let with = json!({"url": format!("http://{server}/"), "expected_status": [200, "3xx"]});
    let output = run(&allowing(&[server]), "http.get", with).await.unwrap();
    assert_eq!(output["status"], 303);
    assert_eq!(output["headers"]["location"], "/next");
}

#[tokio::test]
async fn an_unexpected_status_is_typed_and_says_when_to_try_again() {
    async fn busy() -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
        (StatusCode::TOO_MANY_REQUESTS, headers, "slow down").into_response()
    }
    let (server, _tasks) = serve(
        Router::new()
            .route("/busy", get(busy))
            .route("/gone", get(|| async { StatusCode::GONE }))
            .route("/sick", post(|| async { StatusCode::BAD_GATEWAY })),
    )
    .await;
    let action = allowing(&[server]);
    let url = |path: &str| json!({"url": format!("http://{server}{path}?token=abc")});
    let busy = run(&action, "http.get", url("/busy")).await.unwrap_err();
    assert_eq!((busy.kind, busy.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    assert!(busy.message.contains("429") && busy.message.contains("slow down"), "{busy}");
    assert!(!busy.message.contains("abc"), "a query may hold credentials: {busy}");
    assert_eq!(run(&action, "http.get", url("/gone")).await.unwrap_err().kind, ErrorKind::ClientError);
    let sick = run(&action, "http.post", url("/sick")).await.unwrap_err();
    assert_eq!((sick.kind, sick.sent), (ErrorKind::ServerError, false));
}

/// Answers each connection with fixed bytes, then holds it open or closes it.
async fn raw(answer: Vec<u8>, keep_open: bool) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            assert!(read > 0);
            // The other side may have hung up already; that is what some tests want.
            let _ = stream.write_all(&answer).await;
            if keep_open {
                held.push(stream);
            }
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_refused_connection_was_never_sent() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failure = run(&allowing(&[gone]), "http.post", json!({"url": format!("http://{gone}/")})).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (ErrorKind::Connection, false), "{failure}");
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_may_have_sent() {
    let (server, _tasks) = raw(Vec::new(), false).await;
    let failure =
        run(&allowing(&[server]), "http.post", json!({"url": format!("http://{server}/")})).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (ErrorKind::Connection, true), "{failure}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_time_out_that_may_have_sent() {
    let (server, _tasks) = raw(Vec::new(), true).await;
    let mut call = call("http.post", json!({"url": format!("http://{server}/")}));
    call.limit = Duration::from_millis(300);
    let failure = allowing(&[server]).execute(call).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (ErrorKind::Timeout, true), "{failure}");
}

#[tokio::test]
async fn an_answer_that_drips_ends_with_the_step() {
    let (server, _tasks) = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".to_vec(), true).await;
    let mut call = call("http.get", json!({"url": format!("http://{server}/")}));
    call.limit = Duration::from_millis(300);
    let failure = allowing(&[server]).execute(call).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (ErrorKind::Timeout, true), "{failure}");
}

#[tokio::test]
async fn a_failure_that_drips_keeps_its_status() {
    let (server, _tasks) = raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nonly this".to_vec(), true).await;
    let failure = run(&allowing(&[server]), "http.get", json!({"url": format!("http://{server}/")})).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::ServerError, "{failure}");
}

#[tokio::test]
async fn an_ipv6_literal_is_reached_where_it_is_allowed() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return; // This machine has no IPv6; the guard's own tests cover the rest.
    };
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let router = Router::new().route("/", get(|| async { "six" }));
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let output = run(&allowing(&[address]), "http.get", json!({"url": format!("http://{address}/")})).await.unwrap();
    assert_eq!(output["body"], "six");
}

/// A `303` proves that the POST was taken in: nothing after it may be taken for "never sent".
#[tokio::test]
async fn a_hop_lost_after_a_taken_in_post_may_have_sent() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let location = format!("http://{gone}/");
    let (server, _tasks) = serve(Router::new().route("/", post(async move || Redirect::to(&location)))).await;
    let with = json!({"url": format!("http://{server}/")});
    let failure = run(&allowing(&[server, gone]), "http.post", with).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (ErrorKind::Connection, true), "{failure}");
}

#[tokio::test]
async fn a_cancelled_call_ends_at_once() {
    let (server, _tasks) = raw(Vec::new(), true).await;
    let call = call("http.post", json!({"url": format!("http://{server}/")}));
    call.cancelled.cancel();
    let failure = allowing(&[server]).execute(call).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Cancelled);
}

#[tokio::test]
async fn an_answer_larger_than_the_output_limit_is_refused_early() {
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\nx".to_vec();
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(400 * 1024, b'x');
    for answer in [announced, endless] {
        let (server, _tasks) = raw(answer, true).await;
        let failure =
            run(&allowing(&[server]), "http.get", json!({"url": format!("http://{server}/")})).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidOutput, "{failure}");
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_stopped_at_the_decompressed_limit() {
    // One kilobyte that becomes a megabyte.
    let bomb = include_bytes!("../fixtures/zeros.gz");
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    )
    .into_bytes();
    answer.extend_from_slice(bomb);
    let (server, _tasks) = raw(answer, true).await;
    let failure = run(&allowing(&[server]), "http.get", json!({"url": format!("http://{server}/")})).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidOutput, "{failure}");
    assert!(failure.message.contains("larger"), "{failure}");
}

#[tokio::test]
async fn head_has_no_body() {
    let (server, _tasks) = serve(Router::new().route("/", get(|| async { "hello" }))).await;
    let output = run(&allowing(&[server]), "http.head", json!({"url": format!("http://{server}/")})).await.unwrap();
    assert_eq!(output["body"], Value::Null);
    assert_eq!(output["headers"]["content-length"], "5");
}
