//! Streamable HTTP: the SDK's service, with sessions that belong to somebody.
//!
//! The SDK accepts any known `Mcp-Session-Id` from anybody and opens any number of sessions. Here each request
//! sees the session manager through [`AgentSessions`], in which other agents' sessions do not exist: the SDK itself
//! then answers 404. Sessions are the revisions' up to 2025-11-25; a 2026-07-28 request has none.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt};
use ordinaut_schema::id::AgentId;
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::{
        StreamableHttpServerConfig, StreamableHttpService, WorkerTransport,
        streamable_http_server::session::{
            ServerSseMessage, SessionId, SessionManager,
            local::{LocalSessionManager, LocalSessionManagerError, LocalSessionWorker},
        },
    },
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Mcp,
    principal::Principal,
    quota::{Full, Quota, Seat},
    server::OrdinautServer,
};

const SESSION_HEADER: &str = "mcp-session-id";
/// What a request is about, which the SDK checks against its body.
const METHOD_HEADER: &str = "mcp-method";
/// A call whose answer ends when somebody ends it.
const LISTEN: &str = "subscriptions/listen";

/// How long a listener's stream may take to end in order.
const FAREWELL: Duration = Duration::from_secs(1);

/// The endpoint `/mcp`.
#[derive(Debug, Clone)]
pub struct StreamableEndpoint {
    server: OrdinautServer,
    sessions: Arc<Sessions>,
    config: StreamableHttpServerConfig,
    drain: CancellationToken,
    exchanges: TaskTracker,
}

/// What ends streams.
#[derive(Debug, Clone)]
pub struct Ends {
    /// Those that only listen.
    pub drain: CancellationToken,
    /// Every one.
    pub abort: CancellationToken,
}

#[derive(Debug)]
struct Sessions {
    all: LocalSessionManager,
    owners: Mutex<HashMap<SessionId, Owner>>,
    quota: Arc<Quota>,
}

#[derive(Debug)]
struct Owner {
    agent: AgentId,
    _seat: Seat,
}

impl StreamableEndpoint {
    /// `exchanges` holds a token for each call whose answer is still being sent.
    pub fn new(server: OrdinautServer, quota: Arc<Quota>, config: &Mcp, ends: Ends, exchanges: TaskTracker) -> Self {
        let initialize_timeout = config.initialize_timeout;
        // Host and Origin are the guard's, for both transports.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_max_request_body_bytes(config.body_bytes)
            .with_sse_keep_alive(Some(config.keep_alive))
            .with_cancellation_token(ends.abort);
        let mut all = LocalSessionManager::default();
        all.session_config.init_timeout = Some(initialize_timeout);
        let sessions = Sessions { all, owners: Mutex::default(), quota };
        Self { server, sessions: Arc::new(sessions), config, drain: ends.drain, exchanges }
    }
}

/// `/mcp`, every method.
pub(crate) async fn serve(
    State(endpoint): State<StreamableEndpoint>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    let view = Arc::new(AgentSessions { shared: endpoint.sessions, agent: principal.agent, refused: OnceLock::new() });
    // The SDK ends a session by DELETE without asking whether there is one.
    if let Some(id) = session_of(request.headers())
        && !view.owns(&id)
    {
        return (StatusCode::NOT_FOUND, "no such session; start with initialize").into_response();
    }
    let method = request.method().clone();
    let listens = request.headers().get(METHOD_HEADER).is_some_and(|method| method == LISTEN);
    let server = endpoint.server;
    // The SDK makes one for each session, and one for each request of revisions that have none.
    #[cfg(not(feature = "conformance"))]
    let handler = move || Ok(server.for_session());
    #[cfg(feature = "conformance")]
    let handler = move || Ok(crate::conformance::Handler::new(server.for_session()));
    let service = StreamableHttpService::new(handler, view.clone(), endpoint.config);
    let response = service.handle(request).await;
    if let Some(full) = view.refused.get() {
        return full.into_response();
    }
    let mut response = response.map(Body::new);
    match method {
        Method::POST if listens => held_until_sent(ended_by(response, endpoint.drain), &endpoint.exchanges),
        Method::POST => held_until_sent(response, &endpoint.exchanges),
        // The session has ended by now; clients take the SDK's 202 for a failure to end it.
        Method::DELETE if response.status() == StatusCode::ACCEPTED => {
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => response,
    }
}

fn session_of(headers: &HeaderMap) -> Option<SessionId> {
    headers.get(SESSION_HEADER)?.to_str().ok().map(SessionId::from)
}

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// An answer that goes on for as long as somebody listens: a drain waits for its farewell only.
fn ended_by(response: Response, drain: CancellationToken) -> Response {
    if !is_stream(&response) {
        return response;
    }
    // The server says that it ends, and ends the stream; one that does not is cut.
    let cut = async move {
        drain.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(cut))))
}

/// A streamed answer counts as in hand until its last byte is taken, so that a drain can wait for it.
fn held_until_sent(response: Response, exchanges: &TaskTracker) -> Response {
    if !is_stream(&response) {
        return response;
    }
    let held = exchanges.token();
    response.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let _held = &held;
            chunk
        }))
    })
}

impl IntoResponse for Full {
    fn into_response(self) -> Response {
        let retry_after = [(header::RETRY_AFTER, self.retry_after().as_secs().to_string())];
        (StatusCode::TOO_MANY_REQUESTS, retry_after, self.to_string()).into_response()
    }
}

/// The sessions as one agent sees them, for one request.
#[derive(Debug)]
struct AgentSessions {
    shared: Arc<Sessions>,
    agent: AgentId,
    /// The SDK turns any error into 500; what was meant is kept here.
    refused: OnceLock<Full>,
}

impl AgentSessions {
    fn owners(&self) -> MutexGuard<'_, HashMap<SessionId, Owner>> {
        // Every change is one insert or one remove, so a panic elsewhere leaves the map whole.
        self.shared.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owns(&self, id: &SessionId) -> bool {
        self.owners().get(id).is_some_and(|owner| owner.agent == self.agent)
    }

    fn check(&self, id: &SessionId) -> Result<(), LocalSessionManagerError> {
        if self.owns(id) { Ok(()) } else { Err(LocalSessionManagerError::SessionNotFound(id.clone())) }
    }
}

/// Why a session operation failed.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

impl SessionManager for AgentSessions {
    type Error = SessionError;
    type Transport = WorkerTransport<LocalSessionWorker>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let seat = self.shared.quota.admit(self.agent, Instant::now()).inspect_err(|full| {
            // Set once: a request opens one session at most.
            let _ = self.refused.set(*full);
        })?;
        let (id, transport) = self.shared.all.create_session().await?;
        self.owners().insert(id.clone(), Owner { agent: self.agent, _seat: seat });
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.check(id)?;
        Ok(self.shared.all.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.owns(id) && self.shared.all.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        if !self.owns(id) {
            return Ok(());
        }
        // First: the seat is free even when the session's own end goes wrong.
        self.owners().remove(id);
        Ok(self.shared.all.close_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.check(id)?;
        Ok(self.shared.all.create_stream(id, message).await?)
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.check(id)?;
        Ok(self.shared.all.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.check(id)?;
        Ok(self.shared.all.create_standalone_stream(id).await?)
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.check(id)?;
        Ok(self.shared.all.resume(id, last_event_id).await?)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::stream;

    use super::*;

    fn endless() -> Response {
        let told = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"data: {}"))]);
        let body = Body::from_stream(told.chain(stream::pending()));
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_who_only_listens() {
        let drain = CancellationToken::new();
        let mut stream = ended_by(endless(), drain.clone()).into_body().into_data_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "data: {}");
        drain.cancel();
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_call_is_in_hand_until_its_answer_is_taken() {
        let exchanges = TaskTracker::new();
        let response = held_until_sent(endless(), &exchanges);
        assert_eq!(exchanges.len(), 1);
        drop(response);
        assert!(exchanges.is_empty());
    }
}
