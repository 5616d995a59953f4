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

use crate::{Store, error::StoreError, unanswered::Within as _};

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
    /// Crashes since something of it was last done.
    pub crashes_in_row: u32,
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
    /// The trace of the call that asked for the run, if one did and it was traced.
    pub traceparent: Option<String>,
}

impl ClaimedRun {
    pub const fn lease(&self) -> Lease {
        Lease { run: self.id, token: self.lease_token }
    }
}

/// A lease held: what every write of an attempt names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub run: RunId,
    pub token: LeaseToken,
}

/// How a claim keeps apart the runs that may be what kills executors, so that the one that does convicts no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspects {
    /// From how many crashes in a row on a run is suspected.
    pub from: u32,
    /// How many of them are claimed at most.
    pub most: u8,
}

impl Suspects {
    /// Nobody is suspected.
    pub const NONE: Self = Self { from: u32::MAX, most: 0 };

    /// Of those who are one crash away from being quarantined, `most`. The first crash suspects nobody: whatever ran
    /// beside would have to queue after every power cut.
    pub fn before(max_crashes: u32, most: u8) -> Self {
        Self { from: max_crashes.saturating_sub(1).max(1), most }
    }

    pub const fn include(self, run: &ClaimedRun) -> bool {
        run.crashes_in_row >= self.from
    }
}

/// How many runs a claim may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Whatever they do.
    pub permits: u16,
    /// More, as long as nothing is pending but runs that only compute.
    pub ahead: u16,
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
        let room = Room { permits: limit.get(), ahead: 0 };
        self.claim_runs_apart(executor, room, lease, mark, Suspects::NONE).await
    }

    /// As [`Store::claim_runs`], with no more than so many suspects among them, and ahead of the permits.
    pub async fn claim_runs_apart(
        &self,
        executor: Uuid,
        room: Room,
        lease: Duration,
        mark: i64,
        suspects: Suspects,
    ) -> Result<Vec<ClaimedRun>, StoreError> {
        let claimed = sqlx::query_file!(
            "queries/claim_runs.sql",
            executor,
            i64::from(room.permits),
            lease.as_secs_f64(),
            mark,
            i32::try_from(suspects.from).unwrap_or(i32::MAX),
            i64::from(suspects.most),
            i64::from(room.ahead)
        );
        let rows = claimed.fetch_all(&self.hot).within(self, "claim due runs").await?;
        let mut runs = rows
            .into_iter()
            .map(|row| {
                let id = RunId::from_uuid(row.run_id);
                let count = |n: i32| u32::try_from(n).unwrap_or(0);
                Ok(ClaimedRun {
                    id,
                    task: TaskId::from_uuid(row.task_id),
                    agent: AgentId::from_uuid(row.agent_id),
                    revision: count(row.revision),
                    lease_token: LeaseToken::from_uuid(row.lease_token),
                    attempt: count(row.attempt),
                    failures: count(row.failures),
                    crashes: count(row.crashes),
                    crashes_in_row: count(row.crashes_in_row),
                    rank: row.rank,
                    trigger: Trigger::from_text(&row.trigger)
                        .ok_or_else(|| StoreError::unreadable(format!("the trigger of run {id}"), row.trigger))?,
                    occurrence_key: row.occurrence_key,
                    occurrence_at: row.occurrence_at.to_jiff(),
                    root_run: RunId::from_uuid(row.root_run_id),
                    cause_depth: u16::try_from(row.cause_depth).unwrap_or(0),
                    event: row.event,
                    params: row.params.and_then(|params| match params {
                        Value::Object(params) => Some(params),
                        _ => None,
                    }),
                    pinned: row.pinned,
                    last_error: row.last_error.and_then(|error| serde_json::from_value(error).ok()),
                    planned_at: row.planned_at.to_jiff(),
                    started_at: row.started_at.to_jiff(),
                    ran_for: Duration::from_millis(u64::try_from(row.running_ms).unwrap_or(0)),
                    cancel_asked: row.cancel_asked,
                    traceparent: row.traceparent,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        runs.sort_by_key(|run| (run.rank, run.id));
        Ok(runs)
    }

    /// Renews leases. A run that is missing from the answer is lost: its attempt must stop and write nothing.
    pub async fn renew_leases(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        let mut leases = leases.to_vec();
        leases.sort_unstable_by_key(|lease| lease.run);
        let runs: Vec<Uuid> = leases.iter().map(|lease| lease.run.uuid()).collect();
        let tokens: Vec<Uuid> = leases.iter().map(|lease| lease.token.uuid()).collect();
        let renewed = sqlx::query_file!("queries/renew_leases.sql", &runs, &tokens, lease.as_secs_f64());
        let rows = renewed.fetch_all(&self.urgent).within(self, "renew leases").await?;
        Ok(rows
            .into_iter()
            .map(|row| Renewed {
                run: RunId::from_uuid(row.run_id),
                cancel_asked: row.cancel_asked,
                gate_shut: row.gate_shut,
            })
            .collect())
    }
}
