//! A run's row, read back in one shape wherever it lay.

use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{RunState, SkipReason, StepRecord, Trigger},
    secret::mark,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::types::Uuid;

use crate::StoreError;

use super::RunRecord;

/// What `find_run.sql` and `list_runs.sql` answer.
pub(super) struct RunRow {
    pub(super) id: Uuid,
    pub(super) task_id: Uuid,
    pub(super) title: String,
    pub(super) timezone: Option<String>,
    pub(super) revision: i32,
    pub(super) state: String,
    pub(super) skip_reason: Option<String>,
    pub(super) trigger: String,
    pub(super) occurrence_key: String,
    pub(super) occurrence_at: jiff_sqlx::Timestamp,
    pub(super) stretch_to: Option<jiff_sqlx::Timestamp>,
    pub(super) stretch_count: Option<i32>,
    pub(super) root_run_id: Uuid,
    pub(super) retry_of: Option<Uuid>,
    pub(super) attempts: i32,
    pub(super) failures: i32,
    pub(super) crashes: i32,
    pub(super) planned_at: jiff_sqlx::Timestamp,
    pub(super) started_at: Option<jiff_sqlx::Timestamp>,
    pub(super) finished_at: Option<jiff_sqlx::Timestamp>,
    pub(super) wake_at: Option<jiff_sqlx::Timestamp>,
    pub(super) cancel_asked_at: Option<jiff_sqlx::Timestamp>,
    pub(super) error: Option<Value>,
    pub(super) output: Option<Value>,
    pub(super) steps: Option<Value>,
    pub(super) event: Option<Value>,
    pub(super) waiting: Option<Value>,
}

impl TryFrom<RunRow> for RunRecord {
    type Error = StoreError;

    fn try_from(row: RunRow) -> Result<Self, StoreError> {
        let id = RunId::from_uuid(row.id);
        let stretch = match (row.stretch_to, row.stretch_count) {
            (Some(to), Some(count)) => Some((to.to_jiff(), count.unsigned_abs())),
            _ => None,
        };
        Ok(Self {
            id,
            task: TaskId::from_uuid(row.task_id),
            task_title: row.title,
            timezone: row.timezone,
            revision: row.revision.unsigned_abs(),
            state: named(id, "state", &row.state, RunState::from_text)?,
            skip_reason: row
                .skip_reason
                .map(|reason| named(id, "skip reason", &reason, SkipReason::from_text))
                .transpose()?,
            trigger: named(id, "trigger", &row.trigger, Trigger::from_text)?,
            occurrence_key: row.occurrence_key,
            occurrence_at: row.occurrence_at.to_jiff(),
            stretch,
            root_run: RunId::from_uuid(row.root_run_id),
            retry_of: row.retry_of.map(RunId::from_uuid),
            attempts: row.attempts.unsigned_abs(),
            failures: row.failures.unsigned_abs(),
            crashes: row.crashes.unsigned_abs(),
            planned_at: row.planned_at.to_jiff(),
            started_at: row.started_at.map(jiff_sqlx::Timestamp::to_jiff),
            finished_at: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
            wake_at: row.wake_at.map(jiff_sqlx::Timestamp::to_jiff),
            cancel_asked_at: row.cancel_asked_at.map(jiff_sqlx::Timestamp::to_jiff),
            error: row.error.map(|error| read(id, "error", error)).transpose()?,
            output: row.output.unwrap_or(Value::Null),
            steps: row.steps.map_or_else(|| Ok(Vec::new()), |steps| timeline(id, steps))?,
            event: row.event,
            waiting: row.waiting,
        })
    }
}

/// The steps as people see them: secrets by name.
fn timeline(run: RunId, steps: Value) -> Result<Vec<StepRecord>, StoreError> {
    let mut steps: Vec<StepRecord> = read(run, "timeline", steps)?;
    for step in &mut steps {
        step.input = mark::shown(step.input.take());
    }
    Ok(steps)
}

fn named<T>(run: RunId, what: &str, text: &str, from_text: fn(&str) -> Option<T>) -> Result<T, StoreError> {
    from_text(text)
        .ok_or_else(|| StoreError::unreadable(format!("the {what} of run {run}"), format!("unknown text `{text}`")))
}

fn read<T: DeserializeOwned>(run: RunId, what: &str, value: Value) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::unreadable(format!("the {what} of run {run}"), error))
}
