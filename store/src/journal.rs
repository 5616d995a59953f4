//! The journal: what the steps of a run in flight did, committed before the next step starts.
//!
//! Every write names the lease; a write whose lease is lost answers [`StoreError::LeaseLost`] and changes nothing.

use ordinaut_schema::{id::RunId, run::StepRecord};
use serde_json::Value;

use crate::{Store, StoreError, claims::Lease};

impl Store {
    /// Fixes `now` and `previous` when the run first starts; answers what is fixed (the earlier one, if there is one).
    pub async fn pin_run(&self, lease: Lease, pinned: &Value) -> Result<Value, StoreError> {
        let _ = (lease, pinned);
        todo!("the lead")
    }

    /// Writes steps, started or finished, in one statement: one row a step or `foreach` item, replacing the earlier one.
    pub async fn write_steps(&self, lease: Lease, steps: &[StepRecord]) -> Result<(), StoreError> {
        let _ = (lease, steps);
        todo!("the lead")
    }

    /// What was journaled for a run, in the order in which steps were first written.
    pub async fn read_journal(&self, run: RunId) -> Result<Vec<StepRecord>, StoreError> {
        let _ = run;
        todo!("the lead")
    }

    /// `{run, steps}` of the task's last succeeded run before this one, or `null`.
    pub async fn previous_run(&self, task: ordinaut_schema::id::TaskId, before: RunId) -> Result<Value, StoreError> {
        let _ = (task, before);
        todo!("the lead")
    }
}
