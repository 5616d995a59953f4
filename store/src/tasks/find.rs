//! Tasks, looked for: one by its id or title, a page of them, and definitions as they were.

use std::collections::HashMap;

use ordinaut_schema::{
    fault::nearest,
    id::{AgentId, TaskId},
    task::{TaskSpec, TaskState, title_key},
};
use sqlx::PgConnection;

use crate::{Caller, Store, StoreError, View, error::Doing as _, unanswered::Within as _};

use super::{
    Standing, TaskFilter, TaskRecord, TaskRef, not_found,
    row::{StandingRow, read_spec},
};

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

/// By its id, or by the key of its title: the live one, else the latest of those that are over.
pub(super) async fn select_task(
    connection: &mut PgConnection,
    agent: AgentId,
    task: Option<TaskId>,
    title_key: Option<String>,
) -> Result<Option<TaskRecord>, StoreError> {
    let found = sqlx::query_file!("queries/find_task.sql", agent.uuid(), task.map(TaskId::uuid), title_key)
        .fetch_optional(connection)
        .await
        .doing("find a task")?;
    let Some(row) = found else { return Ok(None) };
    let spec = read_spec(TaskId::from_uuid(row.id), row.definition)?;
    let standing = StandingRow {
        id: row.id,
        agent_id: row.agent_id,
        title: row.title,
        state: row.state,
        revision: row.revision,
        next_occurrence_at: row.next_occurrence_at,
        next_due_at: row.next_due_at,
        last_occurrence_at: row.last_occurrence_at,
        runs_planned: row.runs_planned,
        zone_source: row.zone_source,
        paused_because: row.paused_because,
        resume_at: row.resume_at,
        snoozed_until: row.snoozed_until,
        skip_next: row.skip_next,
        failures_in_row: row.failures_in_row,
        stretch_reason: row.stretch_reason,
        stretch_from: row.stretch_from,
        stretch_to: row.stretch_to,
        stretch_count: row.stretch_count,
        stretch_opened_at: row.stretch_opened_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
    };
    Ok(Some(TaskRecord { standing: standing.try_into()?, spec }))
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
