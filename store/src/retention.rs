//! Partitions made ahead and dropped whole; guards forgotten when they are too old to matter.

use std::time::Duration;

use crate::{Store, StoreError};

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub history: Duration,
    pub outbox: Duration,
}

impl Store {
    /// Makes the partitions of the coming days (history, daily) and hours (outbox, hourly). Any executor, any time.
    pub async fn make_partitions(&self) -> Result<(), StoreError> {
        todo!("helper D")
    }

    /// Drops history partitions older than kept, unless a run in flight has an id within; outbox partitions; expired
    /// `received` rows, in small bites.
    pub async fn drop_old(&self, kept: Retention) -> Result<(), StoreError> {
        let _ = kept;
        todo!("helper D")
    }
}
