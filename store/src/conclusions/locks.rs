//! What a batch of conclusions locks, in the one order that everybody keeps to: tasks, then runs.

use std::collections::HashMap;

use jiff_sqlx::Timestamp as SqlTimestamp;
use ordinaut_schema::{
    id::{AgentId, LeaseToken, RunId, TaskId},
    run::Verdict,
};
use sqlx::{Postgres, Transaction, types::Uuid};

use super::Conclusion;
use crate::{
    claims::Lease,
    error::{Doing as _, StoreError},
};

/// A run whose row is locked under the lease that concludes it.
pub(super) struct Held {
    pub(super) run: RunId,
    pub(super) agent: AgentId,
    pub(super) task: TaskId,
    pub(super) occurrence_at: jiff::Timestamp,
    pub(super) cause_depth: u16,
    pub(super) serial: bool,
    pub(super) concurrency_key: Option<String>,
    pub(super) cancel: Option<String>,
}

/// Locks the tasks whose failures in a row will change, before any run: tasks come first in every lock order.
pub(super) async fn lock_counted_tasks(
    tx: &mut Transaction<'_, Postgres>,
    conclusions: &[&Conclusion],
) -> Result<(), StoreError> {
    let runs: Vec<Uuid> = conclusions.iter().map(|it| it.lease.run.uuid()).collect();
    let failed = conclusions.iter().filter(|it| matches!(it.verdict, Verdict::Failed { .. }));
    let failed: Vec<Uuid> = failed.map(|it| it.lease.run.uuid()).collect();
    sqlx::query!(
        "
        select id
        from task
        where id = any (array(
            select task_id from due_work where run_id = any ($2)
            union
            select failing.id
            from task as failing
            join due_work on due_work.task_id = failing.id
            where failing.failures_in_row > 0
              and due_work.run_id = any ($1)
        ))
        order by id
        for no key update
        ",
        &runs,
        &failed
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock tasks to count failures")?;
    Ok(())
}

/// Locks the rows, in run id order, and with them the runs that wait for them: they are woken, and whoever ends one of
/// those holds it while it comes for these. Answers with the rows under the lease that they are under, if any.
pub(super) async fn lock_held(
    tx: &mut Transaction<'_, Postgres>,
    conclusions: &[&Conclusion],
) -> Result<HashMap<Lease, Held>, StoreError> {
    let runs: Vec<Uuid> = conclusions.iter().map(|it| it.lease.run.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select run_id, lease_token, agent_id, task_id, occurrence_at as "occurrence_at: SqlTimestamp", cause_depth, serial,
               concurrency_key, cancel_reason, (cancel_asked_at is not null) as "cancel_asked!"
        from due_work
        where run_id = any ($1 || array(
            select substr(sub.occurrence_key, 3, 36)::uuid
            from due_work as sub
            where sub.run_id = any ($1)
              and sub.trigger = 'step'
              and sub.occurrence_key like 's:%'
        ))
        order by run_id
        for update
        "#,
        &runs
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock runs to conclude")?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let run = RunId::from_uuid(row.run_id);
            let lease = Lease { run, token: LeaseToken::from_uuid(row.lease_token?) };
            let held = Held {
                run,
                agent: AgentId::from_uuid(row.agent_id),
                task: TaskId::from_uuid(row.task_id),
                occurrence_at: row.occurrence_at.to_jiff(),
                cause_depth: u16::try_from(row.cause_depth).unwrap_or(0),
                serial: row.serial,
                concurrency_key: row.concurrency_key,
                cancel: row.cancel_asked.then(|| row.cancel_reason.unwrap_or_else(|| "cancelled".to_owned())),
            };
            Some((lease, held))
        })
        .collect())
}
