//! The database's clock, as this process knows it: one reading, plus what has passed since on the monotonic clock.
//!
//! Good for timestamps that people read. Whatever decides who may do what is compared inside PostgreSQL instead.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jiff::Timestamp;

/// Cheap to clone; all clones share the reading.
#[derive(Debug, Clone)]
pub struct DatabaseClock(Arc<Mutex<(Timestamp, Instant)>>);

impl DatabaseClock {
    /// Starts from what the database just answered.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new((now, Instant::now()))))
    }

    /// Corrects the reading, which was taken at `read_at`; every planning round brings one for nothing.
    pub fn set(&self, now: Timestamp, read_at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (now, read_at);
    }

    pub fn now(&self) -> Timestamp {
        let (read, at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read.saturating_add(at.elapsed()).unwrap_or(read)
    }
}
