//! Hints that something may be due: fast where they arrive, never needed to be right.
//!
//! A hint is a `NOTIFY`, sent after the commit and coalesced: at once when none went out in the last
//! 5 ms, else when those have passed. `NOTIFY` in every write at 32 clients costs four fifths of the throughput.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::PgPool;
use tokio::sync::Notify;

/// The channel that executors listen to. Payload: microseconds since 1970 of the earliest instant to look at.
pub const CHANNEL: &str = "ordinaut_due";

/// Sends hints, coalesced. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Wakeups {
    // helper D: private fields
    _hint: Arc<Notify>,
}

impl Wakeups {
    pub(crate) fn new(_pool: PgPool) -> Self {
        Self { _hint: Arc::new(Notify::new()) }
    }

    /// Says that something is due at `at`, or earlier. Returns at once; a lost hint costs one poll.
    pub fn hint(&self, at: Timestamp) {
        let _ = at;
    }
}

/// What a listener heard.
#[derive(Debug)]
pub struct Listener {
    // helper D: a PgListener
}

impl Listener {
    /// The next hint: the earliest instant to look at. Reconnects by itself, and then answers with the present.
    pub async fn next(&mut self, _limit: Duration) -> Option<Timestamp> {
        todo!("helper D")
    }
}
