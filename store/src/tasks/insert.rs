//! New tasks: kept once, however often and from however many sides they are asked for.

use jiff::Timestamp;
use ordinaut_schema::{
    event::Topic,
    id::{AgentId, TaskId},
    limits::Limits,
    task::{Accepted, TaskState, title_key},
};
use serde_json::json;
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    Caller, Store, StoreError,
    audit::audit,
    connection::{at, transaction_now},
    error::Doing as _,
};

use super::{
    Foreseen, Inserted, Standing, TaskRecord, counts_from, cursor, fields, has_clock, read_task, row::read_spec,
    sameness::same_definition, tell_task, topic,
};

/// A title may be given up between being found taken and being looked at, so often at most in a row.
const TITLE_TRIES: usize = 3;

impl Store {
    /// The task that an earlier `create_task` with this request id made, if one did.
    pub async fn find_task_by_request(
        &self,
        caller: &Caller,
        request_id: &str,
    ) -> Result<Option<TaskRecord>, StoreError> {
        let agent = caller.agent;
        let key = request_key(request_id);
        self.transaction_as(caller, "find a task by its request", move |mut tx| async move {
            let answered = answered_task(&mut tx, agent, &key).await?;
            let record = match answered {
                Some(task) => Some(read_task(&mut tx, agent, task).await?),
                None => None,
            };
            Ok((record, tx))
        })
        .await
    }

    /// Keeps a new task: task, revision, cursor, `received` row for the request id, event, audit line, hint.
    ///
    /// The same definition under the same title is the same task. "The same" leaves out what acceptance filled in
    /// from the clock (the anchor, a `DTSTART` that was not given, the end of a delay), so that asking again after
    /// a lost answer does not quarrel with itself. Paused tasks count for the limit: they can be resumed.
    ///
    /// # Errors
    /// [`StoreError::TitleTaken`] when another definition has the title; [`StoreError::TooManyTasks`].
    pub async fn insert_task(
        &self,
        caller: &Caller,
        accepted: &Accepted,
        request_id: Option<&str>,
    ) -> Result<Inserted, StoreError> {
        let (who, accepted, key) = (caller.clone(), accepted.clone(), request_id.map(request_key));
        let inserted = self
            .transaction_as(caller, "keep a new task", move |mut tx| async move {
                let inserted = insert(&mut tx, &who, &accepted, key.as_deref()).await?;
                Ok((inserted, tx))
            })
            .await?;
        if let Inserted::Created(record) = &inserted
            && let Some(due) = record.next_due_at
        {
            self.wakeups.hint(due);
        }
        Ok(inserted)
    }
}

impl Store {
    /// Judges a new task as [`Store::insert_task`] does, and keeps nothing.
    ///
    /// # Errors
    /// As [`Store::insert_task`].
    pub async fn foresee_task(&self, caller: &Caller, accepted: &Accepted) -> Result<Foreseen, StoreError> {
        let (agent, accepted) = (caller.agent, accepted.clone());
        self.transaction_as(caller, "foresee a new task", move |mut tx| async move {
            if let Some((existing, same)) = holder_of_title(&mut tx, agent, &accepted).await? {
                if !same {
                    return Err(StoreError::TitleTaken { title: accepted.spec.title, existing });
                }
                let record = read_task(&mut tx, agent, existing).await?;
                return Ok((Foreseen::Exists(Box::new(record)), tx));
            }
            refuse_more_than(&mut tx, agent, Limits::DEFAULT.active_tasks - 1).await?;
            let now = transaction_now(&mut tx).await?;
            let task = TaskId::new();
            let (state, cursor) = beginning(task, &accepted, now)?;
            Ok((Foreseen::WouldCreate(Box::new(unkept(task, agent, accepted, state, cursor, now))), tx))
        })
        .await
    }
}

/// A task that is not there, as it would be at first.
fn unkept(
    id: TaskId,
    agent: AgentId,
    accepted: Accepted,
    state: TaskState,
    cursor: Option<(Timestamp, Timestamp)>,
    now: Timestamp,
) -> TaskRecord {
    let standing = Standing {
        id,
        agent,
        title: accepted.spec.title.clone(),
        state,
        revision: 1,
        next_occurrence_at: cursor.map(|(occurrence, _)| occurrence),
        next_due_at: cursor.map(|(_, due)| due),
        last_occurrence_at: None,
        runs_planned: 0,
        zone_source: Some(accepted.zone_source),
        paused_because: None,
        resume_at: None,
        snoozed_until: None,
        skip_next: 0,
        failures_in_row: 0,
        open_stretch: None,
        created_at: now,
        updated_at: now,
    };
    TaskRecord { standing, spec: accepted.spec }
}

async fn insert(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    accepted: &Accepted,
    key: Option<&str>,
) -> Result<Inserted, StoreError> {
    let task = TaskId::new();
    if let Some(key) = key
        && !receive(tx, caller.agent, key, task).await?
        && let Some(earlier) = answered_task(tx, caller.agent, key).await?
    {
        return Ok(Inserted::Existed(read_task(tx, caller.agent, earlier).await?));
    }
    for _ in 0..TITLE_TRIES {
        if insert_row(tx, caller, task, accepted).await? {
            refuse_more_than(tx, caller.agent, Limits::DEFAULT.active_tasks).await?;
            let zone = json!({ "schedule_kind": accepted.spec.schedule_kind });
            let record = tell_task(tx, caller, task, Topic::TaskCreated, fields(zone)).await?;
            audit(tx, caller, "create_task", Some(task), None, None).await?;
            return Ok(Inserted::Created(record));
        }
        let Some((existing, same)) = holder_of_title(tx, caller.agent, accepted).await? else { continue };
        if !same {
            return Err(StoreError::TitleTaken { title: accepted.spec.title.clone(), existing });
        }
        if let Some(key) = key {
            answer(tx, caller.agent, key, existing).await?;
        }
        return Ok(Inserted::Existed(read_task(tx, caller.agent, existing).await?));
    }
    Err(StoreError::TaskState { task, reason: "its title is being given up and taken again; ask once more".to_owned() })
}

/// Inserts task and first revision; `false` when the title is taken.
async fn insert_row(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    task: TaskId,
    accepted: &Accepted,
) -> Result<bool, StoreError> {
    let spec = &accepted.spec;
    let now = transaction_now(tx).await?;
    let (state, cursor) = beginning(task, accepted, now)?;
    let inserted = sqlx::query_file!(
        "queries/insert_task.sql",
        task.uuid(),
        caller.agent.uuid(),
        spec.title,
        title_key(&spec.title),
        state.as_str(),
        spec.schedule_kind.as_str(),
        topic(spec),
        at(cursor.map(|(occurrence, _)| occurrence)) as _,
        at(cursor.map(|(_, due)| due)) as _,
        accepted.zone_source.as_str(),
    )
    .execute(&mut **tx)
    .await
    .doing("insert a task")?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "
        insert into task_revision (task_id, revision, agent_id, definition, created_by)
        values ($1, 1, $2, $3, $4)
        ",
        task.uuid(),
        caller.agent.uuid(),
        spec.to_stored(),
        caller.principal,
    )
    .execute(&mut **tx)
    .await
    .doing("insert a revision")?;
    Ok(true)
}

/// How a new task stands, and where its cursor does.
fn beginning(
    task: TaskId,
    accepted: &Accepted,
    now: Timestamp,
) -> Result<(TaskState, Option<(Timestamp, Timestamp)>), StoreError> {
    let spec = &accepted.spec;
    let cursor = cursor(task, accepted, counts_from(spec, now))?;
    let state = if cursor.is_none() && has_clock(spec.schedule_kind) { TaskState::Ended } else { TaskState::Active };
    Ok((state, cursor))
}

/// The live task that has the title, and whether it has the same definition.
async fn holder_of_title(
    tx: &mut Transaction<'_, Postgres>,
    agent: AgentId,
    accepted: &Accepted,
) -> Result<Option<(TaskId, bool)>, StoreError> {
    let holder = sqlx::query!(
        "
        select task.id, task_revision.definition
        from task
        join task_revision
            on task_revision.task_id = task.id
           and task_revision.revision = task.revision
        where task.agent_id = $1
          and task.title_key = $2
          and task.state in ('active', 'paused')
        ",
        agent.uuid(),
        title_key(&accepted.spec.title),
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("find who has a title")?;
    let Some(holder) = holder else { return Ok(None) };
    let existing = TaskId::from_uuid(holder.id);
    let same = same_definition(&read_spec(existing, holder.definition)?, &accepted.spec);
    Ok(Some((existing, same)))
}

/// Refuses one more task where the agent has more than `most`.
async fn refuse_more_than(tx: &mut Transaction<'_, Postgres>, agent: AgentId, most: u32) -> Result<(), StoreError> {
    let past_limit = sqlx::query_scalar!(
        r#"
        select exists (
            select from task where agent_id = $1 and state in ('active', 'paused') offset $2
        ) as "past_limit!"
        "#,
        agent.uuid(),
        i64::from(most),
    )
    .fetch_one(&mut **tx)
    .await
    .doing("count active tasks")?;
    if past_limit { Err(StoreError::TooManyTasks { limit: Limits::DEFAULT.active_tasks }) } else { Ok(()) }
}

/// The ledger's key of a request to create a task.
fn request_key(request_id: &str) -> String {
    format!("c:{request_id}")
}

/// Enters the request in the ledger, answered with `task`; `false` when it is there already. Of two with the same
/// id at once, the second waits here for the first one's commit.
async fn receive(
    tx: &mut Transaction<'_, Postgres>,
    agent: AgentId,
    key: &str,
    task: TaskId,
) -> Result<bool, StoreError> {
    let entered = sqlx::query!(
        "insert into received (agent_id, key, answer) values ($1, $2, $3) on conflict (agent_id, key) do nothing",
        agent.uuid(),
        key,
        json!({ "task": task }),
    )
    .execute(&mut **tx)
    .await
    .doing("enter a request")?;
    Ok(entered.rows_affected() == 1)
}

async fn answer(tx: &mut Transaction<'_, Postgres>, agent: AgentId, key: &str, task: TaskId) -> Result<(), StoreError> {
    sqlx::query!(
        "update received set answer = $3 where agent_id = $1 and key = $2",
        agent.uuid(),
        key,
        json!({ "task": task }),
    )
    .execute(&mut **tx)
    .await
    .doing("answer a request")?;
    Ok(())
}

/// What a request was answered with.
async fn answered_task(
    tx: &mut Transaction<'_, Postgres>,
    agent: AgentId,
    key: &str,
) -> Result<Option<TaskId>, StoreError> {
    let task = sqlx::query_scalar!(
        r#"select (answer ->> 'task')::uuid as "task: Uuid" from received where agent_id = $1 and key = $2"#,
        agent.uuid(),
        key,
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("look up a request")?;
    Ok(task.flatten().map(TaskId::from_uuid))
}
