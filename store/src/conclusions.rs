//! Conclusions: what attempts decided, many in one transaction.
//!
//! A run that is over leaves `due_work` and enters history, its journal goes, what it held is given to the next that
//! waits, and its event is in the outbox, all at once or not at all.

use std::time::Duration;

use ordinaut_schema::run::{StepRecord, Verdict};

use crate::{Store, StoreError, claims::Lease};

/// One attempt's end.
#[derive(Debug, Clone)]
pub struct Conclusion {
    pub lease: Lease,
    pub verdict: Verdict,
    /// The whole timeline, for history; ignored unless the verdict ends the run.
    pub steps: Vec<StepRecord>,
    /// How long this attempt ran.
    pub ran_for: Duration,
}

/// What became of one conclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Yes,
    /// The lease is lost; nothing was written, and nothing may be said about the run.
    LeaseLost,
}

impl Store {
    /// Writes conclusions in one transaction; answers in the order given.
    ///
    /// # Errors
    /// The transaction failed as a whole: nothing was written. The caller halves the batch to find the row at fault.
    pub async fn conclude_runs(&self, conclusions: Vec<Conclusion>) -> Result<Vec<Written>, StoreError> {
        let _ = conclusions;
        todo!("the lead")
    }
}
