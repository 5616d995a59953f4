//! Streamable HTTP: the SDK's service, with sessions that belong to somebody.
//!
//! The SDK accepts any known `Mcp-Session-Id` from anybody, opens any number of sessions, and ends one that nothing was
//! said in, whether or not somebody listens. Here each request sees the session manager as one agent does (`sessions`).
//! Sessions are the revisions' up to 2025-11-25; a 2026-07-28 request has none.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService, streamable_http_server::session::SessionId};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Mcp,
    guard::{Held, is_stream, too_many},
    principal::Principal,
    quota::{Full, Quota},
    server::OrdinautServer,
};

mod sessions;

use sessions::{AgentSessions, Sessions};

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

impl StreamableEndpoint {
    /// `exchanges` holds a token for each call whose answer is still being sent.
    pub fn new(server: OrdinautServer, quota: Arc<Quota>, config: &Mcp, ends: Ends, exchanges: TaskTracker) -> Self {
        let sessions = Sessions::new(quota, config.initialize_timeout, config.session_idle_timeout);
        // Host and Origin are the guard's, for both transports.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_max_request_body_bytes(config.body_bytes)
            .with_sse_keep_alive(Some(config.keep_alive))
            // A request without a session whose first message is its answer needs no stream.
            .with_json_response(true)
            .with_cancellation_token(ends.abort);
        Self { server, sessions: Arc::new(sessions), config, drain: ends.drain, exchanges }
    }

    /// Ends the sessions that nobody uses, or whose token has ended.
    pub(crate) async fn end_sessions(&self) {
        self.sessions.end_those_over(Instant::now()).await;
    }
}

/// `/mcp`, every method.
pub(crate) async fn serve(
    State(endpoint): State<StreamableEndpoint>,
    Extension(principal): Extension<Principal>,
    Extension(held): Extension<Held>,
    request: Request,
) -> Response {
    let sessions = endpoint.sessions;
    let view = Arc::new(AgentSessions { shared: sessions.clone(), principal, held, refused: OnceLock::new() });
    // The SDK ends a session by DELETE without asking whether there is one.
    let session = session_of(request.headers());
    if let Some(id) = &session
        && !view.uses(id)
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
    if let Some(session) = session.or_else(|| session_of(response.headers()))
        && is_stream(&response)
    {
        response = sessions.heard(session, response);
    }
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
        too_many(&self.to_string(), self.retry_after())
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Bytes, http::header};
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
