//! Runs as people see them: in flight and over, in one shape; asked for, cancelled, retried.

use jiff::Timestamp;
use ordinaut_schema::{
    event::Topic,
    id::{AgentId, RunId, TaskId},
    run::{ErrorKind, RunState, SkipReason, StepFailure, StepRecord, Trigger},
};
use serde_json::{Map, Value, json};
use sqlx::{Postgres, Transaction};

use crate::{
    Caller, Store, StoreError,
    error::Doing as _,
    outbox::{Told, tell},
};

/// One run, wherever it is.
#[derive(Debug, Clone)]
pub struct RunRecord {
    pub id: RunId,
    pub task: TaskId,
    pub task_title: String,
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
    pub output: Value,
    /// Empty in lists.
    pub steps: Vec<StepRecord>,
    pub event: Option<Value>,
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

/// Where a retry begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryFrom {
    /// At the step that failed: the journal up to it, and the idempotency keys, are kept.
    FailedStep,
    /// At the start, with the latest revision and new keys.
    Start,
}

/// Which live runs [`cancel_live`] is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Live<'a> {
    OfTasks(&'a [TaskId]),
    Runs(&'a [RunId]),
}

/// A run that [`cancel_live`] ended, and what it held: whoever cancels admits the next under the key, or of the task.
#[derive(Debug, Clone)]
pub(crate) struct CancelledRun {
    pub(crate) id: RunId,
    pub(crate) agent: AgentId,
    pub(crate) task: TaskId,
    pub(crate) concurrency_key: Option<String>,
    pub(crate) serial: bool,
}

/// What became of live runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct CancelledLive {
    /// They had not started, or were waiting: they are over, and told.
    pub(crate) cancelled: Vec<CancelledRun>,
    /// They are running: they stop when their attempt sees the wish.
    pub(crate) requested: Vec<RunId>,
}

/// Cancels live runs: those that no attempt holds at once (history row, journal gone, `run.cancelled`), those that
/// run by asking. Locks in run id order; runs that are over already are not in the answer.
///
/// Whoever holds a place under a key gives it up here; admission of the next is the caller's.
pub(crate) async fn cancel_live(
    tx: &mut Transaction<'_, Postgres>,
    which: Live<'_>,
    reason: &str,
) -> Result<CancelledLive, StoreError> {
    let (tasks, runs): (Vec<_>, Vec<_>) = match which {
        Live::OfTasks(tasks) => (tasks.iter().map(|task| task.uuid()).collect(), Vec::new()),
        Live::Runs(runs) => (Vec::new(), runs.iter().map(|run| run.uuid()).collect()),
    };
    let live = sqlx::query!(
        r#"
        select run_id, state = 'running' as "running!"
        from due_work
        where run_id in (
            select due_work.run_id from unnest($1::uuid[]) as asked (id) join due_work on due_work.task_id = asked.id
            union
            select asked.id from unnest($2::uuid[]) as asked (id)
        )
        order by run_id
        for update
        "#,
        &tasks,
        &runs,
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock live runs")?;
    let (running, idle): (Vec<_>, Vec<_>) = live.into_iter().partition(|run| run.running);

    let requested: Vec<_> = running.iter().map(|run| run.run_id).collect();
    sqlx::query!(
        "
        update due_work
        set cancel_asked_at = coalesce(cancel_asked_at, clock_timestamp()),
            cancel_reason = coalesce(cancel_reason, $2)
        from unnest($1::uuid[]) as asked (run_id)
        where due_work.run_id = asked.run_id
        ",
        &requested,
        reason,
    )
    .execute(&mut **tx)
    .await
    .doing("ask running runs to stop")?;

    let idle: Vec<_> = idle.iter().map(|run| run.run_id).collect();
    let error = json!(StepFailure::new(ErrorKind::Cancelled, reason));
    let gone = sqlx::query_file!("queries/cancel_live.sql", &idle, error)
        .fetch_all(&mut **tx)
        .await
        .doing("cancel runs that are not running")?;
    let told: Vec<_> = gone
        .iter()
        .map(|run| Told {
            agent: AgentId::from_uuid(run.agent_id),
            task: Some(TaskId::from_uuid(run.task_id)),
            run: Some(RunId::from_uuid(run.run_id)),
            topic: Topic::RunCancelled.as_str().into(),
            cause_depth: u16::try_from(run.cause_depth).unwrap_or(0),
            payload: json!({
                "run_id": run.run_id,
                "task_id": run.task_id,
                "title": run.title,
                "state": RunState::Cancelled,
                "scheduled_at": run.occurrence_at.to_jiff(),
                "reason": reason,
            }),
        })
        .collect();
    tell(tx, &told).await?;

    Ok(CancelledLive {
        cancelled: gone
            .into_iter()
            .map(|run| CancelledRun {
                id: RunId::from_uuid(run.run_id),
                agent: AgentId::from_uuid(run.agent_id),
                task: TaskId::from_uuid(run.task_id),
                concurrency_key: run.concurrency_key,
                serial: run.serial,
            })
            .collect(),
        requested: requested.into_iter().map(RunId::from_uuid).collect(),
    })
}

impl Store {
    pub async fn find_run(&self, caller: &Caller, run: RunId) -> Result<RunRecord, StoreError> {
        let _ = (caller, run);
        todo!("helper D")
    }

    /// Newest first; `before` is the last id of the page before.
    pub async fn list_runs(
        &self,
        caller: &Caller,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let _ = (caller, filter, before, limit);
        todo!("helper D")
    }
}
