//! Stand-ins for what the steps of a task call: web services, a model, MCP servers. Every call is written down as it
//! came, before it is answered; what it says decides whether its answer is held.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri},
    routing::any,
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A call as it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// `<server>.<tool>`, `llm`, or the path of a page.
    pub(crate) at: String,
    /// Its idempotency key.
    pub(crate) key: String,
    /// The arguments, the JSON that was posted, or the query.
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn says(&self, word: &str) -> bool {
        self.at.contains(word) || self.body.to_string().contains(word)
    }

    /// All that a model was asked.
    pub(crate) fn prompt(&self) -> &str {
        self.body["messages"][0]["content"].as_str().unwrap()
    }
}

/// Holds back the answers to calls in which a word stands, until the word is taken away.
#[derive(Clone)]
pub(crate) struct Gate(watch::Sender<BTreeSet<String>>);

impl Gate {
    fn new() -> Self {
        Self(watch::Sender::default())
    }

    pub(crate) fn close(&self, word: &str) {
        self.0.send_if_modified(|words| words.insert(word.to_owned()));
    }

    pub(crate) fn open(&self, word: &str) {
        self.0.send_if_modified(|words| words.remove(word));
    }

    pub(crate) async fn pass(&self, says: impl Fn(&str) -> bool) {
        let mut words = self.0.subscribe();
        // The gate lives as long as its test.
        drop(words.wait_for(|words| !words.iter().any(|word| says(word))).await);
    }
}

/// What an MCP server has.
pub(crate) type Tools = &'static [(&'static str, &'static [&'static str])];

#[derive(Clone)]
pub(crate) struct StandIns {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Gate,
    seen: Arc<Mutex<Vec<Seen>>>,
    answers: fn(&Seen) -> Value,
}

impl StandIns {
    /// Serves pages anywhere, a model at `/v1`, and these MCP servers at `/mcp/<name>`; what a repeat of one
    /// does, no tool says.
    pub(crate) async fn open(servers: Tools, answers: fn(&Seen) -> Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stand_ins = Self { address, gate: Gate::new(), seen: Arc::default(), answers };
        let mut routes =
            Router::new().route("/v1/chat/completions", any(model)).fallback(page).with_state(stand_ins.clone());
        for (name, tools) in servers {
            let server = Server { name, tools, stand_ins: stand_ins.clone() };
            let service = StreamableHttpService::new(
                move || Ok(server.clone()),
                Arc::new(LocalSessionManager::default()),
                StreamableHttpServerConfig::default(),
            );
            routes = routes.nest_service(&format!("/mcp/{name}"), service);
        }
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, routes).await });
        stand_ins
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The operator's file of these servers.
    pub(crate) fn servers(&self, servers: Tools) -> String {
        let entry = |name: &str| json!({ "type": "http", "url": self.url(&format!("/mcp/{name}")) });
        let all = servers.iter().map(|(name, _)| ((*name).to_owned(), entry(name)));
        json!({ "mcpServers": all.collect::<serde_json::Map<_, _>>() }).to_string()
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The calls that came to one place.
    pub(crate) fn at(&self, at: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| seen.at == at).collect()
    }

    async fn take(&self, seen: Seen) -> Value {
        self.seen.lock().unwrap().push(seen.clone());
        self.gate.pass(|word| seen.says(word)).await;
        (self.answers)(&seen)
    }
}

fn key(headers: &HeaderMap) -> String {
    headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn page(State(stand_ins): State<StandIns>, uri: Uri, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let query = || json!(uri.query().unwrap_or_default());
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| query());
    Json(stand_ins.take(Seen { at: uri.path().to_owned(), key: key(&headers), body }).await)
}

async fn model(State(stand_ins): State<StandIns>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let body = serde_json::from_slice(&body).unwrap();
    let said = stand_ins.take(Seen { at: "llm".to_owned(), key: key(&headers), body }).await;
    let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
    let message = json!({ "role": "assistant", "content": said });
    Json(json!({
        "model": "stand-in",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": message }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 3 },
    }))
}

#[derive(Clone)]
struct Server {
    name: &'static str,
    tools: &'static [&'static str],
    stand_ins: StandIns,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(self.name, "1"))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let Value::Object(schema) = json!({ "type": "object" }) else { unreachable!("it is written so") };
        let schema = Arc::new(schema);
        let tool = |name: &&'static str| Tool::new(*name, format!("Stands in for {name}"), schema.clone());
        Ok(ListToolsResult::with_all_items(self.tools.iter().map(tool).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let key = context.meta.get("io.ordinaut/idempotency-key").and_then(Value::as_str).unwrap_or_default();
        let at = format!("{}.{}", self.name, request.name);
        let body = Value::Object(request.arguments.unwrap_or_default());
        let answer = self.stand_ins.take(Seen { at, key: key.to_owned(), body }).await;
        Ok(CallToolResult::structured(answer).into())
    }
}
