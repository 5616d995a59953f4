//! `<server>.<tool>`: calls of the tools of the operator's MCP servers, over stdio and Streamable HTTP.
//!
//! What it promises: servers come from the operator's file only; one connection each, started when first needed,
//! restarted with backoff; a child knows PATH, HOME, LANG, TZ and its own `env`, and its whole process group dies with
//! the connection; `${secrets.NAME}` in `env` and `headers` is filled in at the start, if the secret is bound to the
//! server, and taken out of what the server answers; calls are bounded in time and output, and a time-out or cancellation is told to the server.
//! The idempotency key travels in `_meta` as [`IDEMPOTENCY_KEY`]. A tool that is not what was accepted of it is not
//! called (`pins`). Whether an agent may call a tool at all (grants) is decided before a call comes here.
//!
//! The file is read again within five seconds of a change: by [`McpTools::serve`], and by calls.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use ordinaut_schema::{
    action::{Effect, split_tool},
    fault::nearest,
    limits::Limits,
    run::{ErrorKind, StepFailure},
    visible::visible,
};
use ordinaut_store::{Store, StoreError, secrets::SecretVault};
use rmcp::model::{CallToolRequestParams, RequestMetaObject};
use serde_json::Value;
use tokio::{
    sync::OwnedRwLockReadGuard,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};
use uuid::Uuid;

pub use self::catalogue::SeenTool;
use self::{
    answer::Called,
    catalogue::Catalogue,
    connection::Connection,
    file::Looked,
    live::{CallFailure, Live, call_tool},
    pins::Pins,
};
use super::{Action, Answer, StepCall, http::own_limit, tls::tls};
use crate::operator::Standing;

mod answer;
mod catalogue;
mod child;
mod connection;
mod file;
mod lines;
mod live;
mod pins;
mod secrets;
mod servers;

/// The field of a call's `_meta` that carries its idempotency key.
pub const IDEMPOTENCY_KEY: &str = "io.ordinaut/idempotency-key";

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How many tools a message names.
const NAMED: usize = 20;

/// How servers are found and kept.
#[derive(Debug, Clone)]
pub struct McpSettings {
    /// The operator's file; a missing one means no servers.
    pub file: Option<PathBuf>,
    /// The values of [`PASSED_ON`](super::group::PASSED_ON).
    pub environment: BTreeMap<String, OsString>,
    pub output_bytes: usize,
    pub json_depth: usize,
    /// From the start of a server to its list of tools. Generous: `npx` downloads first.
    pub handshake_timeout: Duration,
    /// How long a server may take to end by itself, twice, before it is killed.
    pub end_grace: Duration,
    /// For `${secrets.NAME}` in `env` and `headers`.
    pub secrets: Option<SecretVault>,
    /// Where the operator says which servers are trusted; without it none is.
    pub standing: Option<Standing>,
}

impl Default for McpSettings {
    fn default() -> Self {
        Self {
            file: None,
            environment: BTreeMap::new(),
            output_bytes: Limits::DEFAULT.step_output_bytes,
            json_depth: Limits::DEFAULT.json_depth,
            handshake_timeout: Duration::from_mins(1),
            end_grace: Duration::from_secs(2),
            secrets: None,
            standing: None,
        }
    }
}

/// What all connections share.
struct Shared {
    settings: McpSettings,
    client: reqwest::Client,
    catalogue: Catalogue,
    pins: Pins,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Pool {
    connections: BTreeMap<String, Arc<Connection>>,
    /// Names in the file that cannot be used, and why.
    unusable: BTreeMap<String, String>,
}

/// Performs `<server>.<tool>`.
pub struct McpTools {
    shared: Arc<Shared>,
    pool: Mutex<Pool>,
    looked: tokio::sync::Mutex<Looked>,
}

impl std::fmt::Debug for McpTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpTools").field("file", &self.shared.settings.file).finish_non_exhaustive()
    }
}

impl McpTools {
    /// What is accepted of tools is kept in `store`, where `executor` is who reports.
    ///
    /// # Panics
    /// If the HTTP client cannot be built: a wiring mistake, caught at start-up.
    pub fn new(settings: McpSettings, store: Store, executor: Uuid) -> Self {
        // The operator chose these addresses: they are not judged, and may well be on loopback.
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .build()
            .expect("the client's settings are constants");
        let pins = Pins::new(store, executor, settings.standing.clone());
        let shared = Shared { settings, client, catalogue: Catalogue::default(), pins, tasks: TaskTracker::new() };
        Self { shared: Arc::new(shared), pool: Mutex::default(), looked: tokio::sync::Mutex::default() }
    }

    /// Reads what is accepted of tools. Before the first run is resumed: it decides what may be repeated.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.shared.pins.refresh().await
    }

    /// Writes to Postgres which servers are configured and trusted, and what each declares.
    pub async fn publish(&self) -> Result<(), StoreError> {
        let (servers, unusable) = (self.servers(), self.unusable());
        let pins = &self.shared.pins;
        pins.configure(servers.iter().map(|(name, _)| name).chain(unusable.keys()).cloned()).await?;
        let mut by_server: BTreeMap<String, Vec<SeenTool>> = BTreeMap::new();
        for tool in self.describe() {
            by_server.entry(tool.server.clone()).or_default().push(tool);
        }
        for (server, is_seen) in servers {
            if is_seen {
                pins.report(&server, Ok(by_server.remove(&server).unwrap_or_default())).await?;
            }
        }
        for (server, reason) in unusable {
            pins.report(&server, Err(reason)).await?;
        }
        Ok(())
    }

    /// Every tool seen since start-up, of the servers that are configured now.
    pub fn describe(&self) -> Vec<SeenTool> {
        self.shared.catalogue.all()
    }

    /// The usable servers, and whether their tools have been seen.
    pub fn servers(&self) -> Vec<(String, bool)> {
        let names: Vec<_> = self.lock().connections.keys().cloned().collect();
        names.into_iter().map(|name| (name.clone(), self.shared.catalogue.has(&name))).collect()
    }

    /// Names in the file that cannot be used, each with its reason.
    pub fn unusable(&self) -> BTreeMap<String, String> {
        self.lock().unusable.clone()
    }

    /// Changes its number whenever [`Self::describe`] answers differently.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.catalogue.changes()
    }

    /// Looks at the file, whenever it was looked at last.
    pub async fn look_again(&self) {
        self.look(true).await;
    }

    /// Starts every server whose tools nobody has seen yet, side by side, so that they are known before a task
    /// names them. A server that does not start says so in the log.
    pub async fn survey(&self) {
        self.look(true).await;
        self.see_unseen().await;
    }

    /// Starts those that nobody has seen yet. Whom it starts is decided now, not when the answer is awaited.
    fn see_unseen(&self) -> impl Future<Output = ()> + Send + 'static {
        let unseen: Vec<_> =
            self.lock().connections.values().filter(|it| !self.shared.catalogue.has(&it.name)).cloned().collect();
        async move {
            // Each start has its own time limit; a failure is logged by the connection.
            futures_util::future::join_all(unseen.iter().map(Connection::live)).await;
        }
    }

    /// Keeps up with the file and notices crashes, until `stop`; then ends all servers.
    pub async fn serve(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.look(true).await;
            if std::mem::take(&mut self.looked.lock().await.adopted) {
                // Beside this loop: a server that hangs in its handshake holds nothing up.
                let (unseen, stop) = (self.see_unseen(), stop.clone());
                self.shared.tasks.spawn(async move { stop.run_until_cancelled(unseen).await });
            }
            let connections: Vec<_> = self.lock().connections.values().cloned().collect();
            if connections.is_empty() {
                // Nothing can be called whose acceptance may have changed.
                continue;
            }
            for connection in connections {
                connection.sweep();
                connection.renew().await;
            }
            if let Err(error) = self.refresh().await {
                // What was read before stands; a call of anything else asks by itself.
                debug!(error = &error as &dyn std::error::Error, "could not read what is accepted of tools");
            }
        }
        self.close().await;
    }

    /// Ends every server and waits until they are gone.
    pub async fn close(&self) {
        for connection in std::mem::take(&mut *self.lock()).connections.values() {
            connection.retire();
        }
        self.shared.tasks.close();
        let most = self.shared.settings.end_grace * 2 + Duration::from_secs(1);
        if tokio::time::timeout(most, self.shared.tasks.wait()).await.is_err() {
            warn!("some MCP servers took too long to end; they are killed with the executor");
        }
    }

    /// The live connection, and the tool as its server describes it now, which is what was accepted of it.
    async fn ready(&self, connection: &Arc<Connection>, called: (&str, &str)) -> Result<Ready, StepFailure> {
        let (server, tool) = called;
        let (live, using) = loop {
            let live = connection.live().await?;
            // Not, where it was let go just now: then another one is started.
            if let Some(using) = live.used() {
                break (live, using);
            }
        };
        let listed = live.tools(server, &self.shared.catalogue).await.map_err(|why| connection.unlisted(&why))?;
        let Some(seen) = listed.iter().find(|seen| seen.tool == tool) else {
            return Err(no_tool(server, tool, &listed));
        };
        self.shared.pins.judge(seen, &listed).await?;
        Ok(Ready { live, listed, _using: using })
    }

    fn find(&self, server: &str) -> Result<Arc<Connection>, StepFailure> {
        let pool = self.lock();
        if let Some(connection) = pool.connections.get(server) {
            return Ok(connection.clone());
        }
        let message = if let Some(reason) = pool.unusable.get(server) {
            format!("the MCP server `{server}` cannot be used: {reason}")
        } else {
            let names: Vec<_> = pool.connections.keys().map(String::as_str).collect();
            match (nearest(server, names.iter().copied()), names.is_empty()) {
                (Some(near), _) => format!("no MCP server `{server}` is configured; did you mean `{near}`?"),
                (None, true) => format!("no MCP server `{server}` is configured, nor any other: `ordinaut server add`"),
                (None, false) => format!("no MCP server `{server}` is configured; there are: {}", names.join(", ")),
            }
        };
        Err(StepFailure::new(ErrorKind::ClientError, message))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().expect("never poisoned: no panic while held")
    }
}

/// A server that can be called.
struct Ready {
    live: Arc<Live>,
    listed: Arc<[SeenTool]>,
    _using: OwnedRwLockReadGuard<()>,
}

fn no_tool(server: &str, tool: &str, listed: &[SeenTool]) -> StepFailure {
    let names = || listed.iter().map(|seen| seen.tool.as_str());
    let hint = match nearest(tool, names()) {
        Some(near) => format!("did you mean `{server}.{near}`?"),
        None if listed.is_empty() => "it has none at all".to_owned(),
        None => format!("it has {}", names().take(NAMED).collect::<Vec<_>>().join(", ")),
    };
    let message = format!("the MCP server `{server}` has no tool `{tool}`; {hint}");
    StepFailure::new(ErrorKind::ClientError, visible(&message))
}

#[async_trait]
impl Action for McpTools {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let deadline = Instant::now() + own_limit(call.limit);
        let (server, tool) = call.uses.split_once('.').ok_or_else(|| {
            StepFailure::new(ErrorKind::ClientError, format!("`{}` is not of the form <server>.<tool>", call.uses))
        })?;
        let mut params = CallToolRequestParams::new(tool.to_owned());
        match call.input {
            Value::Object(arguments) => params = params.with_arguments(arguments),
            Value::Null => params = params.with_arguments(serde_json::Map::new()),
            _ => {
                let message = format!("`with` of `{}` must be an object: the tool's arguments by name", call.uses);
                return Err(StepFailure::new(ErrorKind::ClientError, message));
            }
        }
        let mut meta = RequestMetaObject::new();
        meta.insert(IDEMPOTENCY_KEY.to_owned(), Value::String(call.idempotency_key));

        self.look(false).await;
        let connection = self.find(server)?;
        let Ready { live, listed, _using } = tokio::select! {
            biased;
            ready = timeout_at(deadline, self.ready(&connection, (server, tool))) => ready.unwrap_or_else(|_elapsed| {
                let message = format!("the MCP server `{server}` was not ready after {:?}", call.limit);
                Err(StepFailure::new(ErrorKind::Connection, message))
            })?,
            () = call.cancelled.cancelled() => {
                let message = format!("the run was cancelled while the MCP server `{server}` was starting");
                return Err(StepFailure::new(ErrorKind::Cancelled, message));
            }
        };
        let known: Vec<_> = listed.iter().map(|seen| seen.tool.clone()).collect();
        let redactor = live.redactor();
        let called = Called { server, tool, known: &known, redactor };
        let limits = &self.shared.settings;
        let outcome = match call_tool(&live, params, meta, deadline, &call.cancelled).await {
            Ok(result) => {
                connection.call_succeeded();
                answer::output(&called, result, limits.output_bytes, limits.json_depth)
            }
            Err(CallFailure::NotSent) => {
                let message = format!("the MCP server `{server}` went away before `{}` was called", call.uses);
                Err(StepFailure::new(ErrorKind::Connection, message))
            }
            Err(CallFailure::Answered(error)) => Err(answer::failure(&called, &error, call.limit)),
        };
        outcome
            .map(|mut output| {
                redactor.clean(&mut output);
                Answer::Output(output)
            })
            .map_err(|failure| StepFailure { message: redactor.text(&failure.message), ..failure })
    }

    fn effect(&self, uses: &str) -> Option<Effect> {
        let (server, _tool) = split_tool(uses)?;
        self.shared.pins.effect(server, uses)
    }
}
