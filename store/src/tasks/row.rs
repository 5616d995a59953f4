//! A task's row and its definition, read back.

use ordinaut_schema::{
    id::{AgentId, TaskId},
    planning::Stretch,
    run::SkipReason,
    task::{TaskSpec, TaskState, ZoneSource},
};
use serde_json::Value;
use sqlx::types::Uuid;

use crate::StoreError;

use super::Standing;

/// What `list_tasks.sql` answers; `find_task.sql` has the definition besides.
pub(super) struct StandingRow {
    pub(super) id: Uuid,
    pub(super) agent_id: Uuid,
    pub(super) title: String,
    pub(super) state: String,
    pub(super) revision: i32,
    pub(super) next_occurrence_at: Option<jiff_sqlx::Timestamp>,
    pub(super) next_due_at: Option<jiff_sqlx::Timestamp>,
    pub(super) last_occurrence_at: Option<jiff_sqlx::Timestamp>,
    pub(super) runs_planned: i64,
    pub(super) zone_source: Option<String>,
    pub(super) paused_because: Option<String>,
    pub(super) resume_at: Option<jiff_sqlx::Timestamp>,
    pub(super) snoozed_until: Option<jiff_sqlx::Timestamp>,
    pub(super) skip_next: i32,
    pub(super) failures_in_row: i32,
    pub(super) stretch_reason: Option<String>,
    pub(super) stretch_from: Option<jiff_sqlx::Timestamp>,
    pub(super) stretch_to: Option<jiff_sqlx::Timestamp>,
    pub(super) stretch_count: Option<i32>,
    pub(super) stretch_opened_at: Option<jiff_sqlx::Timestamp>,
    pub(super) created_at: jiff_sqlx::Timestamp,
    pub(super) updated_at: jiff_sqlx::Timestamp,
}

impl StandingRow {
    fn stretch(&self) -> Option<Stretch> {
        Some(Stretch {
            reason: SkipReason::from_text(self.stretch_reason.as_deref()?)?,
            from: self.stretch_from?.to_jiff(),
            to: self.stretch_to?.to_jiff(),
            count: self.stretch_count?.unsigned_abs(),
            opened_at: self.stretch_opened_at?.to_jiff(),
        })
    }
}

impl TryFrom<StandingRow> for Standing {
    type Error = StoreError;

    fn try_from(row: StandingRow) -> Result<Self, StoreError> {
        let id = TaskId::from_uuid(row.id);
        let state = TaskState::from_text(&row.state)
            .ok_or_else(|| StoreError::unreadable(format!("task {id}"), format!("unknown state `{}`", row.state)))?;
        Ok(Self {
            id,
            agent: AgentId::from_uuid(row.agent_id),
            state,
            revision: row.revision.unsigned_abs(),
            open_stretch: row.stretch(),
            title: row.title,
            next_occurrence_at: row.next_occurrence_at.map(jiff_sqlx::Timestamp::to_jiff),
            next_due_at: row.next_due_at.map(jiff_sqlx::Timestamp::to_jiff),
            last_occurrence_at: row.last_occurrence_at.map(jiff_sqlx::Timestamp::to_jiff),
            runs_planned: row.runs_planned.unsigned_abs(),
            zone_source: row.zone_source.as_deref().and_then(ZoneSource::from_text),
            paused_because: row.paused_because,
            resume_at: row.resume_at.map(jiff_sqlx::Timestamp::to_jiff),
            snoozed_until: row.snoozed_until.map(jiff_sqlx::Timestamp::to_jiff),
            skip_next: row.skip_next.unsigned_abs(),
            failures_in_row: row.failures_in_row.unsigned_abs(),
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

pub(super) fn read_spec(task: TaskId, definition: Value) -> Result<TaskSpec, StoreError> {
    TaskSpec::from_stored(definition)
        .map_err(|error| StoreError::unreadable(format!("the definition of task {task}"), error))
}
