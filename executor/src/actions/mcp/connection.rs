//! The one connection to one MCP server: started when first needed, shared by all calls, restarted after a crash.
//!
//! ```text
//! idle ──call──▶ starting ──handshake──▶ up ──lost──▶ down (backoff) ──call──▶ starting
//!                    └──────failed──────────────────────▲
//! ```
//!
//! Starting is a task of its own, so that a caller with little time does not kill a slow server (`npx` that
//! downloads) again and again: it gives up, the server comes up, and the retry finds it. The first restart after a
//! crash is at once; then the pause doubles to a minute, until a call succeeds or the server stays up.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ordinaut_schema::run::{ErrorKind, StepFailure};
use rmcp::{
    ClientHandler, RoleClient,
    model::{
        CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest, Implementation,
        PaginatedRequestParams, ProtocolVersion, RequestMetaObject, ServerResult,
    },
    service::{
        ClientLifecycleMode, ClientServiceExt, NotificationContext, PeerRequestOptions, RunningService, ServiceError,
    },
    transport::{
        StreamableHttpClientTransport, async_rw::AsyncRwTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Shared, answer,
    catalogue::SeenTool,
    child::{Child, Start},
    servers::Launch,
};

/// A server that stayed up this long has earned an immediate restart.
const STEADY: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// One message of a server: the output limit, escaped and wrapped, and room for a long list of tools.
const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
const TOOL_PAGES: usize = 50;
/// Newer protocol versions do not announce changes by themselves.
const RELIST_AFTER: Duration = Duration::from_mins(10);

/// Our side of the conversation: offers nothing, and listens for changed tools.
struct Caller {
    tools_changed: Arc<AtomicBool>,
}

impl ClientHandler for Caller {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("ordinaut", env!("CARGO_PKG_VERSION")))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.tools_changed.store(true, Ordering::Relaxed);
    }
}

/// A server that answered the handshake.
pub(super) struct Live {
    service: RunningService<RoleClient, Caller>,
    child: Mutex<Option<Child>>,
    tools_changed: Arc<AtomicBool>,
    listed_at: Mutex<Instant>,
    started_at: Instant,
}

impl Live {
    /// `is_closed` of the service stays false after a crash; the peer knows.
    fn is_lost(&self) -> bool {
        let child = self.child.lock().expect("never poisoned: no panic while held");
        self.service.peer().is_transport_closed() || child.as_ref().is_some_and(Child::is_gone)
    }

    /// Ends the conversation, and the process behind it.
    async fn end(&self) {
        self.service.cancellation_token().cancel();
        let child = self.child.lock().expect("never poisoned: no panic while held").take();
        if let Some(child) = child {
            child.end().await;
        }
    }

    fn last_words(&self) -> Option<String> {
        self.child.lock().expect("never poisoned: no panic while held").as_ref()?.last_words()
    }
}

enum Phase {
    Idle,
    /// Closed when the start is over, either way.
    Starting(watch::Receiver<()>),
    Up(Arc<Live>),
    Down {
        until: Instant,
        failure: StepFailure,
    },
}

struct State {
    phase: Phase,
    /// Crashes and failed starts in a row.
    failures: u32,
}

/// One server of the operator's file.
pub(super) struct Connection {
    pub(super) name: String,
    pub(super) launch: Launch,
    shared: Arc<Shared>,
    state: Mutex<State>,
    retired: CancellationToken,
}

impl Connection {
    pub(super) fn new(name: String, launch: Launch, shared: Arc<Shared>) -> Arc<Self> {
        let state = Mutex::new(State { phase: Phase::Idle, failures: 0 });
        Arc::new(Self { name, launch, shared, state, retired: CancellationToken::new() })
    }

    /// The live connection, started if need be. Dropping the future does not stop a start.
    pub(super) async fn live(self: &Arc<Self>) -> Result<Arc<Live>, StepFailure> {
        let mut has_waited = false;
        loop {
            let mut starting = {
                let mut state = self.lock();
                self.notice_loss(&mut state);
                match &state.phase {
                    Phase::Up(live) => return Ok(live.clone()),
                    Phase::Down { until, failure } if has_waited || Instant::now() < *until => {
                        let pause = until.saturating_duration_since(Instant::now());
                        return Err(failure.clone().retry_after(Some(pause)));
                    }
                    Phase::Starting(starting) if !has_waited => starting.clone(),
                    Phase::Starting(_) | Phase::Idle if has_waited => {
                        return Err(self.unavailable("it was stopped", ErrorKind::Connection));
                    }
                    Phase::Idle | Phase::Down { .. } | Phase::Starting(_) => self.begin(&mut state),
                }
            };
            // Nothing is ever sent: the end of the sender is the signal.
            let _closed = starting.changed().await;
            has_waited = true;
        }
    }

    fn begin(self: &Arc<Self>, state: &mut State) -> watch::Receiver<()> {
        let (done, starting) = watch::channel(());
        state.phase = Phase::Starting(starting.clone());
        let connection = self.clone();
        self.shared.tasks.spawn(async move {
            let limit = connection.shared.settings.handshake_timeout;
            let started = tokio::select! {
                started = timeout(limit, connection.start()) => started.unwrap_or_else(|_elapsed| {
                    let why = format!("it did not answer the handshake within {limit:?}");
                    Err(connection.unavailable(&why, ErrorKind::Connection))
                }),
                () = connection.retired.cancelled() => Err(connection.unavailable("it was stopped", ErrorKind::Connection)),
            };
            connection.conclude_start(started);
            drop(done);
        });
        starting
    }

    fn conclude_start(&self, started: Result<Live, StepFailure>) {
        let mut state = self.lock();
        state.phase = match started {
            // Came up just as it was dismissed.
            Ok(live) if self.retired.is_cancelled() => {
                self.dismiss(Arc::new(live));
                return;
            }
            Ok(live) => {
                info!(server = %self.name, "MCP server `{}` is up", self.name);
                Phase::Up(Arc::new(live))
            }
            Err(failure) => {
                state.failures += 1;
                warn!(server = %self.name, failures = state.failures, "{failure}");
                Phase::Down { until: Instant::now() + pause(state.failures), failure }
            }
        };
    }

    /// Turns a connection whose other side is gone into a pause, and clears away what is left of it.
    fn notice_loss(&self, state: &mut State) {
        let Phase::Up(live) = &state.phase else { return };
        if !live.is_lost() {
            return;
        }
        state.failures = if live.started_at.elapsed() >= STEADY { 0 } else { state.failures + 1 };
        let why = match live.last_words() {
            Some(words) => format!("it went away; its last words: {words}"),
            None => "it went away".to_owned(),
        };
        let failure = self.unavailable(&why, ErrorKind::Connection);
        warn!(server = %self.name, failures = state.failures, "{failure}");
        self.dismiss(live.clone());
        state.phase = Phase::Down { until: Instant::now() + pause(state.failures.saturating_sub(1)), failure };
    }

    /// Ends `live` on the side.
    fn dismiss(&self, live: Arc<Live>) {
        self.shared.tasks.spawn(async move { live.end().await });
    }

    /// For good: the entry is gone or has changed, or the executor stops.
    pub(super) fn retire(&self) {
        self.retired.cancel();
        let mut state = self.lock();
        if let Phase::Up(live) = &state.phase {
            self.dismiss(live.clone());
        }
        state.phase = Phase::Down {
            until: Instant::now() + LONGEST_PAUSE,
            failure: self.unavailable("it was stopped", ErrorKind::Connection),
        };
    }

    /// Notices a crash that no call has met, and lists the tools again where they may have changed.
    pub(super) fn sweep(self: &Arc<Self>) {
        let live = {
            let mut state = self.lock();
            self.notice_loss(&mut state);
            match &state.phase {
                Phase::Up(live) => live.clone(),
                Phase::Idle | Phase::Starting(_) | Phase::Down { .. } => return,
            }
        };
        let is_old = {
            let mut listed_at = live.listed_at.lock().expect("never poisoned: no panic while held");
            let is_old = listed_at.elapsed() >= RELIST_AFTER;
            if is_old {
                *listed_at = Instant::now();
            }
            is_old
        };
        if live.tools_changed.swap(false, Ordering::Relaxed) || is_old {
            let connection = self.clone();
            self.shared.tasks.spawn(async move {
                let limit = connection.shared.settings.handshake_timeout;
                // A list that does not come leaves the old one standing.
                let _elapsed = timeout(limit, connection.list_tools(&live.service)).await;
            });
        }
    }

    pub(super) fn call_succeeded(&self) {
        self.lock().failures = 0;
    }

    async fn start(&self) -> Result<Live, StepFailure> {
        let tools_changed = Arc::new(AtomicBool::new(false));
        let caller = Caller { tools_changed: tools_changed.clone() };
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::LATEST],
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        let (served, child) = match &self.launch {
            Launch::Stdio { command, args, env, cwd } => {
                let environment = &self.shared.settings.environment;
                let (stdout, stdin, child) = Child::start(
                    &Start { command, args, env, cwd: cwd.as_deref(), environment },
                    self.shared.settings.end_grace,
                )
                .map_err(|error| {
                    self.unavailable(&format!("`{command}` cannot be run: {error}"), ErrorKind::Connection)
                })?;
                let transport = AsyncRwTransport::new_client(stdout, stdin).with_max_line_length(MESSAGE_BYTES);
                (caller.serve_with_lifecycle(transport, lifecycle).await, Some(child))
            }
            Launch::Http { url, headers } => {
                let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                    .custom_headers(headers.clone())
                    .max_sse_event_size(MESSAGE_BYTES)
                    .max_json_response_size(MESSAGE_BYTES);
                let transport = StreamableHttpClientTransport::with_client(self.shared.client.clone(), config);
                (caller.serve_with_lifecycle(transport, lifecycle).await, None)
            }
        };
        let service = served.map_err(|error| {
            debug!(server = %self.name, error = &error as &dyn std::error::Error, "handshake failed");
            let (mut why, kind) = answer::handshake(&error);
            if let Some(words) = child.as_ref().and_then(Child::last_words) {
                why = format!("{why}; its last words: {words}");
            }
            self.unavailable(&why, kind)
        })?;
        let now = Instant::now();
        let live =
            Live { service, child: Mutex::new(child), tools_changed, listed_at: Mutex::new(now), started_at: now };
        self.list_tools(&live.service).await;
        Ok(live)
    }

    /// Writes the server's tools to the catalogue.
    async fn list_tools(&self, service: &RunningService<RoleClient, Caller>) {
        if service.peer().peer_info().is_some_and(|info| info.capabilities.tools.is_none()) {
            self.shared.catalogue.put(&self.name, Vec::new());
            return;
        }
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..TOOL_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor.take());
            match service.peer().list_tools(Some(params)).await {
                Ok(page) => {
                    tools.extend(page.tools.iter().map(|tool| SeenTool::new(&self.name, tool)));
                    cursor = page.next_cursor;
                }
                Err(error) => {
                    let error = answer::quoted(&error.to_string());
                    warn!(server = %self.name, "MCP server `{}` did not list its tools: {error}", self.name);
                    return;
                }
            }
            if cursor.is_none() {
                break;
            }
        }
        self.shared.catalogue.put(&self.name, tools);
    }

    fn unavailable(&self, why: &str, kind: ErrorKind) -> StepFailure {
        StepFailure::new(kind, format!("the MCP server `{}` is not available: {why}", self.name))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("never poisoned: no panic while held")
    }
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => Duration::from_secs(1 << doublings.min(6)).min(LONGEST_PAUSE),
    }
}

/// Calls one tool. A time-out or a cancellation is told to the server.
pub(super) async fn call_tool(
    live: &Live,
    params: CallToolRequestParams,
    meta: RequestMetaObject,
    deadline: Instant,
    cancelled: &CancellationToken,
) -> Result<ServerResult, CallFailure> {
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let options = PeerRequestOptions::no_options().with_meta(meta);
    // Fails only while the request is still ours.
    let mut call =
        live.service.peer().send_cancellable_request(request, options).await.map_err(|_| CallFailure::NotSent)?;
    let (reason, failure) = tokio::select! {
        biased;
        answer = &mut call.rx => {
            return answer.unwrap_or(Err(ServiceError::TransportClosed)).map_err(CallFailure::Answered);
        }
        () = cancelled.cancelled() => ("the run was cancelled", ServiceError::Cancelled { reason: None }),
        () = tokio::time::sleep_until(deadline) => {
            ("the step timed out", ServiceError::Timeout { timeout: Duration::ZERO })
        }
    };
    // A courtesy: a server that does not take it in time is not waited for.
    let _told = timeout(Duration::from_millis(200), call.cancel(Some(reason.to_owned()))).await;
    Err(CallFailure::Answered(failure))
}

/// Where a call failed.
pub(super) enum CallFailure {
    NotSent,
    Answered(ServiceError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_the_first_is_none() {
        let pauses: Vec<_> = (0..10).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
