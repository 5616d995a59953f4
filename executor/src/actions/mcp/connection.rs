//! The one connection to one MCP server: started when first needed, shared by all calls, restarted after a crash.
//!
//! ```text
//! idle ──call──▶ starting ──handshake──▶ up ──lost──▶ down (backoff) ──call──▶ starting
//!                    └──────failed──────────────────────▲
//! ```
//!
//! Starting is a task of its own, so that a caller with little time does not kill a slow server (`npx` that
//! downloads) again and again: it gives up, the server comes up, and the retry finds it. The first restart after a
//! crash is at once; then the pause doubles to a minute, until a call succeeds or the server stays up.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ordinaut_schema::run::{ErrorKind, StepFailure};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Shared, live::Live, secrets, servers::Launch};

/// A server that stayed up this long has earned an immediate restart.
const STEADY: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

enum Phase {
    Idle,
    /// Closed when the start is over, either way.
    Starting(watch::Receiver<()>),
    Up(Arc<Live>),
    Down {
        until: Instant,
        failure: StepFailure,
    },
}

struct State {
    phase: Phase,
    /// Crashes and failed starts in a row.
    failures: u32,
}

/// One server of the operator's file.
pub(super) struct Connection {
    pub(super) name: String,
    pub(super) launch: Launch,
    shared: Arc<Shared>,
    state: Mutex<State>,
    retired: CancellationToken,
    /// It speaks only protocol versions with an `initialize`: the next start asks no other way first.
    is_legacy: AtomicBool,
}

impl Connection {
    pub(super) fn new(name: String, launch: Launch, shared: Arc<Shared>) -> Arc<Self> {
        let state = Mutex::new(State { phase: Phase::Idle, failures: 0 });
        let (retired, is_legacy) = (CancellationToken::new(), AtomicBool::new(false));
        Arc::new(Self { name, launch, shared, state, retired, is_legacy })
    }

    /// The live connection, started if need be. Dropping the future does not stop a start.
    pub(super) async fn live(self: &Arc<Self>) -> Result<Arc<Live>, StepFailure> {
        let mut has_waited = false;
        loop {
            let mut starting = {
                let mut state = self.lock();
                self.notice_loss(&mut state);
                match &state.phase {
                    Phase::Up(live) => return Ok(live.clone()),
                    Phase::Down { until, failure } if has_waited || Instant::now() < *until => {
                        let pause = until.saturating_duration_since(Instant::now());
                        return Err(failure.clone().retry_after(Some(pause)));
                    }
                    Phase::Starting(starting) if !has_waited => starting.clone(),
                    Phase::Starting(_) | Phase::Idle if has_waited => {
                        return Err(self.unavailable("it was stopped", ErrorKind::Connection));
                    }
                    Phase::Idle | Phase::Down { .. } | Phase::Starting(_) => self.begin(&mut state),
                }
            };
            // Nothing is ever sent: the end of the sender is the signal.
            let _closed = starting.changed().await;
            has_waited = true;
        }
    }

    fn begin(self: &Arc<Self>, state: &mut State) -> watch::Receiver<()> {
        let (done, starting) = watch::channel(());
        state.phase = Phase::Starting(starting.clone());
        let connection = self.clone();
        self.shared.tasks.spawn(async move {
            let limit = connection.shared.settings.handshake_timeout;
            let started = tokio::select! {
                started = timeout(limit, connection.start()) => started.unwrap_or_else(|_elapsed| {
                    let why = format!("it did not answer the handshake within {limit:?}");
                    Err(connection.unavailable(&why, ErrorKind::Connection))
                }),
                () = connection.retired.cancelled() => Err(connection.unavailable("it was stopped", ErrorKind::Connection)),
            };
            connection.conclude_start(started);
            drop(done);
        });
        starting
    }

    fn conclude_start(&self, started: Result<Live, StepFailure>) {
        let mut state = self.lock();
        state.phase = match started {
            // Came up just as it was dismissed.
            Ok(live) if self.retired.is_cancelled() => {
                self.dismiss(Arc::new(live));
                return;
            }
            Ok(live) => {
                info!(server = %self.name, "MCP server `{}` is up", self.name);
                Phase::Up(Arc::new(live))
            }
            Err(failure) => {
                state.failures += 1;
                warn!(server = %self.name, failures = state.failures, "{failure}");
                Phase::Down { until: Instant::now() + pause(state.failures), failure }
            }
        };
    }

    /// Turns a connection whose other side is gone into a pause, and clears away what is left of it.
    fn notice_loss(&self, state: &mut State) {
        let Phase::Up(live) = &state.phase else { return };
        if !live.is_lost() {
            return;
        }
        state.failures = if live.age() >= STEADY { 0 } else { state.failures + 1 };
        let why = match live.last_words() {
            Some(words) => format!("it went away; its last words: {words}"),
            None => "it went away".to_owned(),
        };
        let failure = self.unavailable(&why, ErrorKind::Connection);
        warn!(server = %self.name, failures = state.failures, "{failure}");
        self.dismiss(live.clone());
        state.phase = Phase::Down { until: Instant::now() + pause(state.failures.saturating_sub(1)), failure };
    }

    /// Ends `live` on the side.
    fn dismiss(&self, live: Arc<Live>) {
        self.shared.tasks.spawn(async move { live.end().await });
    }

    /// For good: the entry is gone or has changed, or the executor stops.
    pub(super) fn retire(&self) {
        self.retired.cancel();
        let mut state = self.lock();
        if let Phase::Up(live) = &state.phase {
            self.dismiss(live.clone());
        }
        state.phase = Phase::Down {
            until: Instant::now() + LONGEST_PAUSE,
            failure: self.unavailable("it was stopped", ErrorKind::Connection),
        };
    }

    /// Notices a crash that no call has met, and lists the tools again where they may have changed.
    pub(super) fn sweep(self: &Arc<Self>) {
        let live = {
            let mut state = self.lock();
            self.notice_loss(&mut state);
            match &state.phase {
                Phase::Up(live) => live.clone(),
                Phase::Idle | Phase::Starting(_) | Phase::Down { .. } => return,
            }
        };
        if live.should_list_again() {
            let connection = self.clone();
            self.shared.tasks.spawn(async move {
                let limit = connection.shared.settings.handshake_timeout;
                match timeout(limit, live.tools(&connection.name, &connection.shared.catalogue)).await {
                    Ok(Ok(_tools)) => {}
                    // The next call asks again, and is not made before it knows.
                    Ok(Err(why)) => {
                        warn!(server = %connection.name, "MCP server `{}` did not list its tools: {why}", connection.name);
                    }
                    Err(_elapsed) => {
                        warn!(server = %connection.name, "MCP server `{}` did not list its tools in time", connection.name);
                    }
                }
            });
        }
    }

    /// Lets a server go that was started with a secret which has been set anew, or deleted, since: the next call starts
    /// another one. Calls in hand are finished first.
    pub(super) async fn renew(self: &Arc<Self>) {
        let live = match &self.lock().phase {
            Phase::Up(live) if !live.secrets_set_at().is_empty() => live.clone(),
            Phase::Up(_) | Phase::Idle | Phase::Starting(_) | Phase::Down { .. } => return,
        };
        match self.shared.pins.secrets_set_at(&secrets::names(&self.launch)).await {
            Ok(set_at) if set_at == *live.secrets_set_at() => {}
            Ok(_) => {
                let mut state = self.lock();
                if matches!(&state.phase, Phase::Up(up) if Arc::ptr_eq(up, &live)) {
                    info!(server = %self.name, "MCP server `{}` is started anew: a secret of it was set anew", self.name);
                    state.phase = Phase::Idle;
                    let retired = self.retired.clone();
                    self.shared.tasks.spawn(async move {
                        retired.run_until_cancelled(live.until_unused()).await;
                        live.end().await;
                    });
                }
            }
            Err(error) => debug!(error = &error as &dyn std::error::Error, "could not read when secrets were set"),
        }
    }

    pub(super) fn call_succeeded(&self) {
        self.lock().failures = 0;
    }

    async fn start(&self) -> Result<Live, StepFailure> {
        let is_legacy = self.is_legacy.load(Ordering::Relaxed);
        let opened = match Live::open(&self.name, &self.launch, &self.shared, is_legacy).await {
            // Servers that slept through the newer protocol's first question, or fell over it, are asked again
            // from the start in the older way.
            Err(unopened) if !is_legacy && unopened.is_protocol => {
                debug!(server = %self.name, why = unopened.why, "MCP server `{}` is tried the older way", self.name);
                Live::open(&self.name, &self.launch, &self.shared, true).await
            }
            opened => opened,
        };
        let live = opened.map_err(|unopened| self.unavailable(&unopened.why, unopened.kind))?;
        self.is_legacy.store(live.is_legacy(), Ordering::Relaxed);
        match live.tools(&self.name, &self.shared.catalogue).await {
            Ok(_tools) => Ok(live),
            Err(why) => {
                live.end().await;
                Err(self.unlisted(&why))
            }
        }
    }

    /// Its tools are not known, so none of them can be what was accepted.
    pub(super) fn unlisted(&self, why: &str) -> StepFailure {
        self.unavailable(&format!("it did not list its tools: {why}"), ErrorKind::Connection)
    }

    fn unavailable(&self, why: &str, kind: ErrorKind) -> StepFailure {
        StepFailure::new(kind, format!("the MCP server `{}` is not available: {why}", self.name))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("never poisoned: no panic while held")
    }
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => Duration::from_secs(1 << doublings.min(6)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_the_first_is_none() {
        let pauses: Vec<_> = (0..10).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
