//! Recovery: runs whose executor is gone are given to another; those that kill executors are quarantined.

use std::collections::BTreeSet;

use jiff_sqlx::ToSqlx as _;
use ordinaut_schema::id::{AgentId, LeaseToken, RunId, TaskId};
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    Store,
    admission::admit,
    afterwards::claimable,
    claims::Lease,
    conclusions::quarantine,
    error::{Doing as _, StoreError},
};

/// A lease as recovery sees it. It is taken only after it was seen unrenewed for a full lease by the watcher's own
/// monotonic clock: a leap of the database's clock expires nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeldLease {
    pub lease: Lease,
    /// Changes with every renewal.
    pub expires_at: jiff::Timestamp,
}

impl Store {
    /// Every lease now held.
    pub async fn held_leases(&self) -> Result<Vec<HeldLease>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select run_id, lease_token as "lease_token!", lease_expires_at as "expires_at!: jiff_sqlx::Timestamp"
            from due_work
            where state = 'running'
            "#
        )
        .fetch_all(&self.pool)
        .await
        .doing("look at held leases")?;
        Ok(rows
            .into_iter()
            .map(|row| HeldLease {
                lease: Lease { run: RunId::from_uuid(row.run_id), token: LeaseToken::from_uuid(row.lease_token) },
                expires_at: row.expires_at.to_jiff(),
            })
            .collect())
    }

    /// Takes the leases that are still as they were seen: the runs become pending with one crash more, or quarantined
    /// at `max_crashes`. Answers how many were (recovered, quarantined).
    pub async fn recover_runs(&self, seen: &[HeldLease], max_crashes: u32) -> Result<(u32, u32), StoreError> {
        let seen = seen.to_vec();
        self.transaction("recover runs", move |mut tx| async move {
            let recovered = recover(&mut tx, &seen, max_crashes).await?;
            Ok((recovered, tx))
        })
        .await
    }

    /// Admits blocked runs whose key or task has room: what conclusions left, because another transaction held a lock
    /// or died in between. Answers how many.
    pub async fn admit_blocked(&self, limit: u32) -> Result<u32, StoreError> {
        self.transaction("admit blocked runs", move |mut tx| async move {
            let admitted = sweep(&mut tx, limit).await?;
            Ok((admitted, tx))
        })
        .await
    }
}

async fn recover(
    tx: &mut Transaction<'_, Postgres>,
    seen: &[HeldLease],
    max_crashes: u32,
) -> Result<(u32, u32), StoreError> {
    let rows = sqlx::query!(
        r#"
        select due_work.run_id, due_work.agent_id, due_work.task_id, due_work.crashes, due_work.cause_depth,
               due_work.occurrence_at as "occurrence_at: jiff_sqlx::Timestamp"
        from due_work
        join unnest($1::uuid [], $2::uuid [], $3::timestamptz []) as seen (run_id, lease_token, lease_expires_at)
            on seen.run_id = due_work.run_id
            and seen.lease_token = due_work.lease_token
            and seen.lease_expires_at = due_work.lease_expires_at
        order by due_work.run_id
        for update of due_work skip locked
        "#,
        &seen.iter().map(|held| held.lease.run.uuid()).collect::<Vec<_>>(),
        &seen.iter().map(|held| held.lease.token.uuid()).collect::<Vec<_>>(),
        &seen.iter().map(|held| held.expires_at.to_sqlx()).collect::<Vec<_>>() as _
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock runs to recover")?;
    let limit = i32::try_from(max_crashes).unwrap_or(i32::MAX);
    let (poisonous, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.crashes + 1 >= limit);

    let ids: Vec<Uuid> = others.iter().map(|row| row.run_id).collect();
    sqlx::query!(
        "
        update due_work
        set state = 'pending',
            crashes = crashes + 1,
            running_ms = running_ms + (extract(epoch from lease_expires_at - claimed_at) * 1000)::bigint,
            lease_token = null,
            lease_owner = null,
            lease_expires_at = null
        where run_id = any ($1)
        ",
        &ids
    )
    .execute(&mut **tx)
    .await
    .doing("recover runs")?;
    if !ids.is_empty() {
        claimable();
    }
    // One crash more, so that history counts it.
    let dead: Vec<Uuid> = poisonous.iter().map(|row| row.run_id).collect();
    sqlx::query!("update due_work set crashes = crashes + 1 where run_id = any ($1)", &dead)
        .execute(&mut **tx)
        .await
        .doing("count crashes")?;
    let counts = (u32::try_from(others.len()).unwrap_or(0), u32::try_from(poisonous.len()).unwrap_or(0));
    let poisonous = poisonous
        .into_iter()
        .map(|row| {
            let depth = u16::try_from(row.cause_depth).unwrap_or(0);
            (
                RunId::from_uuid(row.run_id),
                AgentId::from_uuid(row.agent_id),
                TaskId::from_uuid(row.task_id),
                row.occurrence_at.to_jiff(),
                depth,
            )
        })
        .collect();
    quarantine(tx, poisonous, max_crashes).await?;
    Ok(counts)
}

async fn sweep(tx: &mut Transaction<'_, Postgres>, limit: u32) -> Result<u32, StoreError> {
    let tasks: Vec<Uuid> = sqlx::query_scalar!(
        "select task_id from due_work where state = 'blocked' and serial group by task_id order by min(rank) limit $1",
        i64::from(limit)
    )
    .fetch_all(&mut **tx)
    .await
    .doing("look for blocked tasks")?;
    let keys: BTreeSet<(AgentId, String)> = sqlx::query!(
        r#"
        select agent_id, concurrency_key as "key!"
        from due_work
        where state = 'blocked' and concurrency_key is not null
        group by agent_id, concurrency_key
        order by min(rank)
        limit $1
        "#,
        i64::from(limit)
    )
    .fetch_all(&mut **tx)
    .await
    .doing("look for blocked keys")?
    .into_iter()
    .map(|row| (AgentId::from_uuid(row.agent_id), row.key))
    .collect();
    admit(tx, &tasks, &keys).await
}
