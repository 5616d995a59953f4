//! A task's row as the planner reads it, under the task's lock.

use jiff::Timestamp;
use ordinaut_schema::{
    budget::Cost,
    id::{AgentId, Shard, TaskId},
    planning::{Standing, Stretch},
    run::SkipReason,
    task::{Dedupe, TaskSpec, TaskState},
};
use serde_json::Value;
use sqlx::types::Uuid;

use crate::{StoreError, admission::LockedTask, budgets::Wanted, duplicates::key_of};

/// A due task under its lock.
pub(super) struct DueTask {
    pub(super) task: LockedTask,
    pub(super) title: String,
    pub(super) state: TaskState,
    pub(super) standing: Standing,
    pub(super) spec: Result<TaskSpec, String>,
    /// The key of its occurrences: no event tells them apart.
    pub(super) dedupe: Option<Dedupe>,
    /// Its agent has one.
    pub(super) has_budget: bool,
    /// When the transaction began.
    pub(super) now: Timestamp,
}

/// What `lock_due_tasks.sql` and `task_to_plan.sql` answer.
pub(super) struct DueRow {
    pub(super) id: Uuid,
    pub(super) shard: i16,
    pub(super) agent_id: Uuid,
    pub(super) title: String,
    pub(super) state: String,
    pub(super) revision: i32,
    pub(super) next_occurrence_at: Option<jiff_sqlx::Timestamp>,
    pub(super) last_occurrence_at: Option<jiff_sqlx::Timestamp>,
    pub(super) runs_planned: i64,
    pub(super) pass_until: Option<jiff_sqlx::Timestamp>,
    pub(super) pass_reason: Option<String>,
    pub(super) snoozed_until: Option<jiff_sqlx::Timestamp>,
    pub(super) skip_next: i32,
    pub(super) resume_at: Option<jiff_sqlx::Timestamp>,
    pub(super) stretch_reason: Option<String>,
    pub(super) stretch_from: Option<jiff_sqlx::Timestamp>,
    pub(super) stretch_to: Option<jiff_sqlx::Timestamp>,
    pub(super) stretch_count: Option<i32>,
    pub(super) stretch_opened_at: Option<jiff_sqlx::Timestamp>,
    pub(super) definition: Value,
    pub(super) has_budget: bool,
    pub(super) now: jiff_sqlx::Timestamp,
}

impl DueTask {
    /// The occurrences that budgets are counted for; nothing where none is due.
    pub(super) fn wants(&self, now: Timestamp) -> Option<Wanted<'_>> {
        let from = self.standing.next_occurrence_at.filter(|from| *from <= now)?;
        Some(Wanted { task: &self.task, spec: self.spec.as_ref().ok()?, from, to: now })
    }
}

impl TryFrom<DueRow> for DueTask {
    type Error = StoreError;

    fn try_from(row: DueRow) -> Result<Self, StoreError> {
        use jiff_sqlx::Timestamp as Instant;
        let id = TaskId::from_uuid(row.id);
        let reason = |text: Option<String>| text.as_deref().and_then(SkipReason::from_text);
        let state = TaskState::from_text(&row.state)
            .ok_or_else(|| StoreError::unreadable(format!("the state of task {id}"), row.state))?;
        let stretch = reason(row.stretch_reason)
            .zip(row.stretch_from)
            .zip(row.stretch_to)
            .zip(row.stretch_count)
            .zip(row.stretch_opened_at)
            .map(|((((reason, from), to), count), opened_at)| Stretch {
                reason,
                from: from.to_jiff(),
                to: to.to_jiff(),
                count: u32::try_from(count).unwrap_or(0),
                opened_at: opened_at.to_jiff(),
            });
        let spec = TaskSpec::from_stored(row.definition).map_err(|error| error.to_string());
        Ok(Self {
            dedupe: spec.as_ref().ok().and_then(|spec| key_of(spec, id, None, None)),
            task: LockedTask {
                id,
                shard: Shard(u8::try_from(row.shard).unwrap_or(0)),
                agent: AgentId::from_uuid(row.agent_id),
                revision: row.revision,
            },
            title: row.title,
            state,
            standing: Standing {
                next_occurrence_at: row.next_occurrence_at.map(Instant::to_jiff),
                last_occurrence_at: row.last_occurrence_at.map(Instant::to_jiff),
                runs_planned: u64::try_from(row.runs_planned).unwrap_or(0),
                paused: state == TaskState::Paused,
                resume_at: row.resume_at.map(Instant::to_jiff),
                pass: row.pass_until.map(Instant::to_jiff).zip(reason(row.pass_reason)),
                snoozed_until: row.snoozed_until.map(Instant::to_jiff),
                skip_next: u32::try_from(row.skip_next).unwrap_or(0),
                open_stretch: stretch,
                live_runs: 0,
                queued_runs: 0,
                duplicates: None,
                allowances: Vec::new(),
                reservation: Cost::ZERO,
            },
            spec,
            has_budget: row.has_budget,
            now: row.now.to_jiff(),
        })
    }
}
