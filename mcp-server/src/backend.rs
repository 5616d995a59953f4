//! The services behind the server, which may still be starting.
//!
//! `initialize` and `tools/list` need none of them. A call waits for them, for a bounded time, and then says what is
//! being waited for; a client's patience ends before a database's first start does.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use ordinaut_store::{
    Caller, Store,
    embedded::{Layout, ServiceUnits},
};
use tokio::sync::{Notify, watch};
use tracing::error;

use crate::{
    auth::{Authenticate, Token, Unavailable},
    config::ServiceUrl,
    principal::{Principal, Scope},
};

/// How long a call waits for the services.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How far the services are.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Completes "Ordinaut is starting: ".
    Starting(String),
    Ready(Services),
    /// They will not come by themselves; the text says why and what to do.
    Failed(String),
}

/// The services, once they run.
#[derive(Debug, Clone)]
pub struct Services {
    pub store: Store,
    /// Where Redis is, as configured; the embedded set says itself where its own is.
    pub redis_url: Option<ServiceUrl>,
    /// Where they are this machine's own set.
    pub embedded: Option<Arc<Embedded>>,
}

/// This machine's own set, which runs only while somebody keeps it up.
#[derive(Debug, Clone)]
pub struct Embedded {
    pub layout: Layout,
    /// Where a service would be that keeps it up.
    pub units: ServiceUnits,
}

impl Embedded {
    /// Whether it is there again after the machine was off; asked anew each time, for a person may have seen to it.
    pub fn is_kept_up(&self) -> bool {
        self.units.keep(&self.layout)
    }
}

impl Services {
    pub fn new(store: Store) -> Self {
        Self { store, redis_url: None, embedded: None }
    }

    /// The same services, beside a Redis.
    #[must_use]
    pub fn with_redis(self, url: Option<ServiceUrl>) -> Self {
        Self { redis_url: url, ..self }
    }

    /// The same services, known to be this machine's own set.
    #[must_use]
    pub fn embedded(self, set: Arc<Embedded>) -> Self {
        Self { embedded: Some(set), ..self }
    }
}

/// A view of the services; cheap to clone.
#[derive(Debug, Clone)]
pub struct Backend {
    stage: watch::Receiver<Stage>,
    wanted: Arc<Notify>,
}

/// The end through which the stages of a [`Backend`] are told.
#[derive(Debug)]
pub struct Starter {
    stage: watch::Sender<Stage>,
    wanted: Arc<Notify>,
}

impl Starter {
    pub fn tell(&self, stage: Stage) {
        if !matches!(stage, Stage::Ready(_)) {
            // Whoever asked before was answered by what was told until now, or waits for what comes next; kept, the
            // wish would bring services up that a person took down later.
            let _ = self.wanted.notified().now_or_never();
        }
        self.stage.send_replace(stage);
    }

    /// Ends when a call has asked for services that are not there.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
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
    pub fn starting(what: impl Into<String>) -> (Starter, Self) {
        let (sender, stage) = watch::channel(Stage::Starting(what.into()));
        let wanted = Arc::new(Notify::new());
        (Starter { stage: sender, wanted: wanted.clone() }, Self { stage, wanted })
    }

    /// The services, asking for them and waiting up to `patience` when they are not there.
    ///
    /// # Errors
    /// They are still starting, or cannot start.
    pub async fn ready(&self, patience: Duration) -> Result<Services, NotReady> {
        if let Ok(services) = self.now() {
            return Ok(services);
        }
        self.wanted.notify_one();
        let mut stage = self.stage.clone();
        // A failure told before this call is not an answer to it: another try begins now.
        stage.mark_unchanged();
        let settled = async {
            loop {
                if stage.changed().await.is_err() || !matches!(*stage.borrow_and_update(), Stage::Starting(_)) {
                    break;
                }
            }
        };
        // Elapsed, or the starter is gone: either way the last stage told is the answer.
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
    fn authenticate(&self, token: Token) -> BoxFuture<'_, Result<Option<Principal>, Unavailable>> {
        Box::pin(async move {
            let services = self.ready(READY_TIMEOUT).await.map_err(|why| Unavailable(why.to_string()))?;
            let found = services.store.authenticate(token.expose()).await.map_err(|error| {
                error!(error = &error as &dyn std::error::Error, "a token cannot be looked up");
                Unavailable("the database does not answer; try again in a moment".to_owned())
            })?;
            Ok(found.map(|found| Principal {
                agent: found.agent,
                name: found.agent_name,
                label: found.label,
                // A scope of a newer version is one that this version has no use for.
                scopes: found.scopes.iter().filter_map(|scope| Scope::parse(scope)).collect(),
            }))
        })
    }
}

impl Principal {
    /// Whoever started this process.
    pub fn local() -> Self {
        Self {
            agent: Caller::LOCAL_AGENT,
            name: "local".to_owned(),
            label: "stdio".to_owned(),
            scopes: vec![Scope::TaskRead, Scope::TaskWrite, Scope::RunControl, Scope::EventPublish],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_during_start_up_is_told_what_is_starting() {
        let (_starter, backend) = Backend::starting("looking for PostgreSQL");
        assert_eq!(
            backend.ready(READY_TIMEOUT).await.unwrap_err(),
            NotReady::Starting("looking for PostgreSQL".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_after_a_failure_asks_for_another_try() {
        let (starter, backend) = Backend::starting("the services");
        starter.tell(Stage::Failed("PostgreSQL is not installed".to_owned()));
        let trying = async {
            starter.wanted().await;
            starter.tell(Stage::Starting("the services".to_owned()));
            starter.tell(Stage::Failed("still not installed".to_owned()));
        };
        let (answer, ()) = tokio::join!(backend.ready(READY_TIMEOUT), trying);
        assert_eq!(answer.unwrap_err(), NotReady::Failed("still not installed".to_owned()));
    }
}
