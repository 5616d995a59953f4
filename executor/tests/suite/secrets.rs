//! Secrets in calls: to whom they go, what follows a redirect, and what is kept of an answer.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ordinaut_executor::actions::{
    Action, StepCall,
    http::{
        HttpAction, HttpLimits,
        guard::{Guard, Resolve, SystemResolver},
    },
    mcp::{McpSettings, McpTools},
};
use ordinaut_schema::{
    action::data,
    id::{AgentId, RunId, TaskId},
    run::{ErrorKind, StepFailure},
    secret::mark,
    template::Scope,
};
use ordinaut_store::{
    secrets::{Bindings, KeyRing, KeySource, SecretVault},
    testing::Fixture,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const VALUE: &str = "s3cr3t-value+1/2";

/// Two servers that note what they are sent. The first redirects `/away…` to the second, with its query.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    elsewhere: Option<SocketAddr>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn open(elsewhere: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), elsewhere, seen: Arc::default() };
        let router = Router::new().fallback(any(answer)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().join("\n")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let said = format!("{} {:?} {}", parts.uri, parts.headers, String::from_utf8_lossy(&body));
    server.seen.lock().unwrap().push(said.clone());
    let query = parts.uri.query().unwrap_or_default();
    match (parts.uri.path(), server.elsewhere) {
        ("/away", Some(elsewhere)) => {
            (StatusCode::FOUND, [(header::LOCATION, format!("http://{elsewhere}/"))]).into_response()
        }
        ("/open", Some(elsewhere)) => {
            (StatusCode::FOUND, [(header::LOCATION, format!("http://{elsewhere}/?{query}"))]).into_response()
        }
        ("/fail", _) => (StatusCode::BAD_REQUEST, format!("{}{VALUE}", "x".repeat(190))).into_response(),
        _ => Json(json!({ "said": said, "base64": STANDARD.encode(&said), VALUE: VALUE })).into_response(),
    }
}

struct Bench {
    fixture: Fixture,
    _database: ordinaut_store::testing::Database,
    bound: Server,
    other: Server,
    action: HttpAction,
}

impl Bench {
    async fn new() -> Self {
        let (fixture, database) = Fixture::fresh().await;
        let other = Server::open(None).await;
        let bound = Server::open(Some(other.address)).await;
        let hosts = [bound.address.to_string(), "plain.example".to_owned()];
        let bindings = Bindings::new(&hosts, &[], &[]).unwrap();
        fixture.executor.set_secret(&KeyRing::parse(KEY).unwrap(), "KEY", VALUE, Some(bindings)).await.unwrap();
        let vault = SecretVault::new(fixture.executor.clone(), KeySource::choose(Some(KEY), None, "/nowhere".as_ref()));
        let allowed = [&bound, &other].map(|server| server.address.to_string().parse().unwrap()).to_vec();
        let action = HttpAction::new(Guard::new(allowed, SystemResolver), HttpLimits::default()).with_secrets(vault);
        Self { fixture, _database: database, bound, other, action }
    }

    async fn call(&self, uses: &str, with: Value) -> Result<Value, StepFailure> {
        self.call_in(uses, with, &Scope::default()).await
    }

    async fn call_in(&self, uses: &str, with: Value, scope: &Scope) -> Result<Value, StepFailure> {
        let input = data::render(uses, &with, scope).unwrap();
        assert!(!input.to_string().contains(VALUE));
        self.action.execute(call(uses, input)).await.map(|answer| answer.output().unwrap())
    }
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

#[tokio::test]
async fn a_secret_goes_to_the_host_it_is_bound_to_and_is_taken_out_of_the_answer() {
    let bench = Bench::new().await;
    let with = json!({
        "url": bench.bound.url("/"),
        "headers": { "X-Key": "${secrets.KEY}", "Authorization": "${basic_auth('me', secrets.KEY)}" },
        "query": { "q": "${secrets.KEY}" },
        "form": { "f": "${secrets.KEY}" },
    });
    let output = bench.call("http.post", with).await.unwrap();

    let seen = bench.bound.seen();
    let basic = STANDARD.encode(format!("me:{VALUE}"));
    assert!(seen.contains("q=s3cr3t-value%2B1%2F2") && seen.contains("f=s3cr3t-value%2B1%2F2"), "{seen}");
    assert!(seen.contains(&format!("\"x-key\": \"{VALUE}\"")) && seen.contains(&basic), "{seen}");
    assert_eq!(output["body"]["[secret KEY]"], json!("[secret KEY]"));
    let kept = output.to_string();
    assert!(!kept.contains("s3cr3t") && !kept.contains(&basic[4..]), "{kept}");
    let inner = &STANDARD.encode(&seen);
    assert_ne!(output["body"]["base64"], json!(inner));
}

#[tokio::test]
async fn a_call_to_another_host_is_denied_with_the_secret_and_its_hosts_and_nothing_is_sent() {
    let bench = Bench::new().await;
    let with = json!({ "url": bench.other.url("/"), "headers": { "X-Key": "${secrets.KEY}" } });
    let denied = bench.call("http.get", with).await.unwrap_err();
    assert_eq!((denied.kind, denied.sent), (ErrorKind::Denied, false));
    for part in ["`KEY`", &bench.bound.address.to_string(), &bench.other.address.to_string()] {
        assert!(denied.message.contains(part), "{denied}");
    }
    assert_eq!(bench.other.seen(), "");

    bench.fixture.executor.delete_secret("KEY").await.unwrap();
    let with = json!({ "url": bench.bound.url("/"), "headers": { "X-Key": "${secrets.KEY}" } });
    assert_eq!(bench.call("http.get", with).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(bench.bound.seen(), "");
}

#[tokio::test]
async fn a_redirect_to_another_host_leaves_every_secret_behind() {
    let bench = Bench::new().await;
    let with = json!({
        "url": bench.bound.url("/away"),
        "headers": { "X-Key": "${secrets.KEY}", "User-Agent": "${secrets.KEY}", "Accept": "text/plain" },
    });
    bench.call("http.get", with).await.unwrap();
    assert!(bench.bound.seen().contains(VALUE));
    let seen = bench.other.seen();
    assert!(seen.contains("text/plain") && !seen.contains("s3cr3t"), "{seen}");
}

#[tokio::test]
async fn a_redirect_that_hands_a_secret_on_is_refused() {
    let bench = Bench::new().await;
    let with = json!({ "url": bench.bound.url("/open"), "query": { "key": "${secrets.KEY}" } });
    let denied = bench.call("http.get", with).await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(denied.message.contains("`KEY`") && !denied.message.contains("s3cr3t"), "{denied}");
    assert_eq!(bench.other.seen(), "");
}

#[tokio::test]
async fn an_excerpt_that_is_cut_inside_a_value_says_nothing_of_it() {
    let bench = Bench::new().await;
    let with = json!({ "url": bench.bound.url("/fail"), "headers": { "X-Key": "${secrets.KEY}" } });
    let failure = bench.call("http.get", with).await.unwrap_err();
    assert!(failure.message.contains("[secret") && !failure.message.contains("s3c"), "{failure}");
}

/// A public address for every name.
struct Public;

#[async_trait]
impl Resolve for Public {
    async fn resolve(&self, _name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::new(1, 1, 1, 1).into()])
    }
}

#[tokio::test]
async fn a_secret_does_not_go_out_without_tls() {
    let bench = Bench::new().await;
    let vault = SecretVault::new(bench.fixture.executor.clone(), KeySource::choose(Some(KEY), None, "/".as_ref()));
    let action = HttpAction::new(Guard::new(Vec::new(), Public), HttpLimits::default()).with_secrets(vault);
    let with = json!({ "url": "http://plain.example/", "headers": { "X-Key": "${secrets.KEY}" } });
    let input = data::render("http.get", &with, &Scope::default()).unwrap();
    let denied = action.execute(call("http.get", input)).await.unwrap_err();
    assert_eq!((denied.kind, denied.sent), (ErrorKind::Denied, false));
    assert!(denied.message.contains("`KEY`") && denied.message.contains("https"), "{denied}");
}

#[tokio::test]
async fn a_server_is_started_with_the_secrets_that_are_bound_to_it_and_does_not_say_them() {
    let bench = Bench::new().await;
    let bindings = Bindings::new(&[], &["bound".to_owned()], &[]).unwrap();
    bench.fixture.executor.set_secret(&KeyRing::parse(KEY).unwrap(), "TOKEN", VALUE, Some(bindings)).await.unwrap();
    // It stays a moment, so that its words are read before its end is noticed.
    let server = json!({
        "command": "/bin/sh",
        "args": ["-c", "echo \"started with $TOKEN\" >&2; read line; sleep 1"],
        "env": { "TOKEN": "${secrets.TOKEN}" },
    });
    let file = std::env::temp_dir().join(format!("ordinaut-secret-servers-{}", uuid::Uuid::now_v7()));
    std::fs::write(&file, json!({ "mcpServers": { "bound": server, "other": server } }).to_string()).unwrap();
    let vault = SecretVault::new(bench.fixture.executor.clone(), KeySource::choose(Some(KEY), None, "/".as_ref()));
    let settings = McpSettings { file: Some(file.clone()), secrets: Some(vault), ..McpSettings::default() };
    let tools = McpTools::new(settings, bench.fixture.executor.clone(), uuid::Uuid::now_v7());

    let ended = tools.execute(call("bound.x", json!({}))).await.unwrap_err();
    assert!(ended.message.contains("started with [secret TOKEN]"), "{ended}");
    let denied = tools.execute(call("other.x", json!({}))).await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(denied.message.contains("`TOKEN`") && denied.message.contains("the server bound"), "{denied}");
    tools.close().await;
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_secret_that_is_set_anew_reaches_a_running_server_and_calls_in_hand_are_finished_first() {
    let bench = Bench::new().await;
    let set = async |value: &str| {
        let bindings = Bindings::new(&[], &["example".to_owned()], &[]).unwrap();
        bench.fixture.executor.set_secret(&KeyRing::parse(KEY).unwrap(), "TOKEN", value, Some(bindings)).await.unwrap();
    };
    set(VALUE).await;
    let server = json!({
        "command": env!("CARGO_BIN_EXE_ordinaut-example-server"),
        "args": ["--faults"],
        "env": { "TOKEN": "${secrets.TOKEN}" },
    });
    let file = std::env::temp_dir().join(format!("ordinaut-secret-servers-{}", uuid::Uuid::now_v7()));
    std::fs::write(&file, json!({ "mcpServers": { "example": server } }).to_string()).unwrap();
    let vault = SecretVault::new(bench.fixture.executor.clone(), KeySource::choose(Some(KEY), None, "/".as_ref()));
    let settings = McpSettings { file: Some(file.clone()), secrets: Some(vault), ..McpSettings::default() };
    let tools = McpTools::new(settings, bench.fixture.executor.clone(), uuid::Uuid::now_v7());
    let look = async || tools.execute(call("example.look", json!({}))).await.unwrap().output().unwrap();
    let until = async |what: &str, condition: &dyn Fn(&Value) -> bool| {
        let looked = async {
            loop {
                let seen = look().await;
                if condition(&seen) {
                    return seen;
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), looked).await.unwrap_or_else(|_| panic!("never came: {what}"))
    };

    let before = look().await["process"].clone();
    let slow = call("example.slow", json!({ "seconds": 600 }));
    let (cancelled, stop) = (slow.cancelled.clone(), CancellationToken::new());
    let (ended, (), ()) = tokio::join!(tools.execute(slow), tools.serve(stop.clone()), async {
        until("the slow call at the server", &|seen| seen["begun"] == 1).await;
        set("another-v4lue").await;
        let after = until("another process", &|seen| seen["process"] != before).await;
        assert_eq!(after["begun"], 0);
        assert!(std::path::Path::new(&format!("/proc/{before}")).exists(), "the call in hand keeps the old one");
        cancelled.cancel();
        let gone = async {
            while std::path::Path::new(&format!("/proc/{before}")).exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), gone).await.expect("the old one ends after its last call");
        stop.cancel();
    });
    assert_eq!(ended.unwrap_err().kind, ErrorKind::Cancelled);
    std::fs::remove_file(file).unwrap();
}

/// What a step returned, or an event brought, is data: neither a template nor the mark of a secret.
#[tokio::test]
async fn a_value_that_looks_like_a_secret_is_sent_as_it_is() {
    let bench = Bench::new().await;
    let scope = Scope {
        event: json!({ "payload": { "template": "${secrets.KEY}", "mark": mark::secret("KEY"), "basic": mark::basic("me", &mark::secret("KEY")) } }),
        ..Scope::default()
    };
    let with = json!({
        "url": bench.bound.url("/"),
        "headers": { "X-Template": "${event.payload.template}" },
        "json": ["${event.payload}", "x ${event.payload.mark}", "${event.payload.basic}", "$${secrets.KEY}"],
    });
    bench.call_in("http.post", with, &scope).await.unwrap();
    let seen = bench.bound.seen();
    assert!(seen.contains("${secrets.KEY}") && seen.contains("x KEY"), "{seen}");
    assert!(!seen.contains("s3cr3t") && !seen.contains(&STANDARD.encode(format!("me:{VALUE}"))), "{seen}");
}
