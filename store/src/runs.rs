//! Runs as people see them: in flight and over, in one shape; asked for, cancelled, retried.
//!
//! `live` is what every way of cancelling comes down to: a run's, a task's, the planner's `cancel_running`.

mod live;
mod row;

use jiff::Timestamp;
use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{RunState, SkipReason, StepFailure, StepRecord, Trigger},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Caller, Store, StoreError, View};

use self::row::RunRow;

pub(crate) use self::live::{Live, cancel_live, cancel_sub_runs};

/// One run, wherever it is.
#[derive(Debug, Clone, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    pub task: TaskId,
    pub task_title: String,
    /// The zone of its task, where one run was asked for.
    pub timezone: Option<String>,
    pub revision: u32,
    pub state: RunState,
    pub skip_reason: Option<SkipReason>,
    pub trigger: Trigger,
    pub occurrence_key: String,
    pub occurrence_at: Timestamp,
    /// The last occurrence and how many, where the row stands for a stretch of skipped ones.
    pub stretch: Option<(Timestamp, u32)>,
    pub root_run: RunId,
    pub retry_of: Option<RunId>,
    pub attempts: u32,
    pub failures: u32,
    pub crashes: u32,
    pub planned_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub wake_at: Option<Timestamp>,
    pub cancel_asked_at: Option<Timestamp>,
    /// The last error, of a run in flight too.
    pub error: Option<StepFailure>,
    #[serde(default)]
    pub output: Value,
    /// Empty in lists.
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    pub event: Option<Value>,
    /// What a step of a parked run waits for, as the step said it: `{"waiting_for": "approval", …}`.
    pub waiting: Option<Value>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub task: Option<TaskId>,
    /// Empty: all.
    pub states: Vec<RunState>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelling {
    /// It had not started, or was waiting: it is cancelled.
    Cancelled,
    /// It is running: it stops when its attempt sees the wish.
    Requested,
    /// It was over before.
    Over(RunState),
}

/// What became of a wish for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAsked {
    pub run: RunId,
    /// The request had been answered before.
    #[serde(skip)]
    pub existed: bool,
    /// The run was skipped: this one took the task's `dedupe_key` within the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<RunId>,
}

/// Where a retry begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryFrom {
    /// At the step that failed: the journal up to it, and the idempotency keys, are kept.
    FailedStep,
    /// At the start, with the latest revision and new keys.
    Start,
}

impl Store {
    pub async fn find_run(&self, caller: &Caller, run: RunId) -> Result<RunRecord, StoreError> {
        self.view(caller).await?.find_run(run).await
    }

    /// As [`View::list_runs`].
    pub async fn list_runs(
        &self,
        caller: &Caller,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        self.view(caller).await?.list_runs(filter, before, limit).await
    }
}

impl View {
    pub async fn find_run(&mut self, run: RunId) -> Result<RunRecord, StoreError> {
        let agent = self.agent();
        self.ask("find a run", move |connection| {
            Box::pin(
                sqlx::query_file_as!(RunRow, "queries/find_run.sql", agent.uuid(), run.uuid())
                    .fetch_optional(connection),
            )
        })
        .await?
        .ok_or(StoreError::RunNotFound(run))?
        .try_into()
    }

    /// Newest first; `before` is the last id of the page before.
    ///
    /// Newest is by id, which is by the occurrence's instant: a run keeps its place when it ends, so pages neither
    /// repeat nor lose one. `until` is exclusive.
    pub async fn list_runs(
        &mut self,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let agent = self.agent();
        let task = filter.task.map(TaskId::uuid);
        let states: Vec<_> = filter.states.iter().map(|state| state.as_str().to_owned()).collect();
        let least = filter.since.map(|since| RunId::floor(since).uuid());
        let end = filter.until.map(|until| RunId::floor(until).uuid());
        let rows = self
            .ask("list runs", move |connection| {
                Box::pin(async move {
                    sqlx::query_file_as!(
                        RunRow,
                        "queries/list_runs.sql",
                        agent.uuid(),
                        task,
                        &states,
                        before.map(RunId::uuid),
                        least,
                        end,
                        i64::from(limit),
                    )
                    .fetch_all(connection)
                    .await
                })
            })
            .await?;
        rows.into_iter().map(RunRecord::try_from).collect()
    }
}
