//! Claims: pending runs become attempts under a lease; leases are renewed and given back.
//!
//! A claim that returns fewer runs than asked is not an empty queue: a row that changed since the statement's snapshot is skipped.

use std::{num::NonZeroU16, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{
    id::{AgentId, LeaseToken, RunId, TaskId},
    run::{StepFailure, Trigger},
};
use serde_json::{Map, Value};
use sqlx::types::Uuid;

use crate::{Store, StoreError};

/// A run in this executor's hands, for as long as its lease is renewed.
#[derive(Debug, Clone)]
pub struct ClaimedRun {
    pub id: RunId,
    pub task: TaskId,
    pub agent: AgentId,
    pub revision: u32,
    pub lease_token: LeaseToken,
    /// Numbered from 1.
    pub attempt: u32,
    pub failures: u32,
    pub crashes: u32,
    pub rank: i64,
    pub trigger: Trigger,
    pub occurrence_key: String,
    pub occurrence_at: Timestamp,
    pub root_run: RunId,
    pub cause_depth: u16,
    pub event: Option<Value>,
    /// What `run_now` set over the task's params.
    pub params: Option<Map<String, Value>>,
    /// `now` and `previous` as first pinned; `None` on the first attempt.
    pub pinned: Option<Value>,
    pub last_error: Option<StepFailure>,
    pub planned_at: Timestamp,
    pub started_at: Timestamp,
    /// Time spent running in earlier attempts.
    pub ran_for: Duration,
    pub cancel_asked: bool,
}

/// A lease held: what every write of an attempt names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub run: RunId,
    pub token: LeaseToken,
}

/// What a renewal brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    pub run: RunId,
    pub cancel_asked: bool,
    /// The gate is shut: start no further step, release.
    pub gate_shut: bool,
}

impl Store {
    /// Claims up to `limit` pending runs for `executor`, in rank order from `mark` on.
    ///
    /// Runs that another executor is claiming are skipped, never waited for; runs behind a shut gate are left.
    /// The answer is sorted by rank. The claim commits asynchronously: losing it only means claiming again.
    pub async fn claim_runs(
        &self,
        executor: Uuid,
        limit: NonZeroU16,
        lease: Duration,
        mark: i64,
    ) -> Result<Vec<ClaimedRun>, StoreError> {
        let _ = (executor, limit, lease, mark);
        todo!("the lead")
    }

    /// Renews leases. A run that is missing from the answer is lost: its attempt must stop and write nothing.
    pub async fn renew_leases(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        let _ = (leases, lease);
        todo!("the lead")
    }
}
