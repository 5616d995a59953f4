//! Blocked runs become pending, as far as there is room.

use std::collections::{BTreeMap, BTreeSet};

use ordinaut_schema::id::{AgentId, TaskId};
use sqlx::{Postgres, Transaction, types::Uuid};

use super::live_runs;
use crate::{
    afterwards::{Queue, claimable, look_again},
    error::{Doing as _, StoreError},
};

struct Blocked {
    run: Uuid,
    task: Uuid,
    agent: AgentId,
    key: Option<(String, u32)>,
    serial: bool,
}

/// Admits blocked runs of these tasks and under these keys, in rank order, as far as there is room. Answers how many.
pub(crate) async fn admit(
    tx: &mut Transaction<'_, Postgres>,
    tasks: &[Uuid],
    keys: &BTreeSet<(AgentId, String)>,
) -> Result<u32, StoreError> {
    if tasks.is_empty() && keys.is_empty() {
        return Ok(0);
    }
    let candidates = blocked_runs(tx, tasks, keys).await?;
    if candidates.is_empty() {
        return Ok(0);
    }
    let their_tasks: BTreeSet<Uuid> = candidates.iter().filter(|run| run.serial).map(|run| run.task).collect();
    let their_keys: BTreeSet<(AgentId, String)> =
        candidates.iter().filter_map(|run| run.key.as_ref().map(|(key, _)| (run.agent, key.clone()))).collect();
    let locked_tasks = lock_tasks(tx, &their_tasks).await?;
    let locked_keys = lock_keys(tx, &their_keys).await?;
    look_again(
        candidates
            .iter()
            .filter(|run| run.serial && !locked_tasks.contains(&run.task))
            .map(|run| Queue::Task(run.agent, TaskId::from_uuid(run.task))),
    );
    look_again(their_keys.difference(&locked_keys).map(|(agent, key)| Queue::Key(*agent, key.clone())));

    let mut live = live_runs(tx, &locked_tasks.iter().copied().collect::<Vec<_>>()).await?;
    let mut held = holders(tx, &locked_keys).await?;
    let mut admitted = Vec::new();
    for run in candidates {
        if run.serial {
            let holders = &mut live.entry(TaskId::from_uuid(run.task)).or_default().holders;
            if *holders > 0 || !locked_tasks.contains(&run.task) {
                continue;
            }
        }
        if let Some((key, limit)) = &run.key {
            let key = (run.agent, key.clone());
            if !locked_keys.contains(&key) {
                continue;
            }
            let (holders, lowest) = held.entry(key).or_insert((0, u32::MAX));
            // With different limits the lowest holds: that of the runs that hold the key, and this one's.
            if *holders >= (*lowest).min(*limit) {
                continue;
            }
            *holders += 1;
            *lowest = (*lowest).min(*limit);
        }
        if run.serial {
            live.entry(TaskId::from_uuid(run.task)).or_default().holders += 1;
        }
        admitted.push(run.run);
    }
    let done =
        sqlx::query!("update due_work set state = 'pending' where run_id = any ($1) and state = 'blocked'", &admitted)
            .execute(&mut **tx)
            .await
            .doing("admit blocked runs")?;
    if done.rows_affected() > 0 {
        claimable();
    }
    Ok(u32::try_from(done.rows_affected()).unwrap_or(u32::MAX))
}

/// The first blocked runs of each task, and under each key, by rank: more than could be admitted are not looked at.
async fn blocked_runs(
    tx: &mut Transaction<'_, Postgres>,
    tasks: &[Uuid],
    keys: &BTreeSet<(AgentId, String)>,
) -> Result<Vec<Blocked>, StoreError> {
    let (agents, names): (Vec<_>, Vec<_>) = keys.iter().map(|(agent, key)| (agent.uuid(), key.clone())).unzip();
    let rows = sqlx::query_file!("queries/blocked_runs.sql", tasks, &agents, &names)
        .fetch_all(&mut **tx)
        .await
        .doing("look for blocked runs")?;
    Ok(rows
        .into_iter()
        .map(|row| Blocked {
            run: row.run_id,
            task: row.task_id,
            agent: AgentId::from_uuid(row.agent_id),
            key: row.concurrency_key.zip(row.concurrency_limit.map(|limit| u32::try_from(limit).unwrap_or(1))),
            serial: row.serial,
        })
        .collect())
}

/// Locks what can be had at once. Waiting could close a circle: whoever concludes has locked runs already, and whoever
/// plans holds tasks.
async fn lock_tasks(tx: &mut Transaction<'_, Postgres>, tasks: &BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>, StoreError> {
    let ids: Vec<Uuid> = tasks.iter().copied().collect();
    let locked =
        sqlx::query_scalar!("select id from task where id = any ($1) order by id for no key update skip locked", &ids)
            .fetch_all(&mut **tx)
            .await
            .doing("lock tasks for admission")?;
    Ok(locked.into_iter().collect())
}

async fn lock_keys(
    tx: &mut Transaction<'_, Postgres>,
    keys: &BTreeSet<(AgentId, String)>,
) -> Result<BTreeSet<(AgentId, String)>, StoreError> {
    let (agents, names): (Vec<_>, Vec<_>) = keys.iter().map(|(agent, key)| (agent.uuid(), key.clone())).unzip();
    let locked = sqlx::query!(
        "
        select agent_id, key
        from concurrency
        where (agent_id, key) in (select * from unnest($1::uuid [], $2::text []))
        order by agent_id, key
        for update skip locked
        ",
        &agents,
        &names
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock concurrency keys")?;
    Ok(locked.into_iter().map(|row| (AgentId::from_uuid(row.agent_id), row.key)).collect())
}

/// How many runs hold each key, and the lowest limit among them.
async fn holders(
    tx: &mut Transaction<'_, Postgres>,
    keys: &BTreeSet<(AgentId, String)>,
) -> Result<BTreeMap<(AgentId, String), (u32, u32)>, StoreError> {
    let (agents, names): (Vec<_>, Vec<_>) = keys.iter().map(|(agent, key)| (agent.uuid(), key.clone())).unzip();
    let rows = sqlx::query!(
        r#"
        select agent_id,
               concurrency_key as "key!",
               count(*) as "holders!",
               min(concurrency_limit) as "lowest!"
        from due_work
        where (agent_id, concurrency_key) in (select * from unnest($1::uuid [], $2::text []))
          and state <> 'blocked'
        group by agent_id, concurrency_key
        "#,
        &agents,
        &names
    )
    .fetch_all(&mut **tx)
    .await
    .doing("count the holders of concurrency keys")?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let counted = (u32::try_from(row.holders).unwrap_or(u32::MAX), u32::try_from(row.lowest).unwrap_or(1));
            ((AgentId::from_uuid(row.agent_id), row.key), counted)
        })
        .collect())
}
