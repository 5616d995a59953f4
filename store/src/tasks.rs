//! Tasks: kept, found, changed, paused, cancelled. Each verb is one transaction with its event and its audit line.
//!
//! Everything here is on behalf of a [`Caller`] and sees that agent's tasks only. A task is named by a [`TaskRef`].
//!
//! - here: what a task is, and how it is found
//! - `insert`, `update`: definitions, under titles that are unique, with the cursor of the schedule
//! - `standing`: pause, resume, snooze, cancel
//! - `sameness`: when two definitions are one

mod insert;
mod row;
mod sameness;
mod standing;
mod update;

use std::{collections::HashMap, ops::Deref, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{
    event::Topic,
    fault::nearest,
    id::{AgentId, Shard, TaskId},
    planning::{Stretch, first_cursor},
    schedule::ScheduleKind,
    task::{Accepted, TaskSpec, TaskState, ZoneSource, title_key},
};
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::{
    Caller, Store, StoreError, View,
    admission::LockedTask,
    error::Doing as _,
    inbound::trigger_own,
    outbox::{Told, tell},
    skips::{Skipped, write_skipped},
    unanswered::Within as _,
};

use self::row::{StandingRow, TaskRow, read_spec};

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

impl Store {
    pub async fn find_task(&self, caller: &Caller, task: &TaskRef) -> Result<TaskRecord, StoreError> {
        self.view(caller).await?.find_task(task).await
    }

    /// As [`View::list_tasks`].
    pub async fn list_tasks(
        &self,
        caller: &Caller,
        filter: &TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        self.view(caller).await?.list_tasks(filter, after, limit).await
    }

    /// A revision as it was. Sees what the role sees: executors read those of every agent.
    pub async fn find_revision(&self, task: TaskId, revision: u32) -> Result<TaskSpec, StoreError> {
        let definition = sqlx::query_scalar!(
            "select definition from task_revision where task_id = $1 and revision = $2",
            task.uuid(),
            i32::try_from(revision).unwrap_or(i32::MAX),
        )
        .fetch_optional(&self.pool)
        .within(self, "find a revision")
        .await?
        .ok_or_else(|| StoreError::TaskNotFound { task: format!("{task} (revision {revision})"), near: Vec::new() })?;
        read_spec(task, definition)
    }

    /// As [`Store::find_revision`], of many: those that there are and that this version can read.
    pub async fn find_revisions(&self, wanted: &[(TaskId, u32)]) -> Result<Vec<((TaskId, u32), TaskSpec)>, StoreError> {
        let (tasks, revisions): (Vec<_>, Vec<_>) =
            wanted.iter().map(|(task, revision)| (task.uuid(), i32::try_from(*revision).unwrap_or(i32::MAX))).unzip();
        let found = sqlx::query!(
            "
            select task_revision.task_id, task_revision.revision, task_revision.definition
            from unnest($1::uuid [], $2::integer []) as wanted (task_id, revision)
            join task_revision
                on task_revision.task_id = wanted.task_id and task_revision.revision = wanted.revision
            ",
            &tasks,
            &revisions
        );
        let found = found.fetch_all(&self.pool).within(self, "find revisions").await?;
        let read = found.into_iter().filter_map(|row| {
            let task = TaskId::from_uuid(row.task_id);
            let spec = read_spec(task, row.definition).ok()?;
            Some(((task, u32::try_from(row.revision).ok()?), spec))
        });
        Ok(read.collect())
    }
}

impl View {
    pub async fn find_task(&mut self, task: &TaskRef) -> Result<TaskRecord, StoreError> {
        let agent = self.agent();
        let task = task.clone();
        self.ask_all("find a task", move |connection| {
            Box::pin(async move {
                let (id, key) = match &task {
                    TaskRef::Id(id) => (Some(*id), None),
                    TaskRef::Title(title) => (None, Some(title_key(title))),
                };
                match (select_task(connection, agent, id, key).await?, task) {
                    (Some(found), _) => Ok(found),
                    (None, TaskRef::Id(id)) => Err(not_found(id)),
                    (None, TaskRef::Title(title)) => {
                        let near = near_titles(connection, agent, &title).await?;
                        Err(StoreError::TaskNotFound { task: title, near })
                    }
                }
            })
        })
        .await
    }

    /// By id, ascending; `after` is the last id of the page before.
    pub async fn list_tasks(
        &mut self,
        filter: &TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        let standing = self.list_standing(filter, after, limit).await?;
        let mut specs = self.definitions_of(standing.iter()).await?;
        let with_spec = |standing: Standing| {
            let spec = specs.remove(&standing.id).ok_or_else(|| not_found(standing.id))?;
            Ok(TaskRecord { standing, spec })
        };
        standing.into_iter().map(with_spec).collect()
    }

    /// As [`View::list_tasks`], without their definitions, which take most of the time.
    pub async fn list_standing(
        &mut self,
        filter: &TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Standing>, StoreError> {
        let agent = self.agent();
        let states =
            if filter.states.is_empty() { &[TaskState::Active, TaskState::Paused] } else { &filter.states[..] };
        let states: Vec<_> = states.iter().map(|state| state.as_str().to_owned()).collect();
        let text = filter.text.as_deref().map(title_key);
        let rows = self
            .ask("list tasks", move |connection| {
                Box::pin(async move {
                    sqlx::query_file_as!(
                        StandingRow,
                        "queries/list_tasks.sql",
                        agent.uuid(),
                        &states,
                        text,
                        after.map(TaskId::uuid),
                        i64::from(limit),
                    )
                    .fetch_all(connection)
                    .await
                })
            })
            .await?;
        rows.into_iter().map(Standing::try_from).collect()
    }

    /// The definitions that stand, of tasks that this view saw. Nothing is asked where there are none.
    pub async fn definitions_of(
        &mut self,
        tasks: impl Iterator<Item = &Standing>,
    ) -> Result<HashMap<TaskId, TaskSpec>, StoreError> {
        let (ids, revisions): (Vec<_>, Vec<_>) =
            tasks.map(|task| (task.id.uuid(), i32::try_from(task.revision).unwrap_or(i32::MAX))).unzip();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self
            .ask("read definitions", move |connection| {
                Box::pin(async move {
                    sqlx::query_file!("queries/definitions.sql", &ids, &revisions).fetch_all(connection).await
                })
            })
            .await?;
        let read = |id, definition| Ok((TaskId::from_uuid(id), read_spec(TaskId::from_uuid(id), definition)?));
        rows.into_iter().map(|row| read(row.task_id, row.definition)).collect()
    }
}

/// Live titles that somebody who wrote `title` may have meant: a slip of the keys, or a part of the title.
async fn near_titles(connection: &mut PgConnection, agent: AgentId, title: &str) -> Result<Vec<String>, StoreError> {
    let titles = sqlx::query_scalar!(
        "select title from task where agent_id = $1 and state in ('active', 'paused') order by id desc limit 1000",
        agent.uuid(),
    )
    .fetch_all(connection)
    .await
    .doing("look for near titles")?;
    let key = title_key(title);
    let slip = nearest(title, titles.iter().map(String::as_str));
    let parts = titles.iter().map(String::as_str).filter(|other| {
        let other = title_key(other);
        !key.is_empty() && (other.contains(&key) || key.contains(&other))
    });
    let mut near: Vec<String> = Vec::new();
    for found in slip.into_iter().chain(parts).take(5) {
        if !near.iter().any(|known| known == found) {
            near.push(found.to_owned());
        }
    }
    Ok(near)
}

/// Reads a task of the agent's.
async fn read_task(tx: &mut Transaction<'_, Postgres>, agent: AgentId, task: TaskId) -> Result<TaskRecord, StoreError> {
    select_task(tx, agent, Some(task), None).await?.ok_or_else(|| not_found(task))
}

/// By its id, or by the key of its title: the live one, else the latest of those that are over.
async fn select_task(
    connection: &mut PgConnection,
    agent: AgentId,
    task: Option<TaskId>,
    title_key: Option<String>,
) -> Result<Option<TaskRecord>, StoreError> {
    sqlx::query_file_as!(TaskRow, "queries/find_task.sql", agent.uuid(), task.map(TaskId::uuid), title_key)
        .fetch_optional(connection)
        .await
        .doing("find a task")?
        .map(TaskRecord::try_from)
        .transpose()
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
