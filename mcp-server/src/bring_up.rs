//! Brings up the services behind the server, and brings them up again when somebody needs them.
//!
//! With a database of the operator's it waits for that one; else it makes sure that the embedded set runs, which
//! outlives this program. A set that was taken down is left down until a call asks for it: a chat that happens to be
//! open must not undo what the person did.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ordinaut_store::{
    Role, Settings, Store, StoreError,
    embedded::{EmbeddedError, EnsureRunning, Phase, current, ensure_running},
    migrate,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    backend::{Embedded, Services, Stage, Starter},
    config::ServiceUrl,
};

/// How long one attempt may take; the embedded set goes on starting without us.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(2);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often the embedded set is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Where the services are.
#[derive(Debug, Clone)]
pub enum Place {
    Configured {
        database: ServiceUrl,
        /// Without it, subscribers hear of changes a little later.
        redis: Option<ServiceUrl>,
    },
    Embedded {
        set: Arc<Embedded>,
        /// The program that supervises the set.
        ordinaut: PathBuf,
    },
}

/// Why a database that answers cannot be worked with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// Keeps the services up until drained.
///
/// # Errors
/// The database answers and must not be used: its roles would let one agent see another's rows.
pub async fn keep_up(place: Place, starter: Starter, drain: CancellationToken) -> Result<(), Unusable> {
    drain.run_until_cancelled(keep_up_forever(&place, &starter)).await.unwrap_or(Ok(()))
}

async fn keep_up_forever(place: &Place, starter: &Starter) -> Result<(), Unusable> {
    loop {
        match bring_up(place, starter).await {
            Ok(store) => {
                info!("the services are up");
                let services = Services::new(store);
                starter.tell(Stage::Ready(match place {
                    Place::Configured { redis, .. } => services.with_redis(redis.clone()),
                    Place::Embedded { set, .. } => services.embedded(set.clone()),
                }));
                lost(place).await;
                warn!("the embedded set is down");
                starter.tell(Stage::Starting("the services were stopped".to_owned()));
            }
            Err(NotUp::Unusable(why)) => {
                starter.tell(Stage::Failed(why.clone()));
                return Err(Unusable(why));
            }
            Err(NotUp::Failed(why)) => {
                warn!("the services cannot be started: {why}");
                starter.tell(Stage::Failed(why));
            }
        }
        starter.wanted().await;
        starter.tell(Stage::Starting("the services".to_owned()));
    }
}

enum NotUp {
    /// A person has to do something; another try is made when a call asks for it.
    Failed(String),
    /// Another try would be as dangerous.
    Unusable(String),
}

impl From<EmbeddedError> for NotUp {
    fn from(error: EmbeddedError) -> Self {
        Self::Failed(chain(&error))
    }
}

async fn bring_up(place: &Place, starter: &Starter) -> Result<Store, NotUp> {
    match place {
        Place::Configured { database, .. } => connect(database.expose(), starter).await,
        Place::Embedded { set, ordinaut } => {
            let want = EnsureRunning {
                layout: &set.layout,
                ordinaut,
                version: env!("CARGO_PKG_VERSION"),
                arguments: Vec::new(),
                limit: ATTEMPT_TIMEOUT,
            };
            let state = loop {
                let told = ensure_running(&want, |state| starter.tell(Stage::Starting(state.phase.to_string()))).await;
                match told {
                    Err(EmbeddedError::StillStarting { phase, .. }) => debug!("still {phase}"),
                    told => break told?,
                }
            };
            let url = state.database_url.ok_or_else(|| NotUp::Failed("the embedded set names no database".into()))?;
            connect(&url, starter).await
        }
    }
}

/// Connects, for as long as it takes the database to answer.
async fn connect(url: &str, starter: &Starter) -> Result<Store, NotUp> {
    let mut pause = FIRST_PAUSE;
    loop {
        starter.tell(Stage::Starting("connecting to the database".to_owned()));
        let attempt = async {
            migrate(url).await?;
            Store::connect(Settings::new(url, Role::Mcp)).await
        };
        let why = match timeout(ATTEMPT_TIMEOUT, attempt).await {
            Ok(Ok(store)) => return Ok(store),
            Ok(Err(error @ StoreError::RoleCanBypass { .. })) => return Err(NotUp::Unusable(chain(&error))),
            Ok(Err(error)) if !error.is_retryable() => return Err(NotUp::Failed(chain(&error))),
            Ok(Err(error)) => chain(&error),
            Err(_elapsed) => format!("no answer within {}s", ATTEMPT_TIMEOUT.as_secs()),
        };
        warn!("the database cannot be reached: {why}");
        starter.tell(Stage::Starting(format!("the database cannot be reached: {why}")));
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends when the embedded set is gone. A configured database is the operator's: the pool reconnects by itself.
async fn lost(place: &Place) {
    let Place::Embedded { set, .. } = place else { return std::future::pending().await };
    while current(&set.layout).is_some_and(|set| !matches!(set.phase, Phase::Stopping | Phase::Stopped)) {
        sleep(LOOK_INTERVAL).await;
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
