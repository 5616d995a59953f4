//! Admission: a run enters `due_work` pending, or blocked while its task or its concurrency key is full, and becomes
//! pending when there is room.
//!
//! Room is counted under a lock (the task's row, the key's `concurrency` row), never remembered, so a crash cannot
//! leak a place. Whoever ends a run admits what it can lock at once; what it could not, or what entered as blocked
//! beside it, is looked at again after the commit (`afterwards`). A sweep (`Store::admit_blocked`) finds the rest.

mod admit;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use ordinaut_schema::{
    budget::Cost,
    id::{AgentId, OccurrenceKey, RunId, Shard, TaskId},
    run::{SkipReason, Trigger},
    schedule::Overlap,
    task::TaskSpec,
};
use serde_json::Value;
use sqlx::{Postgres, Transaction, types::Uuid};

pub(crate) use self::admit::admit;
use crate::{
    afterwards::{Queue, claimable, look_again},
    error::{Doing as _, StoreError},
};

/// A run about to enter `due_work`.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "a row, column by column")]
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    pub(crate) shard: Shard,
    pub(crate) agent: AgentId,
    pub(crate) task: TaskId,
    pub(crate) revision: i32,
    pub(crate) due_at: Timestamp,
    pub(crate) priority: u8,
    pub(crate) trigger: Trigger,
    pub(crate) key: OccurrenceKey,
    pub(crate) occurrence_at: Timestamp,
    pub(crate) root_run: RunId,
    pub(crate) retry_of: Option<RunId>,
    pub(crate) cause_depth: u16,
    pub(crate) event: Option<Value>,
    pub(crate) params: Option<Value>,
    pub(crate) pinned: Option<Value>,
    /// Takes turns with the other runs of its task.
    pub(crate) serial: bool,
    /// Takes turns, and it is not its turn yet.
    pub(crate) blocked: bool,
    pub(crate) concurrency: Option<(String, u32)>,
    pub(crate) ignores_waiting: bool,
    /// All it does is compute.
    pub(crate) pure: bool,
    /// Set aside of budgets of cost, where there are any.
    pub(crate) reserved: Option<Cost>,
}

impl NewRun {
    /// A run of `task` as `spec` says, due at `due_at` for the occurrence `key` of `occurrence_at`.
    pub(crate) fn of(
        task: &LockedTask,
        spec: &TaskSpec,
        trigger: Trigger,
        key: OccurrenceKey,
        occurrence_at: Timestamp,
        due_at: Timestamp,
    ) -> Self {
        let id = RunId::derive(task.id, &key, occurrence_at, task.shard);
        Self {
            id,
            shard: task.shard,
            agent: task.agent,
            task: task.id,
            revision: task.revision,
            due_at,
            priority: spec.priority,
            trigger,
            key,
            occurrence_at,
            root_run: id,
            retry_of: None,
            cause_depth: 0,
            event: None,
            params: None,
            pinned: None,
            serial: spec.overlap != Overlap::Allow,
            blocked: false,
            concurrency: spec.concurrency_key.clone().map(|key| (key, spec.concurrency_limit)),
            ignores_waiting: spec.overlap_ignores_waiting,
            pure: spec.is_pure(),
            reserved: None,
        }
    }
}

/// A task whose row this transaction has locked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LockedTask {
    pub(crate) id: TaskId,
    pub(crate) shard: Shard,
    pub(crate) agent: AgentId,
    pub(crate) revision: i32,
}

/// The runs of a task that are not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// Those that hold the task.
    pub(crate) holders: u32,
    /// Those that wait for it.
    pub(crate) blocked: u32,
}

impl Live {
    pub(crate) const fn all(self) -> u32 {
        self.holders + self.blocked
    }
}

/// What the runs of a task that are not over mean for one more, outside the schedule.
pub(crate) fn entry(spec: &TaskSpec, live: Live) -> Result<Turn, SkipReason> {
    match spec.overlap {
        Overlap::Skip | Overlap::Queue | Overlap::CancelRunning if live.all() > spec.queue_limit => {
            Err(SkipReason::QueueFull)
        }
        Overlap::Skip | Overlap::Queue | Overlap::CancelRunning if live.all() > 0 => Ok(Turn::Later),
        Overlap::Allow | Overlap::Skip | Overlap::Queue | Overlap::CancelRunning => Ok(Turn::Now),
    }
}

/// Whether a run may be claimed when it enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Now,
    Later,
}

/// Counts the live runs of tasks whose rows are locked.
pub(crate) async fn live_runs(
    tx: &mut Transaction<'_, Postgres>,
    tasks: &[Uuid],
) -> Result<BTreeMap<TaskId, Live>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select task_id,
               count(*) filter (
                   where state <> 'blocked' and not (state = 'waiting' and ignores_waiting)
               ) as "holders!",
               count(*) filter (where state = 'blocked') as "blocked!"
        from due_work
        where task_id = any ($1)
        group by task_id
        "#,
        tasks
    )
    .fetch_all(&mut **tx)
    .await
    .doing("count the live runs of tasks")?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(rows
        .into_iter()
        .map(|row| (TaskId::from_uuid(row.task_id), Live { holders: count(row.holders), blocked: count(row.blocked) }))
        .collect())
}

/// Enters runs. Those with a concurrency key enter blocked and are admitted at once where there is room.
pub(crate) async fn enter_runs(tx: &mut Transaction<'_, Postgres>, runs: &[NewRun]) -> Result<(), StoreError> {
    if runs.is_empty() {
        return Ok(());
    }
    let each = |of: fn(&NewRun) -> Uuid| runs.iter().map(of).collect::<Vec<_>>();
    let text = |of: fn(&NewRun) -> &str| runs.iter().map(|run| of(run).to_owned()).collect::<Vec<_>>();
    sqlx::query_file!(
        "queries/enter_runs.sql",
        &each(|run| run.id.uuid()),
        &runs.iter().map(|run| i16::from(run.shard.0)).collect::<Vec<_>>(),
        &each(|run| run.agent.uuid()),
        &each(|run| run.task.uuid()),
        &runs.iter().map(|run| run.revision).collect::<Vec<_>>(),
        &text(|run| if run.blocked || run.concurrency.is_some() { "blocked" } else { "pending" }),
        &runs.iter().map(|run| run.due_at.to_sqlx()).collect::<Vec<_>>() as _,
        &runs.iter().map(|run| i16::from(run.priority)).collect::<Vec<_>>(),
        &text(|run| run.trigger.as_str()),
        &text(|run| run.key.as_str()),
        &runs.iter().map(|run| run.occurrence_at.to_sqlx()).collect::<Vec<_>>() as _,
        &each(|run| run.root_run.uuid()),
        &runs.iter().map(|run| run.retry_of.map(RunId::uuid)).collect::<Vec<_>>() as _,
        &runs.iter().map(|run| i16::try_from(run.cause_depth).unwrap_or(i16::MAX)).collect::<Vec<_>>(),
        &runs.iter().map(|run| run.event.clone()).collect::<Vec<_>>() as _,
        &runs.iter().map(|run| run.params.clone()).collect::<Vec<_>>() as _,
        &runs.iter().map(|run| run.pinned.clone()).collect::<Vec<_>>() as _,
        &runs.iter().map(|run| run.serial).collect::<Vec<_>>(),
        &runs.iter().map(|run| run.concurrency.as_ref().map(|(key, _)| key.clone())).collect::<Vec<_>>() as _,
        &runs
            .iter()
            .map(|run| run.concurrency.as_ref().map(|(_, limit)| i32::try_from(*limit).unwrap_or(i32::MAX)))
            .collect::<Vec<_>>() as _,
        &runs.iter().map(|run| run.ignores_waiting).collect::<Vec<_>>(),
        &runs.iter().map(|run| run.pure).collect::<Vec<_>>(),
        &runs
            .iter()
            .map(|run| run.reserved.map(|cost| i64::try_from(cost.billionths()).unwrap_or(i64::MAX)))
            .collect::<Vec<_>>() as _,
    )
    .execute(&mut **tx)
    .await
    .doing("enter runs")?;

    if runs.iter().any(|run| !run.blocked && run.concurrency.is_none()) {
        claimable();
    }
    // The run that these wait for may be ending right now, unseen from here, and these unseen from there.
    look_again(runs.iter().filter(|run| run.blocked).map(|run| Queue::Task(run.agent, run.task)));
    let keyed: Vec<_> =
        runs.iter().filter_map(|run| run.concurrency.as_ref().map(|(key, _)| (run.agent, key.clone()))).collect();
    let keys: BTreeSet<(AgentId, String)> = keyed.iter().cloned().collect();
    if !keys.is_empty() {
        make_keys(tx, &keys).await?;
        let admitted = admit(tx, &[], &keys).await?;
        if usize::try_from(admitted).is_ok_and(|admitted| admitted < keyed.len()) {
            look_again(keys.into_iter().map(|(agent, key)| Queue::Key(agent, key)));
        }
    }
    Ok(())
}

async fn make_keys(tx: &mut Transaction<'_, Postgres>, keys: &BTreeSet<(AgentId, String)>) -> Result<(), StoreError> {
    let (agents, names): (Vec<_>, Vec<_>) = keys.iter().map(|(agent, key)| (agent.uuid(), key.clone())).unzip();
    sqlx::query!(
        "
        insert into concurrency (agent_id, key)
        select agent_id, key
        from unnest($1::uuid [], $2::text []) as given (agent_id, key)
        order by agent_id, key
        on conflict do nothing
        ",
        &agents,
        &names
    )
    .execute(&mut **tx)
    .await
    .doing("make concurrency keys")?;
    Ok(())
}
