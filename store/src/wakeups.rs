//! Hints that something may be due: fast where they arrive, never needed to be right.
//!
//! A hint is a `NOTIFY`, sent after the commit and coalesced: at once when none went out in the last
//! 5 ms, else when those have passed. `NOTIFY` in every write at 32 clients costs four fifths of the throughput.
//!
//! Both ends have a connection of their own: neither a listener nor a hint waits for, or takes, one of those that
//! the verbs work on.
//!
//! That there are events to relay is said in this process first. On the wire it has a channel of its own, and nothing is
//! said there while the relay is in this process: under load there would be something to say at all times.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgNotification, PgPoolOptions},
};
use tokio::sync::Notify;

use crate::{Store, StoreError, connection::ask_if_idle, error::Doing as _};

/// The channel that executors listen to. Payload: microseconds since 1970 of the earliest instant to look at, or
/// [`CLAIMABLE`]; a program one version back takes anything else for "look at once", which is right.
pub const CHANNEL: &str = "ordinaut_due";

const CLAIMABLE: &str = "claimable";

/// The channel on which it is said, without payload, that there are events to relay.
const TOLD: &str = "ordinaut_told";

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
    told: Arc<Told>,
}

/// Whoever relays waits for this.
#[derive(Debug, Default)]
struct Told {
    told: Notify,
    /// Nobody else has to hear of it.
    is_heard_here: AtomicBool,
}

/// What is not sent yet.
#[derive(Debug, Default)]
struct Waiting {
    /// The foremost of what was hinted at.
    hint: Option<Hint>,
    /// There are events to relay.
    told: bool,
    /// Somebody is about to send it.
    sending: bool,
    last_sent: Option<Instant>,
}

impl Wakeups {
    pub(crate) fn new(pool: &PgPool) -> Self {
        let pool = private_pool(pool, 1);
        Self { pool, waiting: Arc::default(), told: Arc::default() }
    }

    /// Says that something is due at `at`, or earlier. Returns at once; a lost hint costs one poll.
    pub fn hint(&self, at: Timestamp) {
        self.send(Hint::Due(at));
    }

    /// Says that there is something to claim.
    pub(crate) fn hint_claimable(&self) {
        self.send(Hint::Claimable);
    }

    /// Says that there are events to relay.
    pub(crate) fn tell(&self) {
        self.told.told.notify_one();
        if !self.told.is_heard_here.load(Relaxed) {
            self.send_also(|waiting| waiting.told = true);
        }
    }

    fn send(&self, hint: Hint) {
        self.send_also(|waiting| waiting.hint = Some(waiting.hint.map_or(hint, |other| other.min(hint))));
    }

    fn send_also(&self, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut waiting);
        if !waiting.sending {
            waiting.sending = true;
            // Not joined: it ends by itself within its limits, and losing it costs one poll.
            tokio::spawn(self.clone().send_all());
        }
    }

    /// Sends until nothing is left to send.
    async fn send_all(self) {
        while let Some(pause) = self.pause() {
            // Also no time at all is up to a millisecond on the runtime's clock.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let (hint, told) = self.take();
            let hint = hint.map(|hint| match hint {
                Hint::Due(at) => at.as_microsecond().to_string(),
                Hint::Claimable => CLAIMABLE.to_owned(),
            });
            let (channels, payloads): (Vec<&str>, Vec<String>) =
                hint.map(|hint| (CHANNEL, hint)).into_iter().chain(told.then(|| (TOLD, String::new()))).unzip();
            let notify =
                "select pg_notify(channel, payload) from unnest($1::text[], $2::text[]) as n (channel, payload)";
            let sent = sqlx::query(notify).bind(channels).bind(payloads).execute(&self.pool);
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
        if waiting.hint.is_none() && !waiting.told {
            waiting.sending = false;
            return None;
        }
        Some(waiting.last_sent.map_or(Duration::ZERO, |sent| PACE.saturating_sub(sent.elapsed())))
    }

    fn take(&self) -> (Option<Hint>, bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.last_sent = Some(Instant::now());
        (waiting.hint.take(), std::mem::take(&mut waiting.told))
    }
}

/// A small pool to the same database. A `NOTIFY` is a commit, and a hint is not worth a flush of the disk: a crash that
/// loses one has ended whoever would have heard it.
fn private_pool(pool: &PgPool, connections: u32) -> PgPool {
    let options = pool.connect_options().as_ref().clone().options([("synchronous_commit", "off")]);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(SEND_LIMIT)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(|connection, known| Box::pin(ask_if_idle(connection, known)))
        .connect_lazy_with(options)
}

/// Hears hints. Losing the connection is not an error: it is a hint.
#[derive(Debug)]
pub struct Listener {
    heard: PgListener,
    pool: PgPool,
    wakeups: Wakeups,
}

impl Store {
    /// Starts to listen for hints. What was hinted at before is not heard: look once after this returns.
    pub async fn listen(&self) -> Result<Listener, StoreError> {
        // Two: a new connection may be made before a broken one is given up.
        let pool = private_pool(&self.pool, 2);
        let mut heard = PgListener::connect_with(&pool).await.doing("connect a listener")?;
        heard.listen_all([CHANNEL, TOLD]).await.doing("listen for hints")?;
        Ok(Listener { heard, pool, wakeups: self.wakeups.clone() })
    }

    /// Returns when there may be events to relay that were told since it returned last: by this process, or by another
    /// one whose hints a [`Listener`] of this process hears. Not every event is hinted at, so callers look anyway.
    ///
    /// Cancel-safe.
    pub async fn told(&self) {
        self.wakeups.told.told.notified().await;
    }

    /// Whether no other process is to hear of this one's events: it relays them itself.
    pub fn keep_hints_here(&self, keep: bool) {
        self.wakeups.told.is_heard_here.store(keep, Relaxed);
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
        let mut foremost = loop {
            match tokio::time::timeout_at(end, self.heard.try_recv()).await {
                Err(_elapsed) => return None,
                Ok(Ok(Some(notification))) => {
                    if let Some(hint) = self.read(&notification) {
                        break hint;
                    }
                }
                // Connected again; whatever was hinted at meanwhile was not heard.
                Ok(Ok(None)) => break self.look_now(),
                Ok(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the listener lost its connection");
                    tokio::time::timeout_at(end, self.reconnect()).await.ok()?;
                    break self.look_now();
                }
            }
        };
        while let Some(notification) = self.heard.next_buffered() {
            foremost = self.read(&notification).map_or(foremost, |hint| foremost.min(hint));
        }
        Some(foremost)
    }

    fn look_now(&self) -> Hint {
        self.wakeups.told.told.notify_one();
        LOOK_NOW
    }

    /// `None`: there are events to relay, and whoever does it is told so.
    fn read(&self, notification: &PgNotification) -> Option<Hint> {
        if notification.channel() == TOLD {
            self.wakeups.told.told.notify_one();
            return None;
        }
        Some(read(notification.payload()))
    }

    /// Tries until it listens again; ended from outside.
    async fn reconnect(&mut self) {
        loop {
            let fresh = async {
                let mut heard = PgListener::connect_with(&self.pool).await?;
                heard.listen_all([CHANNEL, TOLD]).await?;
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
