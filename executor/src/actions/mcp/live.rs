//! One conversation with one running MCP server: handshake, list of tools, calls.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ordinaut_schema::{run::ErrorKind, secret::Redactor};
use ordinaut_store::secrets::OpenSecret;
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
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Shared, answer,
    catalogue::{Catalogue, SeenTool},
    child::{Child, Start},
    lines::Lines,
    secrets,
    servers::Launch,
};

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
    /// Takes the secrets that it was started with out of what it says.
    redactor: Redactor,
}

/// Why a server could not be opened: an end of "the MCP server `x` is not available: …".
pub(super) struct Unopened {
    pub(super) why: String,
    pub(super) kind: ErrorKind,
    /// It was there, and the handshake failed.
    pub(super) is_protocol: bool,
}

impl Live {
    /// Starts a child or a session, and shakes hands. Takes as long as it takes: the caller has the limit.
    pub(super) async fn open(name: &str, launch: &Launch, shared: &Shared, is_legacy: bool) -> Result<Self, Unopened> {
        let tools_changed = Arc::new(AtomicBool::new(false));
        let caller = Caller { tools_changed: tools_changed.clone() };
        let lifecycle = if is_legacy {
            ClientLifecycleMode::Initialize
        } else {
            ClientLifecycleMode::Auto {
                preferred_versions: vec![ProtocolVersion::LATEST],
                legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
            }
        };
        let (launch, secrets) = secrets::fill(shared.settings.secrets.as_ref(), name, launch)
            .await
            .map_err(|failure| Unopened { why: failure.message, kind: failure.kind, is_protocol: false })?;
        let redactor = OpenSecret::redactor(&secrets);
        let (served, child) = match &launch {
            Launch::Stdio { command, args, env, cwd } => {
                let environment = &shared.settings.environment;
                let start = Start { command, args, env, cwd: cwd.as_deref(), environment };
                let (stdout, stdin, child) =
                    Child::start(&start, shared.settings.end_grace).map_err(|error| Unopened {
                        why: format!("`{command}` cannot be run: {error}"),
                        kind: ErrorKind::Connection,
                        is_protocol: false,
                    })?;
                let transport = AsyncRwTransport::new_client(Lines::of(stdout, MESSAGE_BYTES), stdin);
                (caller.serve_with_lifecycle(transport, lifecycle).await, Some(child))
            }
            Launch::Http { url, headers } => {
                let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                    .custom_headers(headers.clone())
                    .max_sse_event_size(MESSAGE_BYTES)
                    .max_json_response_size(MESSAGE_BYTES);
                let transport = StreamableHttpClientTransport::with_client(shared.client.clone(), config);
                (caller.serve_with_lifecycle(transport, lifecycle).await, None)
            }
        };
        let service = served.map_err(|error| {
            debug!(server = %name, error = &error as &dyn std::error::Error, "handshake failed");
            let mut unopened = answer::handshake(&error, &redactor);
            if let Some(words) = child.as_ref().and_then(|child| child.last_words(&redactor)) {
                unopened.why = format!("{}; its last words: {words}", unopened.why);
            }
            unopened
        })?;
        let now = Instant::now();
        Ok(Self {
            service,
            child: Mutex::new(child),
            tools_changed,
            listed_at: Mutex::new(now),
            started_at: now,
            redactor,
        })
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    pub(super) fn is_legacy(&self) -> bool {
        self.service.peer().peer_info().is_some_and(|info| info.protocol_version.has_initialize())
    }

    pub(super) fn age(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// Whether the tools may have changed since they were listed; says so once.
    pub(super) fn should_list_again(&self) -> bool {
        let mut listed_at = self.listed_at.lock().expect("never poisoned: no panic while held");
        let is_due = self.tools_changed.swap(false, Ordering::Relaxed) || listed_at.elapsed() >= RELIST_AFTER;
        if is_due {
            *listed_at = Instant::now();
        }
        is_due
    }

    /// Writes the server's tools to the catalogue.
    pub(super) async fn list_tools(&self, name: &str, catalogue: &Catalogue) {
        let peer = self.service.peer();
        if peer.peer_info().is_some_and(|info| info.capabilities.tools.is_none()) {
            catalogue.put(name, Vec::new());
            return;
        }
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..TOOL_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor.take());
            match peer.list_tools(Some(params)).await {
                Ok(page) => {
                    tools.extend(page.tools.iter().map(|tool| {
                        let mut tool = SeenTool::new(name, tool);
                        tool.description = self.redactor.text(&tool.description);
                        self.redactor.clean(&mut tool.input_schema);
                        tool
                    }));
                    cursor = page.next_cursor;
                }
                Err(error) => {
                    let error = answer::quoted(&error.to_string(), &self.redactor);
                    warn!(server = %name, "MCP server `{name}` did not list its tools: {error}");
                    return;
                }
            }
            if cursor.is_none() {
                break;
            }
        }
        catalogue.put(name, tools);
    }

    /// `is_closed` of the service stays false after a crash; the peer knows.
    pub(super) fn is_lost(&self) -> bool {
        let child = self.child();
        self.service.peer().is_transport_closed() || child.as_ref().is_some_and(Child::is_gone)
    }

    /// Ends the conversation, and the process behind it.
    pub(super) async fn end(&self) {
        self.service.cancellation_token().cancel();
        let child = self.child().take();
        if let Some(child) = child {
            child.end().await;
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().expect("never poisoned: no panic while held")
    }

    pub(super) fn last_words(&self) -> Option<String> {
        self.child().as_ref()?.last_words(&self.redactor)
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
