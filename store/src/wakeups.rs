//! Hints that something may be due: fast where they arrive, never needed to be right.
//!
//! A hint is a `NOTIFY`, sent after the commit and coalesced: at once when none went out in the last
//! 5 ms, else when those have passed. `NOTIFY` in every write at 32 clients costs four fifths of the throughput.
//!
//! Both ends have a connection of their own: neither a listener nor a hint waits for, or takes, one of those that
//! the verbs work on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};

use crate::{Store, StoreError, error::Doing as _};

/// The channel that executors listen to. Payload: microseconds since 1970 of the earliest instant to look at, or
/// [`CLAIMABLE`]; a program one version back takes anything else for "look at once", which is right.
pub const CHANNEL: &str = "ordinaut_due";

const CLAIMABLE: &str = "claimable";

/// What a hint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// Something is due then, or earlier; runs may be pending, too.
    Due(Timestamp),
    /// Runs are pending; nothing is due that was not.
    Claimable,
}

const LOOK_NOW: Hint = Hint::Due(Timestamp::UNIX_EPOCH);

/// How close hints may follow each other.
const PACE: Duration = Duration::from_millis(5);
/// A hint that cannot be sent by then is dropped: the poll finds what it was about.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// Sends hints, coalesced. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Wakeups {
    pool: PgPool,
    waiting: Arc<Mutex<Waiting>>,
}

/// What is not sent yet.
#[derive(Debug, Default)]
struct Waiting {
    /// The foremost of what was hinted at.
    hint: Option<Hint>,
    /// Somebody is about to send it.
    sending: bool,
    last_sent: Option<Instant>,
}

impl Wakeups {
    pub(crate) fn new(pool: &PgPool) -> Self {
        let pool = private_pool(pool, 1);
        Self { pool, waiting: Arc::default() }
    }

    /// Says that something is due at `at`, or earlier. Returns at once; a lost hint costs one poll.
    pub fn hint(&self, at: Timestamp) {
        self.send(Hint::Due(at));
    }

    /// Says that there is something to claim.
    pub(crate) fn hint_claimable(&self) {
        self.send(Hint::Claimable);
    }

    fn send(&self, hint: Hint) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.hint = Some(waiting.hint.map_or(hint, |other| other.min(hint)));
        if !waiting.sending {
            waiting.sending = true;
            // Not joined: it ends by itself within its limits, and losing it costs one poll.
            tokio::spawn(self.clone().send_all());
        }
    }

    /// Sends until nothing is left to send.
    async fn send_all(self) {
        while let Some(pause) = self.pause() {
            tokio::time::sleep(pause).await;
            let Some(hint) = self.take() else { continue };
            let payload = match hint {
                Hint::Due(at) => at.as_microsecond().to_string(),
                Hint::Claimable => CLAIMABLE.to_owned(),
            };
            let sent = sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(&self.pool);
            match tokio::time::timeout(SEND_LIMIT, sent).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a hint was not sent");
                }
                Err(_elapsed) => tracing::debug!("a hint was not sent in time"),
            }
        }
    }

    /// How long to wait before the next one goes out; `None`, and the sender is over, when there is none.
    fn pause(&self) -> Option<Duration> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.hint.is_none() {
            waiting.sending = false;
            return None;
        }
        Some(waiting.last_sent.map_or(Duration::ZERO, |sent| PACE.saturating_sub(sent.elapsed())))
    }

    fn take(&self) -> Option<Hint> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.last_sent = Some(Instant::now());
        waiting.hint.take()
    }
}

/// A small pool to the same database.
fn private_pool(pool: &PgPool, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(SEND_LIMIT)
        .max_lifetime(None)
        .connect_lazy_with(pool.connect_options().as_ref().clone())
}

/// Hears hints. Losing the connection is not an error: it is a hint.
#[derive(Debug)]
pub struct Listener {
    heard: PgListener,
    pool: PgPool,
}

impl Store {
    /// Starts to listen for hints. What was hinted at before is not heard: look once after this returns.
    pub async fn listen(&self) -> Result<Listener, StoreError> {
        // Two: a new connection may be made before a broken one is given up.
        let pool = private_pool(&self.pool, 2);
        let mut heard = PgListener::connect_with(&pool).await.doing("connect a listener")?;
        heard.listen(CHANNEL).await.doing("listen for hints")?;
        Ok(Listener { heard, pool })
    }
}

impl Listener {
    /// The next hint. Reconnects by itself, and then answers with an instant long past, which means: look now.
    ///
    /// `None` when `limit` has passed. Hints that have come in meanwhile are one. A server that is away is tried
    /// again at every call; a call that fails waits out its limit, so callers need no pause of their own.
    ///
    /// Cancel-safe: a hint is lost only together with the listener.
    pub async fn next(&mut self, limit: Duration) -> Option<Hint> {
        let end = tokio::time::Instant::now() + limit;
        let first = match tokio::time::timeout_at(end, self.heard.try_recv()).await {
            Err(_elapsed) => return None,
            Ok(Ok(Some(notification))) => read(notification.payload()),
            // Connected again; whatever was hinted at meanwhile was not heard.
            Ok(Ok(None)) => LOOK_NOW,
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the listener lost its connection");
                tokio::time::timeout_at(end, self.reconnect()).await.ok()?;
                LOOK_NOW
            }
        };
        let mut foremost = first;
        while let Some(notification) = self.heard.next_buffered() {
            foremost = foremost.min(read(notification.payload()));
        }
        Some(foremost)
    }

    /// Tries until it listens again; ended from outside.
    async fn reconnect(&mut self) {
        loop {
            let fresh = async {
                let mut heard = PgListener::connect_with(&self.pool).await?;
                heard.listen(CHANNEL).await?;
                Ok::<_, sqlx::Error>(heard)
            };
            match fresh.await {
                Ok(heard) => {
                    self.heard = heard;
                    return;
                }
                Err(_away) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

/// A payload of another version means: look now.
fn read(payload: &str) -> Hint {
    if payload == CLAIMABLE {
        return Hint::Claimable;
    }
    payload.parse().ok().and_then(|us| Timestamp::from_microsecond(us).ok()).map_or(LOOK_NOW, Hint::Due)
}
