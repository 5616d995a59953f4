//! What a batch of conclusions locks, in the one order that everybody keeps to: tasks, then runs.

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
    pub(super) lease: Lease,
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
    conclusions: &[Conclusion],
) -> Result<(), StoreError> {
    let runs: Vec<Uuid> = conclusions.iter().map(|it| it.lease.run.uuid()).collect();
    let failed: Vec<bool> = conclusions.iter().map(|it| matches!(it.verdict, Verdict::Failed { .. })).collect();
    sqlx::query!(
        "
        select task.id
        from task
        join (
            select due_work.task_id, bool_or(given.failed) as failed
            from unnest($1::uuid [], $2::boolean []) as given (run_id, failed)
            join due_work on due_work.run_id = given.run_id
            group by due_work.task_id
        ) as counted on counted.task_id = task.id
        where counted.failed or task.failures_in_row > 0
        order by task.id
        for no key update of task
        ",
        &runs,
        &failed
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock tasks to count failures")?;
    Ok(())
}

/// Locks the rows that are still under their leases, in run id order, and the runs that wait for them: they are woken, and
/// whoever ends one of those holds it while it comes for these.
pub(super) async fn lock_held(
    tx: &mut Transaction<'_, Postgres>,
    conclusions: &[Conclusion],
) -> Result<Vec<Held>, StoreError> {
    let runs: Vec<Uuid> = conclusions.iter().map(|it| it.lease.run.uuid()).collect();
    let tokens: Vec<Uuid> = conclusions.iter().map(|it| it.lease.token.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select due_work.run_id, mine.lease_token as "lease_token?",
               due_work.agent_id, due_work.task_id,
               due_work.occurrence_at as "occurrence_at: SqlTimestamp",
               due_work.cause_depth, due_work.serial, due_work.concurrency_key,
               due_work.cancel_reason, (due_work.cancel_asked_at is not null) as "cancel_asked!"
        from due_work
        join (
            select given.run_id, given.lease_token
            from unnest($1::uuid [], $2::uuid []) as given (run_id, lease_token)
            union all
            select distinct substr(sub.occurrence_key, 3, 36)::uuid, null::uuid
            from unnest($1::uuid []) as given (run_id)
            join due_work as sub on sub.run_id = given.run_id
            where sub.trigger = 'step' and sub.occurrence_key like 's:%'
        ) as mine
            on mine.run_id = due_work.run_id
            and (mine.lease_token = due_work.lease_token or mine.lease_token is null)
        order by due_work.run_id
        for update of due_work
        "#,
        &runs,
        &tokens
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock runs to conclude")?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let token = LeaseToken::from_uuid(row.lease_token?);
            Some(Held {
                lease: Lease { run: RunId::from_uuid(row.run_id), token },
                run: RunId::from_uuid(row.run_id),
                agent: AgentId::from_uuid(row.agent_id),
                task: TaskId::from_uuid(row.task_id),
                occurrence_at: row.occurrence_at.to_jiff(),
                cause_depth: u16::try_from(row.cause_depth).unwrap_or(0),
                serial: row.serial,
                concurrency_key: row.concurrency_key,
                cancel: row.cancel_asked.then(|| row.cancel_reason.unwrap_or_else(|| "cancelled".to_owned())),
            })
        })
        .collect())
}
