//! Cancelling runs that are not over: one verb for every way to ask for it.

use ordinaut_schema::{
    event::Topic,
    id::{AgentId, RunId, TaskId},
    run::{ErrorKind, RunState, StepFailure},
};
use serde_json::json;
use sqlx::{Postgres, Transaction};

use crate::{
    StoreError,
    error::Doing as _,
    inbound::trigger_own,
    outbox::{Told, tell},
    waking::wake_runs,
};

/// Which live runs [`cancel_live`] is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Live<'a> {
    OfTasks(&'a [TaskId]),
    Runs(&'a [RunId]),
}

/// A run that [`cancel_live`] ended, and what it held: whoever cancels admits the next under the key, or of the task.
#[derive(Debug, Clone)]
pub(crate) struct CancelledRun {
    pub(crate) id: RunId,
    pub(crate) agent: AgentId,
    pub(crate) task: TaskId,
    pub(crate) concurrency_key: Option<String>,
}

/// What became of live runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct CancelledLive {
    /// They had not started, or were waiting: they are over, and told.
    pub(crate) cancelled: Vec<CancelledRun>,
    /// They are running: they stop when their attempt sees the wish.
    pub(crate) requested: Vec<RunId>,
}

/// Cancels live runs: those that no attempt holds at once (history row, journal gone, `run.cancelled`), those that
/// run by asking. Locks in run id order, with them the runs that wait for them, which are woken: otherwise their own end,
/// which comes down to these, could be waiting for this one. Runs that are over already are not in the answer.
///
/// Whoever holds a place under a key gives it up here; admission of the next is the caller's. A caller that needs the
/// task's lock takes it before: tasks come first in every lock order.
pub(crate) async fn cancel_live(
    tx: &mut Transaction<'_, Postgres>,
    which: Live<'_>,
    reason: &str,
) -> Result<CancelledLive, StoreError> {
    let (tasks, runs): (Vec<_>, Vec<_>) = match which {
        Live::OfTasks(tasks) => (tasks.iter().map(|task| task.uuid()).collect(), Vec::new()),
        Live::Runs(runs) => (Vec::new(), runs.iter().map(|run| run.uuid()).collect()),
    };
    let live = sqlx::query!(
        r#"
        with asked as (
            select due_work.run_id from unnest($1::uuid[]) as given (id) join due_work on due_work.task_id = given.id
            union
            select given.id from unnest($2::uuid[]) as given (id)
        )
        select due_work.run_id, due_work.state = 'running' as "running!", wanted.is_asked as "asked!"
        from due_work
        join (
            select either.run_id, bool_or(either.is_asked) as is_asked
            from (
                select asked.run_id, true as is_asked from asked
                union all
                select substr(due_work.occurrence_key, 3, 36)::uuid, false
                from asked
                join due_work on due_work.run_id = asked.run_id
                where due_work.trigger = 'step' and due_work.occurrence_key like 's:%'
            ) as either
            group by either.run_id
        ) as wanted on wanted.run_id = due_work.run_id
        order by due_work.run_id
        for update of due_work
        "#,
        &tasks,
        &runs,
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock live runs")?;
    let (running, idle): (Vec<_>, Vec<_>) = live.into_iter().filter(|run| run.asked).partition(|run| run.running);

    let requested: Vec<_> = running.iter().map(|run| run.run_id).collect();
    sqlx::query!(
        "
        update due_work
        set cancel_asked_at = coalesce(cancel_asked_at, clock_timestamp()),
            cancel_reason = coalesce(cancel_reason, $2)
        from unnest($1::uuid[]) as asked (run_id)
        where due_work.run_id = asked.run_id
        ",
        &requested,
        reason,
    )
    .execute(&mut **tx)
    .await
    .doing("ask running runs to stop")?;

    let idle: Vec<_> = idle.iter().map(|run| run.run_id).collect();
    let error = json!(StepFailure::new(ErrorKind::Cancelled, reason));
    let gone = sqlx::query_file!("queries/cancel_live.sql", &idle, &error)
        .fetch_all(&mut **tx)
        .await
        .doing("cancel runs that are not running")?;
    let told: Vec<_> = gone
        .iter()
        .map(|run| Told {
            agent: AgentId::from_uuid(run.agent_id),
            task: Some(TaskId::from_uuid(run.task_id)),
            run: Some(RunId::from_uuid(run.run_id)),
            topic: Topic::RunCancelled.as_str().into(),
            cause_depth: u16::try_from(run.cause_depth).unwrap_or(0),
            payload: json!({
                "run_id": run.run_id,
                "task_id": run.task_id,
                "state": RunState::Cancelled,
                "scheduled_at": run.occurrence_at.to_jiff(),
                "error": error,
            }),
        })
        .collect();
    tell(tx, &told).await?;
    trigger_own(tx, &told).await?;
    wake_runs(tx, &gone.iter().filter_map(|run| run.parent_run_id).collect::<Vec<_>>()).await?;
    let ended: Vec<RunId> = gone.iter().map(|run| RunId::from_uuid(run.run_id)).collect();
    cancel_sub_runs(tx, &ended).await?;

    Ok(CancelledLive {
        cancelled: gone
            .into_iter()
            .map(|run| CancelledRun {
                id: RunId::from_uuid(run.run_id),
                agent: AgentId::from_uuid(run.agent_id),
                task: TaskId::from_uuid(run.task_id),
                concurrency_key: run.concurrency_key,
            })
            .collect(),
        requested: requested.into_iter().map(RunId::from_uuid).collect(),
    })
}

/// Cancels what was started by steps of runs that are over: nobody waits for it any more.
pub(crate) async fn cancel_sub_runs(tx: &mut Transaction<'_, Postgres>, ended: &[RunId]) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = ended.iter().map(|run| format!("s:{run}")).collect();
    let orphans = sqlx::query_scalar!(
        "
        select run_id
        from due_work
        where trigger = 'step'
          and left(occurrence_key, 38) = any ($1)
        order by run_id
        ",
        &keys
    )
    .fetch_all(&mut **tx)
    .await
    .doing("look for sub-runs")?;
    if orphans.is_empty() {
        return Ok(());
    }
    let orphans: Vec<RunId> = orphans.into_iter().map(RunId::from_uuid).collect();
    // Boxed: they may have sub-runs themselves.
    Box::pin(cancel_live(tx, Live::Runs(&orphans), "the run that started it is over")).await.map(drop)
}
