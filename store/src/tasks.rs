//! Tasks: kept, found, changed, paused, cancelled. Each verb is one transaction with its event and its audit line.
//!
//! Everything here is on behalf of a [`Caller`] and sees that agent's tasks only. A task is named by a [`TaskRef`].

use jiff::Timestamp;
use ordinaut_schema::{
    id::{AgentId, RunId, TaskId},
    planning::Stretch,
    task::{Accepted, TaskSpec, TaskState},
};

use crate::{Caller, Store, StoreError};

/// How callers name a task: by id, or by title (compared as titles are).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskRef {
    Id(TaskId),
    Title(String),
}

impl From<&str> for TaskRef {
    fn from(text: &str) -> Self {
        text.trim().parse().map_or_else(|_| Self::Title(text.to_owned()), Self::Id)
    }
}

/// A task as it stands.
#[derive(Debug, Clone)]
pub struct TaskRecord {
    pub id: TaskId,
    pub agent: AgentId,
    pub state: TaskState,
    pub revision: u32,
    pub spec: TaskSpec,
    pub next_occurrence_at: Option<Timestamp>,
    /// When the next occurrence will be looked at: later than itself by jitter or while snoozed.
    pub next_due_at: Option<Timestamp>,
    pub last_occurrence_at: Option<Timestamp>,
    pub runs_planned: u64,
    pub paused_because: Option<String>,
    pub resume_at: Option<Timestamp>,
    pub snoozed_until: Option<Timestamp>,
    pub skip_next: u32,
    pub failures_in_row: u32,
    /// Skipped occurrences that are not in history yet.
    pub open_stretch: Option<Stretch>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What became of a definition.
#[derive(Debug, Clone)]
pub enum Inserted {
    Created(TaskRecord),
    /// The same definition is there already, under this title or this request id.
    Existed(TaskRecord),
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Empty: active and paused.
    pub states: Vec<TaskState>,
    /// Part of the title, in any case.
    pub text: Option<String>,
}

/// How to put off a task's next occurrences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snooze {
    /// Moves the next occurrence to that instant; those passed meanwhile are skipped.
    Until(Timestamp),
    /// Skips the next so many.
    Skip(u32),
}

impl Store {
    /// The task that an earlier `create_task` with this request id made, if one did.
    pub async fn find_task_by_request(
        &self,
        caller: &Caller,
        request_id: &str,
    ) -> Result<Option<TaskRecord>, StoreError> {
        let _ = (caller, request_id);
        todo!("helper D")
    }

    /// Keeps a new task: task, revision, cursor, `received` row for the request id, event, audit line, hint.
    ///
    /// # Errors
    /// [`StoreError::TitleTaken`] when another definition has the title; [`StoreError::TooManyTasks`].
    pub async fn insert_task(
        &self,
        caller: &Caller,
        accepted: &Accepted,
        request_id: Option<&str>,
    ) -> Result<Inserted, StoreError> {
        let _ = (caller, accepted, request_id);
        todo!("helper D")
    }

    /// Stores a new revision. Runs already planned keep theirs unless `apply_to_pending` (which spares those that
    /// were started). The cursor becomes the first occurrence after the later of now and the last planned one.
    pub async fn update_task(
        &self,
        caller: &Caller,
        task: TaskId,
        accepted: &Accepted,
        if_revision: Option<u32>,
        apply_to_pending: bool,
    ) -> Result<TaskRecord, StoreError> {
        let _ = (caller, task, accepted, if_revision, apply_to_pending);
        todo!("helper D")
    }

    pub async fn find_task(&self, caller: &Caller, task: &TaskRef) -> Result<TaskRecord, StoreError> {
        let _ = (caller, task);
        todo!("helper D")
    }

    /// By id, ascending; `after` is the last id of the page before.
    pub async fn list_tasks(
        &self,
        caller: &Caller,
        filter: &TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        let _ = (caller, filter, after, limit);
        todo!("helper D")
    }

    /// Pauses: occurrences pass as skipped until `until`, or until resumed. Pausing a paused task moves `until`.
    pub async fn pause_task(
        &self,
        caller: &Caller,
        task: TaskId,
        until: Option<Timestamp>,
        because: Option<&str>,
    ) -> Result<TaskRecord, StoreError> {
        let _ = (caller, task, until, because);
        todo!("helper D")
    }

    /// Resumes; what passed meanwhile is not caught up. Resuming an active task changes nothing.
    pub async fn resume_task(&self, caller: &Caller, task: TaskId) -> Result<TaskRecord, StoreError> {
        let _ = (caller, task);
        todo!("helper D")
    }

    pub async fn snooze_task(&self, caller: &Caller, task: TaskId, snooze: Snooze) -> Result<TaskRecord, StoreError> {
        let _ = (caller, task, snooze);
        todo!("helper D")
    }

    /// Cancels for good, and asks its live runs to stop; answers with those runs. Cancelling again changes nothing.
    pub async fn cancel_task(&self, caller: &Caller, task: TaskId) -> Result<(TaskRecord, Vec<RunId>), StoreError> {
        let _ = (caller, task);
        todo!("helper D")
    }

    /// A revision as it was.
    pub async fn find_revision(&self, task: TaskId, revision: u32) -> Result<TaskSpec, StoreError> {
        let _ = (task, revision);
        todo!("helper D")
    }
}
