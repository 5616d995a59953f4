//! Sessions, each its owner's: other agents' do not exist, so that the SDK itself answers 404.
//!
//! A session ends when its client says so, when the token ends that opened it, and when nobody has used it for a while.
//! A stream that is open is use: whoever listens may have nothing to say for hours, and the comments on the stream
//! find out when they are gone. The SDK would count only what is said.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures_util::{Stream, StreamExt as _};
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::{
        WorkerTransport,
        streamable_http_server::session::{
            ServerSseMessage, SessionId, SessionManager,
            local::{LocalSessionManager, LocalSessionManagerError, LocalSessionWorker},
        },
    },
};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::{
    guard::Held,
    principal::Principal,
    quota::{Full, Quota, Seat},
};

/// How long a session that ends may take to take note of it; it is nobody's any more in any case.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Sessions {
    all: LocalSessionManager,
    owners: Mutex<HashMap<SessionId, Owner>>,
    quota: Arc<Quota>,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct Owner {
    principal: Principal,
    held: Held,
    usage: Usage,
    _seat: Seat,
}

/// How a session is used.
#[derive(Debug)]
struct Usage {
    streams: usize,
    last_at: Instant,
}

impl Usage {
    fn is_idle(&self, now: Instant, limit: Duration) -> bool {
        self.streams == 0 && now.saturating_duration_since(self.last_at) >= limit
    }
}

impl Sessions {
    pub(super) fn new(quota: Arc<Quota>, initialize_timeout: Duration, idle_timeout: Duration) -> Self {
        let mut all = LocalSessionManager::default();
        all.session_config.init_timeout = Some(initialize_timeout);
        // What is idle is decided here.
        all.session_config.keep_alive = None;
        Self { all, owners: Mutex::default(), quota, idle_timeout }
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<SessionId, Owner>> {
        // Every change is one insert or one remove, so a panic elsewhere leaves the map whole.
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, by which its session is in use until the last byte is taken.
    pub(super) fn heard(self: Arc<Self>, session: SessionId, response: Response) -> Response {
        let listener = Listener::new(self, session);
        response.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |chunk| {
                let _listener = &listener;
                chunk
            }))
        })
    }

    /// Ends those whose token has ended, and those that nobody uses.
    pub(super) async fn end_those_over(&self, now: Instant) {
        let over = |(id, owner): (&SessionId, &Owner)| {
            let why = if owner.held.has_ended() {
                "its token is revoked or expired"
            } else if owner.usage.is_idle(now, self.idle_timeout) {
                "nobody uses it"
            } else {
                return None;
            };
            Some((id.clone(), why))
        };
        let over: Vec<_> = self.owners().iter().filter_map(over).collect();
        for (id, why) in over {
            match timeout(CLOSING_TIMEOUT, self.close(&id, why)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "a session does not end in order"),
                Err(_elapsed) => warn!("a session takes no note of its end"),
            }
        }
    }

    async fn close(&self, id: &SessionId, why: &'static str) -> Result<(), LocalSessionManagerError> {
        // First: the seat is free even when the session's own end goes wrong.
        let Some(Owner { principal, .. }) = self.owners().remove(id) else { return Ok(()) };
        let Principal { agent, name, label, .. } = principal;
        info!(agent.id = %agent, agent.name = name, token.label = label, why, "session closed");
        self.all.close_session(id).await
    }
}

/// A stream of a session's that somebody reads.
struct Listener {
    sessions: Arc<Sessions>,
    session: SessionId,
}

impl Listener {
    fn new(sessions: Arc<Sessions>, session: SessionId) -> Self {
        if let Some(owner) = sessions.owners().get_mut(&session) {
            owner.usage.streams += 1;
        }
        Self { sessions, session }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Ids are never used again: a session that is there now was there when this began.
        if let Some(owner) = self.sessions.owners().get_mut(&self.session) {
            owner.usage.streams -= 1;
            owner.usage.last_at = Instant::now();
        }
    }
}

/// The sessions as one agent sees them, for one request.
#[derive(Debug)]
pub(super) struct AgentSessions {
    pub(super) shared: Arc<Sessions>,
    pub(super) principal: Principal,
    pub(super) held: Held,
    /// The SDK turns any error into 500; what was meant is kept here.
    pub(super) refused: OnceLock<Full>,
}

impl AgentSessions {
    fn owns(&self, id: &SessionId) -> bool {
        self.shared.owners().get(id).is_some_and(|owner| owner.principal.agent == self.principal.agent)
    }

    /// Whether that session is this agent's, which is using it now.
    pub(super) fn uses(&self, id: &SessionId) -> bool {
        let mut owners = self.shared.owners();
        let own = owners.get_mut(id).filter(|owner| owner.principal.agent == self.principal.agent);
        own.map(|owner| owner.usage.last_at = Instant::now()).is_some()
    }

    fn check(&self, id: &SessionId) -> Result<(), LocalSessionManagerError> {
        if self.owns(id) { Ok(()) } else { Err(LocalSessionManagerError::SessionNotFound(id.clone())) }
    }
}

/// Why a session operation failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

impl SessionManager for AgentSessions {
    type Error = SessionError;
    type Transport = WorkerTransport<LocalSessionWorker>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let seat = self.shared.quota.admit(self.principal.agent, Instant::now()).inspect_err(|full| {
            // Set once: a request opens one session at most.
            let _ = self.refused.set(*full);
        })?;
        let (id, transport) = self.shared.all.create_session().await?;
        let Principal { agent, name, label, .. } = &self.principal;
        info!(agent.id = %agent, agent.name = name, token.label = label, "session opened");
        let (principal, held) = (self.principal.clone(), self.held.clone());
        let usage = Usage { streams: 0, last_at: Instant::now() };
        self.shared.owners().insert(id.clone(), Owner { principal, held, usage, _seat: seat });
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
        Ok(self.shared.close(id, "it has ended").await?)
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
    use super::*;

    #[test]
    fn only_what_nobody_uses_is_idle() {
        let now = Instant::now() + Duration::from_secs(100_000);
        let limit = Duration::from_mins(5);
        let usage = |streams, ago| Usage { streams, last_at: now - Duration::from_secs(ago) };
        assert!(usage(0, 300).is_idle(now, limit));
        assert!(!usage(0, 299).is_idle(now, limit));
        assert!(!usage(1, 100_000).is_idle(now, limit));
    }
}
