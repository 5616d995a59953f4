//! One conversation with one running MCP server: handshake, list of tools, calls.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use ordinaut_schema::{run::ErrorKind, secret::Redactor};
use ordinaut_store::secrets::OpenSecret;
use rmcp::{
    ClientHandler, RoleClient,
    model::{
        CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest, Implementation,
        ListToolsRequest, ListToolsResult, PaginatedRequestParams, ProtocolVersion, RequestMetaObject, ServerResult,
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
    sync::{OwnedRwLockReadGuard, RwLock},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Shared, answer,
    catalogue::{Catalogue, SeenTool, settled},
    child::{Child, Start},
    lines::Lines,
    secrets,
    servers::Launch,
};
use crate::actions::store_failure;

/// One message of a server: the output limit, escaped and wrapped, and room for a long list of tools.
const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
const TOOL_PAGES: usize = 50;
/// Listed again after this long even by a server that announces changes.
const RELIST_AFTER: Duration = Duration::from_mins(10);
/// How long the list of a server that does not announce changes is believed before a call, whatever the server says of
/// how long it holds.
const UNANNOUNCED: Duration = Duration::from_secs(5);

/// Our side of the conversation: offers nothing, and listens for changed tools.
struct Caller {
    changes: Arc<AtomicU64>,
}

/// What a server listed.
struct Listed {
    tools: Arc<[SeenTool]>,
    at: Instant,
    /// How long it is believed, unless changes are announced.
    holds: Duration,
    /// How many changes had been announced when it was asked for.
    changes: u64,
}

impl ClientHandler for Caller {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("ordinaut", env!("CARGO_PKG_VERSION")))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

/// A server that answered the handshake.
pub(super) struct Live {
    service: RunningService<RoleClient, Caller>,
    child: Mutex<Option<Child>>,
    /// How many times it has announced that its tools changed.
    changes: Arc<AtomicU64>,
    /// Held while the tools are being listed: who comes meanwhile takes that list.
    listed: tokio::sync::Mutex<Option<Listed>>,
    /// When the sweep looked at the tools last, and after how many changes.
    swept: Mutex<(Instant, u64)>,
    started_at: Instant,
    /// When the secrets that it was started with had been set.
    secrets_set_at: BTreeMap<String, Timestamp>,
    /// Held by calls to read, by whoever ends the conversation after them to write.
    in_use: Arc<RwLock<()>>,
    /// Takes the secrets that it was started with, and credentials of the file itself, out of what it says.
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
        let changes = Arc::new(AtomicU64::new(0));
        let caller = Caller { changes: changes.clone() };
        let lifecycle = if is_legacy {
            ClientLifecycleMode::Initialize
        } else {
            ClientLifecycleMode::Auto {
                preferred_versions: vec![ProtocolVersion::LATEST],
                legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
            }
        };
        // Before they are read: one that is set in between only has the server started once more.
        let set_at = shared.pins.secrets_set_at(&secrets::names(launch)).await;
        let secrets_set_at = set_at.map_err(|error| Unopened {
            why: store_failure(&error).message,
            kind: ErrorKind::Connection,
            is_protocol: false,
        })?;
        let literals = secrets::literals(launch);
        let (launch, secrets) = secrets::fill(shared.settings.secrets.as_ref(), name, launch)
            .await
            .map_err(|failure| Unopened { why: failure.message, kind: failure.kind, is_protocol: false })?;
        let mut redactor = OpenSecret::redactor(&secrets);
        for credential in &literals {
            redactor.add("", credential);
        }
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
            changes,
            listed: tokio::sync::Mutex::default(),
            swept: Mutex::new((now, 0)),
            started_at: now,
            secrets_set_at,
            in_use: Arc::default(),
            redactor,
        })
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    pub(super) fn is_legacy(&self) -> bool {
        self.service.peer().peer_info().is_some_and(|info| info.protocol_version.has_initialize())
    }

    pub(super) fn secrets_set_at(&self) -> &BTreeMap<String, Timestamp> {
        &self.secrets_set_at
    }

    /// Keeps the conversation going for a call; nothing once it is to end.
    pub(super) fn used(&self) -> Option<OwnedRwLockReadGuard<()>> {
        self.in_use.clone().try_read_owned().ok()
    }

    /// Waits until no call uses it; from the first wait on, none begins to.
    pub(super) async fn until_unused(&self) {
        drop(self.in_use.write().await);
    }

    pub(super) fn age(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// Whether the tools should be listed again though nobody calls one; says so once.
    pub(super) fn should_list_again(&self) -> bool {
        let mut swept = self.swept.lock().expect("never poisoned: no panic while held");
        let changes = self.changes.load(Ordering::SeqCst);
        let is_due = swept.1 != changes || swept.0.elapsed() >= RELIST_AFTER;
        if is_due {
            *swept = (Instant::now(), changes);
        }
        is_due
    }

    /// The server's tools as they are now: listed again where changes were announced, or where a server that announces
    /// none was last asked a while ago. They go to the catalogue, too.
    ///
    /// # Errors
    /// It did not list them, and why. Nobody can say then what a call would be of.
    pub(super) async fn tools(&self, name: &str, catalogue: &Catalogue) -> Result<Arc<[SeenTool]>, String> {
        let mut listed = self.listed.lock().await;
        let changes = self.changes.load(Ordering::SeqCst);
        if let Some(listed) = &*listed
            && listed.changes == changes
            && listed.at.elapsed() < listed.holds
        {
            return Ok(listed.tools.clone());
        }
        let at = Instant::now();
        let (tools, holds) = self.list(name).await.map_err(|error| answer::quoted(&error, &self.redactor))?;
        let tools = settled(tools);
        catalogue.put(name, &tools);
        let tools: Arc<[SeenTool]> = tools.into();
        *listed = Some(Listed { tools: tools.clone(), at, holds, changes });
        Ok(tools)
    }

    /// Asks for the tools, page by page, and for how long the answer holds.
    async fn list(&self, name: &str) -> Result<(Vec<SeenTool>, Duration), String> {
        let peer = self.service.peer();
        let (has_tools, announces) = peer.peer_info().map_or((true, false), |info| {
            let announces = info.capabilities.tools.as_ref().and_then(|tools| tools.list_changed).unwrap_or(false);
            // Newer protocol versions announce only to who subscribes.
            (info.capabilities.tools.is_some(), announces && info.protocol_version.has_initialize())
        });
        let holds = if announces { RELIST_AFTER } else { UNANNOUNCED };
        let mut tools = Vec::new();
        if !has_tools {
            return Ok((tools, holds));
        }
        let mut cursor = None;
        for _ in 0..TOOL_PAGES {
            let page = self.page(cursor.take()).await?;
            tools.extend(page.tools.iter().map(|tool| {
                let mut tool = SeenTool::new(name, tool);
                tool.description = self.redactor.text(&tool.description);
                self.redactor.clean(&mut tool.input_schema);
                tool
            }));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok((tools, holds));
            }
        }
        warn!(server = %name, "MCP server `{name}` has more than {TOOL_PAGES} pages of tools; the rest is left out");
        Ok((tools, holds))
    }

    /// Asked as a bare request: the client's own verb answers from a cache, for as long as the server wishes, and falls
    /// back to it when the server answers with an error.
    async fn page(&self, cursor: Option<String>) -> Result<ListToolsResult, String> {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let request = ListToolsRequest { params: Some(params), ..ListToolsRequest::default() };
        match self.service.peer().send_request(ClientRequest::ListToolsRequest(request)).await {
            Ok(ServerResult::ListToolsResult(page)) => Ok(page),
            Ok(_) => Err("it answered with something that is no list of tools".to_owned()),
            Err(error) => Err(error.to_string()),
        }
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
