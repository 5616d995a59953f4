//! Recovery: runs whose executor is gone are given to another; those that kill executors are quarantined.

use std::collections::{BTreeSet, HashMap};

use jiff_sqlx::ToSqlx as _;
use ordinaut_schema::id::{AgentId, LeaseToken, RunId, TaskId};
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    Store,
    admission::admit,
    afterwards::claimable,
    claims::Lease,
    conclusions::{Poison, quarantine},
    error::{Doing as _, StoreError},
    unanswered::Within as _,
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
        .within(self, "look at held leases")
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| HeldLease {
                lease: Lease { run: RunId::from_uuid(row.run_id), token: LeaseToken::from_uuid(row.lease_token) },
                expires_at: row.expires_at.to_jiff(),
            })
            .collect())
    }

    /// Takes the leases that are still as they were seen: the runs become pending with one crash more, or quarantined
    /// when that is the `max_crashes`-th without a step done in between. Answers how many were (recovered, quarantined).
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
        select due_work.run_id, due_work.agent_id, due_work.task_id, due_work.crashes, due_work.crashes_in_row,
               due_work.done_before_crash, due_work.cause_depth,
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
    // Only now that nobody writes it any more.
    let done = done(tx, &rows.iter().map(|row| row.run_id).collect::<Vec<_>>()).await?;

    let mut counted = Counted::default();
    let mut poisonous = Vec::new();
    for row in rows {
        let crashes = Crashes { all: row.crashes, in_row: row.crashes_in_row, done: row.done_before_crash };
        let crashes = crashes.and_one_more(done.get(&row.run_id).copied().unwrap_or_default());
        counted.add(row.run_id, crashes);
        if let Some(reason) = crashes.convict(max_crashes) {
            let run = RunId::from_uuid(row.run_id);
            poisonous.push(Poison {
                run,
                agent: AgentId::from_uuid(row.agent_id),
                task: TaskId::from_uuid(row.task_id),
                occurrence_at: row.occurrence_at.to_jiff(),
                cause_depth: u16::try_from(row.cause_depth).unwrap_or(0),
                reason,
            });
            counted.quarantined += 1;
        } else {
            counted.recovered += 1;
        }
    }
    counted.write(tx).await?;
    if counted.recovered > 0 {
        claimable();
    }
    quarantine(tx, poisonous).await?;
    Ok((counted.recovered, counted.quarantined))
}

/// How much of each run is done: calls answered and steps ended, by its journal.
async fn done(tx: &mut Transaction<'_, Postgres>, runs: &[Uuid]) -> Result<HashMap<Uuid, i32>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select step_journal.run_id,
               (count(*) filter (where step_journal.state <> 'started') + sum(step_journal.calls))::integer as "done!"
        from unnest($1::uuid []) as given (run_id)
        join step_journal on step_journal.run_id = given.run_id
        group by step_journal.run_id
        "#,
        runs
    )
    .fetch_all(&mut **tx)
    .await
    .doing("look at what runs had done")?;
    Ok(rows.into_iter().map(|row| (row.run_id, row.done)).collect())
}

/// However far it gets each time, a run that has cost so many times `max_crashes` is no bad luck: a `foreach` with one
/// poisonous item does a little beside it in every attempt.
const PATIENCE: i32 = 10;

/// The deaths of executors that one run has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crashes {
    all: i32,
    /// Since something of it was last done.
    in_row: i32,
    /// What was done when the last one came.
    done: i32,
}

impl Crashes {
    const fn and_one_more(self, done: i32) -> Self {
        let in_row = if done > self.done { 1 } else { self.in_row + 1 };
        Self { all: self.all + 1, in_row, done }
    }

    /// Why the run is not given to anybody any more, if it is not.
    fn convict(self, max_crashes: u32) -> Option<String> {
        let limit = i32::try_from(max_crashes).unwrap_or(i32::MAX);
        let so_often = if self.in_row >= limit {
            format!("{} times while it ran, without a step of it done in between", self.in_row)
        } else if self.all >= limit.saturating_mul(PATIENCE) {
            format!("{} times while it ran", self.all)
        } else {
            return None;
        };
        Some(format!("its executor died {so_often}; it is not tried again by itself"))
    }
}

/// What recovery writes of each run, in arrays.
#[derive(Debug, Default)]
struct Counted {
    runs: Vec<Uuid>,
    in_row: Vec<i32>,
    done: Vec<i32>,
    recovered: u32,
    quarantined: u32,
}

impl Counted {
    fn add(&mut self, run: Uuid, crashes: Crashes) {
        self.runs.push(run);
        self.in_row.push(crashes.in_row);
        self.done.push(crashes.done);
    }

    /// Those that are quarantined too: history counts their last crash.
    async fn write(&self, tx: &mut Transaction<'_, Postgres>) -> Result<(), StoreError> {
        sqlx::query!(
            "
            update due_work
            set state = 'pending',
                crashes = crashes + 1,
                crashes_in_row = given.in_row,
                done_before_crash = given.done,
                running_ms = running_ms + (extract(epoch from lease_expires_at - claimed_at) * 1000)::bigint,
                lease_token = null,
                lease_owner = null,
                lease_expires_at = null
            from unnest($1::uuid [], $2::integer [], $3::integer []) as given (run_id, in_row, done)
            where due_work.run_id = given.run_id
            ",
            &self.runs,
            &self.in_row,
            &self.done
        )
        .execute(&mut **tx)
        .await
        .doing("recover runs")?;
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Crashes with so much done at each.
    fn after(done: &[i32]) -> Crashes {
        done.iter().fold(Crashes { all: 0, in_row: 0, done: 0 }, |crashes, done| crashes.and_one_more(*done))
    }

    #[test]
    fn only_crashes_without_anything_done_between_them_convict_a_run() {
        assert_eq!(after(&[0, 0]).convict(3), None);
        let convicted = after(&[0, 0, 0]).convict(3).expect("three in a row");
        assert!(convicted.starts_with("its executor died 3 times while it ran, without a step"), "{convicted}");
        assert_eq!(after(&[2, 2, 3, 3]).convict(3), None, "a step was done between the second and the third");
        assert!(after(&[2, 2, 3, 3, 3]).convict(3).is_some());
        assert!(after(&[0]).convict(1).is_some());
    }

    #[test]
    fn a_run_that_gets_a_little_further_each_time_is_not_tried_for_ever() {
        let further: Vec<i32> = (1..=30).collect();
        assert_eq!(after(&further[..29]).convict(3), None);
        let convicted = after(&further).convict(3).expect("ten times the limit");
        assert!(convicted.starts_with("its executor died 30 times while it ran;"), "{convicted}");
    }
}
