//! Recovery: runs whose executor is gone are given to another; those that kill executors are quarantined.

use std::time::Duration;

use crate::{Store, StoreError, claims::Lease};

/// A lease as recovery sees it. It is taken only after it was seen unrenewed for a full lease by the watcher's own
/// monotonic clock: a leap of the database's clock expires nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeldLease {
    pub lease: Lease,
    /// Changes with every renewal.
    pub expires_at: jiff::Timestamp,
}

impl Store {
    /// Every lease now held.
    pub async fn held_leases(&self) -> Result<Vec<HeldLease>, StoreError> {
        todo!("the lead")
    }

    /// Takes the leases that are still as they were seen: the runs become pending with one crash more, or quarantined
    /// after `max_crashes`. Answers how many were (recovered, quarantined).
    pub async fn recover_runs(&self, seen: &[HeldLease], max_crashes: u32) -> Result<(u32, u32), StoreError> {
        let _ = (seen, max_crashes);
        todo!("the lead")
    }

    /// Admits blocked runs whose key or task has room (a conclusion that died between is mended so). Answers how many.
    pub async fn admit_blocked(&self, limit: u32) -> Result<u32, StoreError> {
        let _ = (limit, Duration::ZERO);
        todo!("the lead")
    }
}
