//! A local endpoint that writes down what it is sent and answers what it is told, and the pieces of a call to it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use ordinaut_executor::{
    actions::{Action, StepCall},
    operator::{Standing, Watch},
};
use ordinaut_schema::{
    id::{RunId, TaskId},
    operator::Operator,
    run::StepFailure,
};
use ordinaut_store::{
    Caller, Role, Settings, Store,
    secrets::{KeySource, SecretVault},
    testing,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What to answer: status, headers, body; `ECHO` in the body is what was sent, headers and all, `TEXT` its `text`.
type Scripted = (u16, Vec<(&'static str, String)>, String);

#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Scripted>>>,
}

impl Endpoint {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Self { address, seen: Arc::default(), script: Arc::default() };
        let routes = Router::new().fallback(answer).with_state(endpoint.clone());
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, routes).await });
        endpoint
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next answer; without one, `200 {}`.
    pub(crate) fn then(&self, status: u16, headers: &[(&'static str, &str)], body: impl ToString) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.script.lock().unwrap().push_back((status, headers, body.to_string()));
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("something was sent")
    }
}

async fn answer(State(endpoint): State<Endpoint>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let echo = format!("{} {:?} {}", parts.uri, parts.headers, String::from_utf8_lossy(&bytes));
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    endpoint.seen.lock().unwrap().push(Seen { path: parts.uri.to_string(), headers: parts.headers, body });
    let next = endpoint.script.lock().unwrap().pop_front();
    let (status, headers, body) = next.unwrap_or((200, Vec::new(), "{}".to_owned()));
    let body = body.replace("TEXT", &text);
    let body = body.replace("ECHO", &echo.replace('"', "'").replace('\\', "/"));
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// A database of the test's own.
/// Thirty-two zeros.
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

pub(crate) struct Base {
    pub(crate) store: Store,
    _database: testing::Database,
}

impl Base {
    /// The secrets of this database, under a key of the test's own.
    pub(crate) fn secrets(&self) -> SecretVault {
        let keys = KeySource::choose(Some(KEY), None, std::path::Path::new("unused"));
        SecretVault::new(self.store.clone(), keys)
    }

    pub(crate) async fn new() -> Self {
        let database = testing::database().await;
        let store = Store::connect(Settings::new(&database.url, Role::Executor)).await.unwrap();
        Self { store, _database: database }
    }

    /// The operator's tables, in force.
    pub(crate) fn standing(&self, file: &Value) -> Standing {
        let operator = Operator::read(file.as_object().unwrap()).unwrap_or_else(|faults| panic!("{faults}"));
        let (watch, standing) = Watch::new(None, operator, self.store.clone());
        // What is in force outlives who could change it.
        drop(watch);
        standing
    }
}

/// A step's call in the name of the local agent.
pub(crate) fn call(uses: &str, input: Value) -> StepCall {
    StepCall {
        uses: uses.to_owned(),
        input,
        idempotency_key: "root/step".to_owned(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        limit: Duration::from_secs(20),
        agent: Caller::LOCAL_AGENT,
        task: TaskId::new(),
        run: RunId::floor(jiff::Timestamp::UNIX_EPOCH),
        cause_depth: 0,
        budget: ordinaut_schema::budget::Budget::default(),
        zone: ordinaut_schema::time::Zone::utc(),
        cancelled: CancellationToken::new(),
    }
}

pub(crate) async fn output(action: &impl Action, call: StepCall) -> Value {
    let answer = action.execute(call).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    answer.output().unwrap()
}

pub(crate) async fn failure(action: &impl Action, call: StepCall) -> StepFailure {
    match action.execute(call).await {
        Err(failure) => failure,
        Ok(answer) => panic!("it went through: {answer:?}"),
    }
}

/// A `with` of `notify.send`.
pub(crate) fn message(channel: &str, text: &str) -> Value {
    json!({ "channel": channel, "text": text })
}
