//! Whether what was shown has changed since: a short text for each task and run, compared and never read.
//!
//! It is what subscribers are told by. Events only say when to look here, so that losing one loses no change.

use std::collections::HashMap;

use ordinaut_schema::id::{RunId, TaskId};
use sqlx::types::Uuid;

use crate::{Caller, Store, StoreError, error::Doing as _};

/// What is compared; equal where nothing that is shown has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

/// The versions of what was asked for; what is not there, or another agent's, has none.
#[derive(Debug, Clone, Default)]
pub struct Versions(HashMap<Uuid, Version>);

impl Versions {
    pub fn of_task(&self, task: TaskId) -> Option<&Version> {
        self.0.get(&task.uuid())
    }

    pub fn of_run(&self, run: RunId) -> Option<&Version> {
        self.0.get(&run.uuid())
    }
}

impl Store {
    /// The versions of tasks and runs, in one snapshot.
    pub async fn versions(&self, caller: &Caller, tasks: &[TaskId], runs: &[RunId]) -> Result<Versions, StoreError> {
        let agent = caller.agent;
        let tasks: Vec<Uuid> = tasks.iter().map(|task| task.uuid()).collect();
        let runs: Vec<Uuid> = runs.iter().map(|run| run.uuid()).collect();
        self.transaction_as(caller, "compare versions", move |mut tx| async move {
            let rows = sqlx::query_file!("queries/versions.sql", agent.uuid(), &tasks, &runs)
                .fetch_all(&mut *tx)
                .await
                .doing("compare versions")?;
            Ok((Versions(rows.into_iter().map(|row| (row.id, Version(row.version))).collect()), tx))
        })
        .await
    }

    /// The version of a list of tasks: differs when one that is not over comes, goes or gets another title.
    pub async fn version_of_list(&self, caller: &Caller) -> Result<Version, StoreError> {
        let agent = caller.agent;
        self.transaction_as(caller, "compare the list of tasks", move |mut tx| async move {
            let version = sqlx::query_scalar!(
                r#"select md5(coalesce(string_agg(id::text || ' ' || title, ',' order by id), '')) as "version!"
                   from task
                   where agent_id = $1
                     and state in ('active', 'paused')"#,
                agent.uuid(),
            )
            .fetch_one(&mut *tx)
            .await
            .doing("compare the list of tasks")?;
            Ok((Version(version), tx))
        })
        .await
    }
}
