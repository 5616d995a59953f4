//! Tasks: kept, found, changed, paused, cancelled. Each verb is one transaction with its event and its audit line.
//!
//! Everything here is on behalf of a [`Caller`] and sees that agent's tasks only. A task is named by a [`TaskRef`].
//!
//! - here: what a task is, and what the verbs share
//! - `find`: one task, lists of them, and definitions as they were
//! - `insert`, `update`: definitions, under titles that are unique, with the cursor of the schedule
//! - `standing`: pause, resume, snooze, cancel
//! - `sameness`: when two definitions are one

mod find;
mod insert;
mod row;
mod sameness;
mod standing;
mod update;

use std::{ops::Deref, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{
    event::Topic,
    id::{AgentId, Shard, TaskId},
    planning::{Stretch, first_cursor},
    schedule::ScheduleKind,
    task::{Accepted, TaskSpec, TaskState, ZoneSource},
};
use serde_json::{Map, Value, json};
use sqlx::{Postgres, Transaction};

use crate::{
    Caller, StoreError,
    admission::LockedTask,
    error::Doing as _,
    inbound::trigger_own,
    outbox::{Told, tell},
    skips::{Skipped, write_skipped},
};

use self::find::select_task;

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

/// A task as it stands, without its definition: that of its revision never changes, and is larger than all of this.
#[derive(Debug, Clone)]
pub struct Standing {
    pub id: TaskId,
    pub agent: AgentId,
    pub title: String,
    pub state: TaskState,
    pub revision: u32,
    pub next_occurrence_at: Option<Timestamp>,
    /// When the next occurrence will be looked at: later than itself by jitter or while snoozed.
    pub next_due_at: Option<Timestamp>,
    pub last_occurrence_at: Option<Timestamp>,
    pub runs_planned: u64,
    /// Why its zone is what it is; unknown of tasks that were kept before that was.
    pub zone_source: Option<ZoneSource>,
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

/// A task as it stands, with the definition that stands.
#[derive(Debug, Clone)]
pub struct TaskRecord {
    pub standing: Standing,
    pub spec: TaskSpec,
}

/// What is true of a task is true of it with its definition.
impl Deref for TaskRecord {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

/// What became of a definition.
#[derive(Debug, Clone)]
pub enum Inserted {
    Created(TaskRecord),
    /// The same definition is there already, under this title or this request id.
    Existed(TaskRecord),
}

/// What would become of a definition.
#[derive(Debug, Clone)]
pub enum Foreseen {
    /// The task as it would be kept; its id is nobody's.
    WouldCreate(Box<TaskRecord>),
    /// The same definition is there already.
    Exists(Box<TaskRecord>),
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

/// Reads a task of the agent's.
async fn read_task(tx: &mut Transaction<'_, Postgres>, agent: AgentId, task: TaskId) -> Result<TaskRecord, StoreError> {
    select_task(tx, agent, Some(task), None).await?.ok_or_else(|| not_found(task))
}

fn not_found(task: TaskId) -> StoreError {
    StoreError::TaskNotFound { task: task.to_string(), near: Vec::new() }
}

/// Reads a task after locking it: what is decided on it holds until the commit, against planners too.
async fn lock_task(tx: &mut Transaction<'_, Postgres>, agent: AgentId, task: TaskId) -> Result<TaskRecord, StoreError> {
    sqlx::query!("select from task where id = $1 and agent_id = $2 for update", task.uuid(), agent.uuid())
        .fetch_optional(&mut **tx)
        .await
        .doing("lock a task")?;
    read_task(tx, agent, task).await
}

/// Where a schedule begins when its occurrences count after `after`; `None` also for kinds without a clock.
fn cursor(task: TaskId, accepted: &Accepted, after: Timestamp) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
    if !has_clock(accepted.spec.schedule_kind) {
        return Ok(None);
    }
    first_cursor(task, &accepted.spec, &accepted.schedule, after)
        .map_err(|gave_up| StoreError::TaskState { task, reason: gave_up.to_string() })
}

/// Whether time alone makes such a task due.
const fn has_clock(kind: ScheduleKind) -> bool {
    match kind {
        ScheduleKind::Cron | ScheduleKind::Rrule | ScheduleKind::Once | ScheduleKind::Interval => true,
        ScheduleKind::Event | ScheduleKind::Manual => false,
    }
}

/// What an `event` task listens to: its normalised expression is the topic.
fn topic(spec: &TaskSpec) -> Option<&str> {
    (spec.schedule_kind == ScheduleKind::Event).then_some(spec.schedule_expr.as_str())
}

/// From when a definition that was just accepted counts: an instant that went by between its acceptance and this
/// transaction (`once`, in a second) is late, not lost.
fn counts_from(spec: &TaskSpec, now: Timestamp) -> Timestamp {
    const ON_ITS_WAY: Duration = Duration::from_mins(1);
    if spec.anchored_at < now && spec.anchored_at + ON_ITS_WAY > now { spec.anchored_at } else { now }
}

/// Records what happened to a task, and answers with the task as it is now.
async fn tell_task(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    task: TaskId,
    topic: Topic,
    more: Map<String, Value>,
) -> Result<TaskRecord, StoreError> {
    let record = read_task(tx, caller.agent, task).await?;
    let mut payload = Map::new();
    payload.insert("task_id".to_owned(), json!(record.id));
    payload.insert("title".to_owned(), json!(record.spec.title));
    payload.insert("state".to_owned(), json!(record.state));
    payload.insert("revision".to_owned(), json!(record.revision));
    payload.extend(more);
    let told = [Told {
        agent: record.agent,
        task: Some(record.id),
        run: None,
        topic: topic.as_str().into(),
        cause_depth: 0,
        payload: Value::Object(payload),
    }];
    tell(tx, &told).await?;
    trigger_own(tx, &told).await?;
    Ok(record)
}

/// Writes a task's open stretch to history, before its columns are emptied.
async fn write_stretch(tx: &mut Transaction<'_, Postgres>, task: &TaskRecord) -> Result<(), StoreError> {
    let Some(stretch) = &task.open_stretch else { return Ok(()) };
    let revision = i32::try_from(task.revision).unwrap_or(i32::MAX);
    let locked = LockedTask { id: task.id, shard: Shard::default(), agent: task.agent, revision };
    let told = write_skipped(tx, &[Skipped::stretch(&locked, stretch)]).await?;
    trigger_own(tx, &told).await
}

/// The fields of a JSON object literal.
fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}
