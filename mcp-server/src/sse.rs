//! HTTP+SSE, the transport of revision 2024-11-05: `GET /sse` and `POST /messages`.
//!
//! The SDK no longer has it on the server's side, so the pair of endpoints is here; the SDK serves what flows
//! between them. A session belongs to the agent that opened it and lives as long as its stream: when the response
//! body is dropped, by the client or by us, the session is gone. The client is never waited for: a queue that is
//! full, by count or by bytes, closes the session, because answers that nobody reads have no other end.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Write as _,
    future::ready,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use ordinaut_schema::id::AgentId;
use rmcp::{
    RoleServer, ServiceExt,
    model::{ClientJsonRpcMessage, ProtocolVersion, ServerJsonRpcMessage},
    transport::Transport,
};
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, info, info_span, warn};

use crate::{
    principal::Principal,
    quota::{Quota, Seat},
    server::OrdinautServer,
};

/// Messages that may wait for a client, and calls that may wait for the server.
const QUEUE: usize = 64;
/// What the messages that wait for a client may come to, but for one.
const QUEUE_BYTES: usize = 1024 * 1024;
/// How long `POST /messages` waits for room before it answers 503.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// The pair of endpoints.
#[derive(Debug, Clone)]
pub struct SseEndpoint {
    server: OrdinautServer,
    sessions: Sessions,
    quota: Arc<Quota>,
    settings: Arc<Settings>,
    drain: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// What stands before `/messages` in the endpoint that clients are told; empty or `/something`.
    pub base_path: String,
    pub initialize_timeout: Duration,
    pub keep_alive: Duration,
}

#[derive(Debug, Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    agent: AgentId,
    inbox: mpsc::Sender<ClientJsonRpcMessage>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Every change is one insert or one remove, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SseEndpoint {
    /// `drain` ends the streams; `tasks` holds the sessions until they have ended.
    pub fn new(
        server: OrdinautServer,
        quota: Arc<Quota>,
        settings: Settings,
        drain: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            server: server.up_to(&ProtocolVersion::V_2025_11_25),
            sessions: Sessions::default(),
            quota,
            settings: Arc::new(settings),
            drain,
            tasks,
        }
    }

    /// Opens a session; the stream starts with the endpoint to post to.
    fn open(&self, principal: Principal, seat: Seat) -> Body {
        let id = session_id();
        let agent = principal.agent;
        info!(agent.id = %agent, agent.name = principal.name, token.label = principal.label, "session opened");
        let (inbox_sender, inbox) = mpsc::channel(QUEUE);
        let (outbox, outgoing) = mpsc::channel(QUEUE);
        let closing = self.drain.child_token();
        let broken = CancellationToken::new();
        let abort = CancellationToken::new();
        let entry = Entry { agent, inbox: inbox_sender };
        self.sessions.lock().insert(id.clone(), entry);

        let waiting = Arc::new(AtomicUsize::new(0));
        let link = Link { outbox, waiting: waiting.clone(), inbox, closing: closing.clone(), broken: broken.clone() };
        self.tasks.spawn(
            serve(self.server.for_session(), link, self.settings.initialize_timeout, abort.clone())
                .instrument(info_span!("sse_session", agent = %agent)),
        );

        let endpoint = format!("{}/messages?session_id={id}", self.settings.base_path);
        let endpoint = event("endpoint", &endpoint);
        let mut keep_alive = interval_at(Instant::now() + self.settings.keep_alive, self.settings.keep_alive);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let feed = Feed {
            outgoing,
            waiting,
            keep_alive,
            broken,
            _end: SessionEnd { id, sessions: self.sessions.clone(), closing, abort, principal, _seat: seat },
        };
        let rest = stream::unfold(feed, |mut feed| async move { feed.next().await.map(|bytes| (bytes, feed)) });
        Body::from_stream(stream::once(ready(endpoint)).chain(rest).map(Ok::<_, Infallible>))
    }
}

/// `GET /sse`.
pub(crate) async fn connect(
    State(endpoint): State<SseEndpoint>,
    Extension(principal): Extension<Principal>,
) -> Response {
    if endpoint.drain.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "this server is shutting down").into_response();
    }
    let seat = match endpoint.quota.admit(principal.agent, Instant::now()) {
        Ok(seat) => seat,
        Err(full) => return full.into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, endpoint.open(principal, seat)).into_response()
}

#[derive(Debug, Deserialize)]
pub(crate) struct Address {
    #[serde(default)]
    session_id: String,
}

/// `POST /messages?session_id=…`.
pub(crate) async fn post(
    State(endpoint): State<SseEndpoint>,
    Query(address): Query<Address>,
    Extension(principal): Extension<Principal>,
    parts: Parts,
    body: Bytes,
) -> Response {
    let entry = endpoint.sessions.lock().get(&address.session_id).cloned();
    // Another agent's session is answered like one that does not exist.
    let Some(entry) = entry.filter(|entry| entry.agent == principal.agent) else {
        return (StatusCode::NOT_FOUND, "no such session; open one with GET /sse").into_response();
    };
    let mut message: ClientJsonRpcMessage = match serde_json::from_slice(&body) {
        Ok(message) => message,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, format!("the body is not one JSON-RPC message: {error}")).into_response();
        }
    };
    message.insert_extension(parts);
    match entry.inbox.send_timeout(message, ROOM_TIMEOUT).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "this session has too many calls in hand").into_response()
        }
        Err(mpsc::error::SendTimeoutError::Closed(_)) => {
            (StatusCode::NOT_FOUND, "this session has ended; open another with GET /sse").into_response()
        }
    }
}

/// Serves one session to its end.
async fn serve(server: OrdinautServer, link: Link, initialize_timeout: Duration, abort: CancellationToken) {
    match timeout(initialize_timeout, server.serve_with_ct(link, abort)).await {
        Err(_elapsed) => debug!("no initialize in time; the session is closed"),
        Ok(Err(error)) => debug!(%error, "the session ended before it was initialized"),
        Ok(Ok(running)) => {
            if let Err(error) = running.waiting().await {
                warn!(%error, "the session's task failed");
            }
        }
    }
}

/// The server's end of a session.
struct Link {
    outbox: mpsc::Sender<Bytes>,
    /// Bytes in it.
    waiting: Arc<AtomicUsize>,
    inbox: mpsc::Receiver<ClientJsonRpcMessage>,
    /// No more is read; what is in hand is answered.
    closing: CancellationToken,
    /// The client does not read; nothing more is sent.
    broken: CancellationToken,
}

/// Why a message could not be queued for a client.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the client does not read its stream; the session is closed")]
    Full,
    #[error("the client is gone")]
    Gone,
}

impl Transport<RoleServer> for Link {
    type Error = SendError;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        let text = serde_json::to_string(&message).expect("a JSON-RPC message has string keys");
        ready(self.queue(event("message", &text)))
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {
                // Whoever posts from here on is told that the session has ended, instead of waiting for room.
                self.inbox.close();
                None
            }
            message = self.inbox.recv() => message,
        }
    }

    async fn close(&mut self) -> Result<(), SendError> {
        self.inbox.close();
        Ok(())
    }
}

impl Link {
    fn queue(&mut self, event: Bytes) -> Result<(), SendError> {
        let bytes = event.len();
        // One alone may be as long as an answer may be.
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before + bytes <= QUEUE_BYTES;
        let queued = if fits { self.outbox.try_send(event) } else { Err(mpsc::error::TrySendError::Full(event)) };
        queued.map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => SendError::Gone,
            mpsc::error::TrySendError::Full(_) => {
                self.broken.cancel();
                self.closing.cancel();
                self.inbox.close();
                SendError::Full
            }
        })
    }
}

/// The client's end of a session: what its response body reads from.
struct Feed {
    outgoing: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
    keep_alive: Interval,
    broken: CancellationToken,
    _end: SessionEnd,
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            () = self.broken.cancelled() => None,
            event = self.outgoing.recv() => event.inspect(|event| {
                self.waiting.fetch_sub(event.len(), Ordering::Relaxed);
            }),
            _ = self.keep_alive.tick() => Some(Bytes::from_static(b": keep-alive\n\n")),
        }
    }
}

/// Forgets the session when its response body is dropped.
struct SessionEnd {
    id: String,
    sessions: Sessions,
    closing: CancellationToken,
    /// Gives up calls in hand: whoever asked is gone, or has had its last answer.
    abort: CancellationToken,
    principal: Principal,
    _seat: Seat,
}

impl Drop for SessionEnd {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
        self.closing.cancel();
        self.abort.cancel();
        let Principal { agent, name, label, .. } = &self.principal;
        info!(agent.id = %agent, agent.name = name, token.label = label, "session closed");
    }
}

/// 128 random bits: whoever knows it may still not post without the same principal.
fn session_id() -> String {
    let mut text = String::with_capacity(32);
    for byte in rand::random::<[u8; 16]>() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

/// One event; JSON and our own paths have no line breaks.
fn event(name: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_holds_so_many_bytes_and_one_answer_however_long() {
        let (outbox, mut outgoing) = mpsc::channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (_inbox, inbox) = mpsc::channel(QUEUE);
        let (closing, broken) = (CancellationToken::new(), CancellationToken::new());
        let mut link = Link { outbox, waiting: waiting.clone(), inbox, closing, broken: broken.clone() };
        link.queue(Bytes::from(vec![b'x'; 2 * QUEUE_BYTES])).unwrap();
        waiting.fetch_sub(outgoing.recv().await.unwrap().len(), Ordering::Relaxed);
        for _ in 0..4 {
            link.queue(Bytes::from(vec![b'x'; QUEUE_BYTES / 4])).unwrap();
        }
        assert!(!broken.is_cancelled());
        assert!(matches!(link.queue(Bytes::from_static(b"x")), Err(SendError::Full)));
        assert!(broken.is_cancelled());
    }
}
