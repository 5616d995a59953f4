//! The services behind the server, which may still be starting.
//!
//! `initialize` and `tools/list` need none of them. A call waits for them, for a bounded time, and then says what is
//! being waited for; a client's patience ends before a database's first start does.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    auth::{Authenticate, Token, Unavailable},
    principal::Principal,
};

/// How long a call waits for the services.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How far the services are.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Completes "Ordinaut is starting: ".
    Starting(String),
    Ready(Services),
    /// They will not come; the text says why and what to do.
    Failed(String),
}

/// The services, once they run.
#[derive(Debug, Clone)]
pub struct Services {
    /// Whom a call on stdio is from.
    pub local: Principal,
}

/// A view of the services; cheap to clone.
#[derive(Debug, Clone)]
pub struct Backend {
    stage: watch::Receiver<Stage>,
}

/// Why there are no services to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error("Ordinaut is starting: {0}; try again in a moment")]
    Starting(String),
    #[error("{0}")]
    Failed(String),
}

impl Backend {
    /// A backend, and the end through which its stages are told.
    pub fn starting(what: impl Into<String>) -> (watch::Sender<Stage>, Self) {
        let (sender, stage) = watch::channel(Stage::Starting(what.into()));
        (sender, Self { stage })
    }

    /// The services, waiting for them up to `patience`.
    ///
    /// # Errors
    /// They are still starting, or cannot start.
    pub async fn ready(&self, patience: Duration) -> Result<Services, NotReady> {
        let mut stage = self.stage.clone();
        let settled = stage.wait_for(|stage| !matches!(stage, Stage::Starting(_)));
        // Elapsed, or the sender is gone: either way the last stage told is the answer.
        let _ = tokio::time::timeout(patience, settled).await;
        self.now()
    }

    /// The services, if they run at this moment.
    ///
    /// # Errors
    /// As [`Backend::ready`].
    pub fn now(&self) -> Result<Services, NotReady> {
        match &*self.stage.borrow() {
            Stage::Ready(services) => Ok(services.clone()),
            Stage::Starting(what) => Err(NotReady::Starting(what.clone())),
            Stage::Failed(why) => Err(NotReady::Failed(why.clone())),
        }
    }
}

impl Authenticate for Backend {
    fn authenticate(&self, _token: Token) -> BoxFuture<'_, Result<Option<Principal>, Unavailable>> {
        Box::pin(async {
            self.ready(READY_TIMEOUT).await.map_err(|why| Unavailable(why.to_string()))?;
            // No token exists before the store does.
            Ok(None)
        })
    }
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::id::AgentId;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_during_start_up_is_told_what_is_starting() {
        let (stage, backend) = Backend::starting("looking for PostgreSQL");
        assert_eq!(
            backend.ready(READY_TIMEOUT).await.unwrap_err(),
            NotReady::Starting("looking for PostgreSQL".to_owned())
        );
        let waiting = tokio::spawn(async move { backend.ready(READY_TIMEOUT).await });
        let local = Principal {
            agent: AgentId::new(),
            name: "local".to_owned(),
            label: "stdio".to_owned(),
            scopes: Vec::new(),
        };
        stage.send(Stage::Ready(Services { local: local.clone() })).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().local, local);
    }
}
