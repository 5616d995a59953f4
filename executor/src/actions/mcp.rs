//! `<server>.<tool>`: calls of the tools of the operator's MCP servers, over stdio and Streamable HTTP.
//!
//! What it promises: servers come from the operator's file only; one connection each, started when first needed,
//! restarted with backoff; a child knows PATH, HOME, LANG and its own `env`, and its whole process group dies with
//! the connection; `${secrets.NAME}` in `env` and `headers` is filled in at the start, if the secret is bound to the
//! server, and taken out of what the server answers; calls are bounded in time and output, and a time-out or cancellation is told to the server.
//! The idempotency key travels in `_meta` as [`IDEMPOTENCY_KEY`]. Whether an agent may call a tool (grants), and
//! whether a changed tool is accepted, is decided before a call comes here; [`McpTools::describe`] says what was seen.
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
    fault::nearest,
    limits::Limits,
    run::{ErrorKind, StepFailure},
};
use ordinaut_store::secrets::SecretVault;
use rmcp::model::{CallToolRequestParams, RequestMetaObject};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

pub use self::catalogue::SeenTool;
use self::{
    answer::Called,
    catalogue::Catalogue,
    connection::Connection,
    live::{CallFailure, call_tool},
    servers::Entry,
};
use super::{Action, Answer, StepCall, http::own_limit, tls::tls};

mod answer;
mod catalogue;
mod child;
mod connection;
mod live;
mod secrets;
mod servers;

/// The field of a call's `_meta` that carries its idempotency key.
pub const IDEMPOTENCY_KEY: &str = "io.ordinaut/idempotency-key";

/// What of the executor's own environment a server may see.
pub const PASSED_ON: [&str; 3] = ["PATH", "HOME", "LANG"];

const LOOK_EVERY: Duration = Duration::from_secs(2);
const FILE_BYTES: u64 = 1024 * 1024;

/// How servers are found and kept.
#[derive(Debug, Clone)]
pub struct McpSettings {
    /// The operator's file; a missing one means no servers.
    pub file: Option<PathBuf>,
    /// The values of [`PASSED_ON`].
    pub environment: BTreeMap<String, OsString>,
    pub output_bytes: usize,
    pub json_depth: usize,
    /// From the start of a server to its list of tools. Generous: `npx` downloads first.
    pub handshake_timeout: Duration,
    /// How long a server may take to end by itself, twice, before it is killed.
    pub end_grace: Duration,
    /// For `${secrets.NAME}` in `env` and `headers`.
    pub secrets: Option<SecretVault>,
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
        }
    }
}

/// What all connections share.
struct Shared {
    settings: McpSettings,
    client: reqwest::Client,
    catalogue: Catalogue,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Pool {
    connections: BTreeMap<String, Arc<Connection>>,
    /// Names in the file that cannot be used, and why.
    unusable: BTreeMap<String, String>,
}

/// What was last read of the file, and when.
#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    text: Option<String>,
    /// Said once, not at every look.
    fault: Option<String>,
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
    /// # Panics
    /// If the HTTP client cannot be built: a wiring mistake, caught at start-up.
    pub fn new(settings: McpSettings) -> Self {
        // The operator chose these addresses: they are not judged, and may well be on loopback.
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .build()
            .expect("the client's settings are constants");
        let shared = Shared { settings, client, catalogue: Catalogue::default(), tasks: TaskTracker::new() };
        Self { shared: Arc::new(shared), pool: Mutex::default(), looked: tokio::sync::Mutex::default() }
    }

    /// Every tool seen since start-up, of the servers that are configured now. The executor writes it to
    /// `action_catalog`.
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

    /// Starts every server whose tools nobody has seen yet, side by side, so that they are known before a task
    /// names them. A server that does not start says so in the log.
    pub async fn survey(&self) {
        self.look(true).await;
        let unseen: Vec<_> =
            self.lock().connections.values().filter(|it| !self.shared.catalogue.has(&it.name)).cloned().collect();
        // Each start has its own time limit; a failure is logged by the connection.
        futures_util::future::join_all(unseen.iter().map(Connection::live)).await;
    }

    /// Keeps up with the file and notices crashes, until `stop`; then ends all servers.
    pub async fn serve(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.look(true).await;
            let connections: Vec<_> = self.lock().connections.values().cloned().collect();
            for connection in connections {
                connection.sweep();
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

    /// Reads the file again if the last look is old, or `now`.
    async fn look(&self, now: bool) {
        let Some(file) = &self.shared.settings.file else { return };
        let mut looked = self.looked.lock().await;
        if !now && looked.at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        looked.at = Some(Instant::now());
        let text = match read(file).await {
            Ok(text) => text,
            Err(error) => {
                let fault = error.to_string();
                if looked.fault.as_ref() != Some(&fault) {
                    warn!(path = %file.display(), "the file of MCP servers cannot be read: {fault}");
                }
                looked.fault = Some(fault);
                return;
            }
        };
        looked.fault = None;
        if looked.text.as_ref() == Some(&text) {
            return;
        }
        match servers::parse(&text) {
            Ok(entries) => self.adopt(entries),
            // Someone may be in the middle of editing it: what was read before stands.
            Err(error) => warn!(path = %file.display(), "the file of MCP servers cannot be used: {error}"),
        }
        looked.text = Some(text);
    }

    /// Keeps connections whose entry is unchanged, retires the others.
    fn adopt(&self, entries: BTreeMap<String, Entry>) {
        let mut pool = self.lock();
        let mut previous = std::mem::take(&mut *pool).connections;
        for (name, entry) in entries {
            match entry {
                Entry::Usable(launch) => {
                    let kept = previous.remove(&name).filter(|connection| {
                        let is_same = connection.launch == launch;
                        if !is_same {
                            connection.retire();
                            self.shared.catalogue.remove(&name);
                        }
                        is_same
                    });
                    let connection = kept.unwrap_or_else(|| Connection::new(name.clone(), launch, self.shared.clone()));
                    pool.connections.insert(name, connection);
                }
                Entry::Unusable(reason) => {
                    warn!(server = %name, "the MCP server `{name}` cannot be used: {reason}");
                    pool.unusable.insert(name, reason);
                }
            }
        }
        for (name, connection) in previous {
            connection.retire();
            self.shared.catalogue.remove(&name);
        }
        info!(servers = pool.connections.len(), "MCP servers: {:?}", pool.connections.keys().collect::<Vec<_>>());
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

/// A missing file is an empty one.
async fn read(file: &PathBuf) -> std::io::Result<String> {
    match tokio::fs::metadata(file).await {
        Ok(found) if found.len() > FILE_BYTES => {
            Err(std::io::Error::other(format!("it is larger than {FILE_BYTES} bytes")))
        }
        Ok(_) => tokio::fs::read_to_string(file).await,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
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
        let live = tokio::select! {
            biased;
            live = timeout_at(deadline, connection.live()) => live.unwrap_or_else(|_elapsed| {
                let message = format!("the MCP server `{server}` was still starting after {:?}", call.limit);
                Err(StepFailure::new(ErrorKind::Connection, message))
            })?,
            () = call.cancelled.cancelled() => {
                let message = format!("the run was cancelled while the MCP server `{server}` was starting");
                return Err(StepFailure::new(ErrorKind::Cancelled, message));
            }
        };
        let known = self.shared.catalogue.names(server);
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
}
