//! A server on loopback with two agents and two tools, and what the tests share to talk to it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use ordinaut_mcp::{
    auth::{Authenticate, Token, Unavailable},
    backend::{Backend, Starter},
    config::Mcp,
    http::{HttpServer, Parts, Tls},
    principal::{Principal, Scope},
    server::OrdinautServer,
    telemetry::Metrics,
};
use ordinaut_schema::id::AgentId;
use rmcp::{
    handler::server::{
        router::tool::{ToolRoute, ToolRouter},
        tool::ToolCallContext,
    },
    model::{CallToolResult, ContentBlock, JsonObject, ProgressNotificationParam, Tool},
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const ANN: &str = "token-of-ann";
pub(crate) const BOB: &str = "token-of-bob";

/// Nothing here takes so long, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The same where the program itself runs, or many clients are there.
pub(crate) const LONG: Duration = Duration::from_mins(1);

pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    pub(crate) drain: CancellationToken,
    /// A permit for each call of `hold` that may end.
    pub(crate) release: Arc<Semaphore>,
    /// A permit for each call of `hold` that began.
    pub(crate) held: Arc<Semaphore>,
    /// The transports need no services; kept, so that they count as still starting.
    _starter: Starter,
    pub(crate) serving: JoinHandle<()>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Mcp)) -> Self {
        Self::start_over(None, change).await
    }

    /// Over TLS, or not.
    pub(crate) async fn start_over(tls: Option<Tls>, change: impl FnOnce(&mut Mcp)) -> Self {
        let mut config = Mcp::default();
        change(&mut config);
        let (starter, backend) = Backend::starting("the fixture");
        let metrics = Metrics::new().unwrap();
        let drain = CancellationToken::new();
        let (release, held) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let server = OrdinautServer::guarded(backend.clone(), metrics.clone(), None)
            .with_tools(tools(release.clone(), held.clone()));
        let tokens = Arc::new(Tokens([(ANN, principal("ann")), (BOB, principal("bob"))]));
        let parts = Parts { server, backend, tokens, metrics, drain: drain.clone() };
        let http = HttpServer::new(&config, parts).with_tls(tls);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, drain, release, held, _starter: starter, serving: tokio::spawn(http.serve(listener)) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn principal(name: &str) -> Principal {
    let scopes = vec![Scope::TaskRead, Scope::TaskWrite];
    Principal { agent: AgentId::new(), name: name.to_owned(), label: "test".to_owned(), scopes }
}

struct Tokens([(&'static str, Principal); 2]);

impl Authenticate for Tokens {
    fn authenticate(&self, token: Token) -> BoxFuture<'_, Result<Option<Principal>, Unavailable>> {
        let found = self.0.iter().find(|(text, _)| *text == token.expose()).map(|(_, principal)| principal.clone());
        Box::pin(async { Ok(found) })
    }
}

/// `whoami` tells whom the server takes the caller for; `hold` answers when the test says so; `tell` tells of its progress
/// before it answers.
fn tools(release: Arc<Semaphore>, held: Arc<Semaphore>) -> ToolRouter<OrdinautServer> {
    let tool = |name: &'static str| {
        let mut schema = JsonObject::new();
        schema.insert("type".to_owned(), "object".into());
        Tool::new(name, "a fixture", Arc::new(schema))
    };
    ToolRouter::new()
        .with_route(ToolRoute::new_dyn(tool("whoami"), |call: ToolCallContext<'_, OrdinautServer>| {
            Box::pin(async move {
                let principal = call.service.principal(&call.request_context).unwrap();
                Ok(CallToolResult::success(vec![ContentBlock::text(principal.name)]).into())
            })
        }))
        .with_route(ToolRoute::new_dyn(tool("tell"), |call: ToolCallContext<'_, OrdinautServer>| {
            Box::pin(async move {
                let context = call.request_context;
                let token = context.meta.get_progress_token().unwrap();
                context.peer.notify_progress(ProgressNotificationParam::new(token, 1.0)).await.unwrap();
                Ok(CallToolResult::success(vec![ContentBlock::text("told")]).into())
            })
        }))
        .with_route(ToolRoute::new_dyn(tool("hold"), move |_call| {
            let (release, held) = (release.clone(), held.clone());
            Box::pin(async move {
                held.add_permits(1);
                release.acquire().await.unwrap().forget();
                Ok(CallToolResult::success(vec![ContentBlock::text("released")]).into())
            })
        }))
}

/// What is logged by this test's thread, which is all of a server that runs beside it.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins to keep what is logged, until the guard is dropped.
    pub(crate) fn keep() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::INFO);
        (log, tracing::subscriber::set_default(lines.with_writer(move || writer.clone()).finish()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn lines_with(&self, part: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits until `look` says so.
pub(crate) async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("not seen: {what}"));
}

/// The text of a tool's answer.
pub(crate) fn text(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

/// One client a test: building one reads every root certificate.
pub(crate) fn http() -> reqwest::Client {
    thread_local! {
        static CLIENT: reqwest::Client = {
            // The first test of a process sets it; none speaks TLS, but the client will not be built without.
            let _ = rustls::crypto::ring::default_provider().install_default();
            reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
        };
    }
    CLIENT.with(Clone::clone)
}
