//! Runs that somebody asks for: now, no longer, once more. Each wish is guarded so that asking twice asks once.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ordinaut_schema::{
    id::{OccurrenceKey, RunId, Shard, TaskId},
    run::{RunState, SkipReason, StepRecord, Trigger},
    schedule::Overlap,
    task::{Dedupe, TaskSpec, TaskState},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::{Postgres, Transaction};

use crate::{
    Caller, Store,
    admission::{LockedTask, NewRun, Turn, admit, enter_runs, entry, live_runs},
    audit::audit,
    budgets::{Budgets, LockedAgents, Wanted, lock_agents},
    connection::transaction_now,
    duplicates::{Keys, key_of},
    error::{Doing as _, StoreError},
    inbound::trigger_own,
    runs::{Cancelling, Live, RetryFrom, RunAsked, cancel_live},
    skips::{Skipped, write_skipped},
};

mod retry;
mod step;

pub use step::{SubRun, SubRunState};

/// A task whose row is locked, with its definition.
struct Asked {
    task: LockedTask,
    /// Its agent, where that has a budget.
    agents: LockedAgents,
    state: TaskState,
    spec: TaskSpec,
}

/// A run in history that may be retried.
struct Former {
    task: TaskId,
    revision: i32,
    state: RunState,
    root_run: RunId,
    cause_depth: u16,
    event: Option<Value>,
    params: Option<Value>,
    pinned: Option<Value>,
    started_at: Option<Timestamp>,
    steps: Vec<StepRecord>,
}

impl Store {
    /// Plans a run now. The same request id answers with the same run. Where the task's `dedupe_key` was taken within
    /// its window nothing runs: the request is a skipped occurrence, and is answered with the run it is a duplicate of.
    ///
    /// # Errors
    /// [`StoreError::TaskState`] for a cancelled task, and for one whose queue is full; [`StoreError::OverBudget`], with
    /// nothing stored; [`StoreError::RequestUsed`].
    pub async fn run_now(
        &self,
        caller: &Caller,
        task: TaskId,
        request_id: &str,
        params: Option<Map<String, Value>>,
    ) -> Result<RunAsked, StoreError> {
        let (asking, request) = (caller.clone(), request_id.to_owned());
        self.transaction_as(caller, "plan a run now", move |mut tx| async move {
            let answer = plan_now(&mut tx, &asking, task, &request, params).await?;
            Ok((answer, tx))
        })
        .await
    }

    /// Cancels a run that has not started at once, and asks one that runs to stop.
    pub async fn cancel_run(
        &self,
        caller: &Caller,
        run: RunId,
        reason: Option<&str>,
    ) -> Result<Cancelling, StoreError> {
        let (asking, reason) = (caller.clone(), reason.unwrap_or("cancelled by request").to_owned());
        self.transaction_as(caller, "cancel a run", move |mut tx| async move {
            let answer = cancel(&mut tx, &asking, run, &reason).await?;
            Ok((answer, tx))
        })
        .await
    }

    /// Plans a new run that retries one that is over and did not succeed.
    ///
    /// # Errors
    /// [`StoreError::RunState`] when the run is not over, or succeeded.
    pub async fn retry_run(&self, caller: &Caller, run: RunId, from: RetryFrom) -> Result<RunId, StoreError> {
        let asking = caller.clone();
        self.transaction_as(caller, "retry a run", move |mut tx| async move {
            let retry = retry::plan_retry(&mut tx, &asking, run, from).await?;
            Ok((retry, tx))
        })
        .await
    }
}

async fn plan_now(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    task: TaskId,
    request: &str,
    params: Option<Map<String, Value>>,
) -> Result<RunAsked, StoreError> {
    let key = OccurrenceKey::manual(request);
    let first_seen = match receive(tx, caller, &key).await? {
        Received::New(at) => at,
        Received::Before { answer, .. } => return planned_before(task, request, answer),
    };
    let asked = lock_task(tx, caller, task).await?;
    if asked.state == TaskState::Cancelled {
        return Err(StoreError::TaskState { task, reason: "it is cancelled, which is final".to_owned() });
    }
    let mut run = NewRun::of(&asked.task, &asked.spec, Trigger::Manual, key, first_seen, first_seen);
    let dedupe = key_of(&asked.spec, task, params.as_ref(), None);
    run.params = params.map(Value::Object);
    let duplicate_of = match dedupe {
        Some(dedupe) => enter_once(tx, &asked, &mut run, &dedupe).await?,
        None => enter(tx, &asked, &mut run).await.map(|()| None)?,
    };
    let planned = RunAsked { run: run.id, existed: false, duplicate_of };
    answer(tx, caller, &run.key, &json!(Planned { task, planned })).await?;
    let detail = duplicate_of.map(|run| json!({ "duplicate_of": run }));
    audit(tx, caller, "run_now", Some(task), Some(run.id), detail).await?;
    Ok(planned)
}

/// Enters a run unless another took the key within the window; answers with that one.
async fn enter_once(
    tx: &mut Transaction<'_, Postgres>,
    asked: &Asked,
    run: &mut NewRun,
    Dedupe { key, window }: &Dedupe,
) -> Result<Option<RunId>, StoreError> {
    let mut keys = Keys::lock(tx, [(run.agent, key.clone())]).await?;
    // After the wait for the lock.
    let now = transaction_now(tx).await?;
    if let Some(seen) = keys.seen(run.agent, key).filter(|seen| now < seen.holds_until(*window)) {
        let told = write_skipped(tx, &[Skipped::of(run, SkipReason::Duplicate)]).await?;
        trigger_own(tx, &told).await?;
        return Ok(Some(seen.run));
    }
    keys.take(run.agent, key, run.id, run.occurrence_at, now);
    keys.write(tx).await?;
    enter(tx, asked, run).await.map(|()| None)
}

/// What `received` keeps for a request's second time.
#[derive(Serialize, Deserialize)]
struct Planned {
    task: TaskId,
    #[serde(flatten)]
    planned: RunAsked,
}

/// The run that this request id planned, if it was for the same task.
fn planned_before(task: TaskId, request: &str, answer: Option<Value>) -> Result<RunAsked, StoreError> {
    match answer.and_then(|answer| serde_json::from_value::<Planned>(answer).ok()) {
        Some(Planned { task: of, planned }) if of == task => Ok(RunAsked { existed: true, ..planned }),
        _ => Err(StoreError::RequestUsed { request: request.to_owned() }),
    }
}

/// Whether a key was seen before, and since when.
enum Received {
    New(Timestamp),
    Before { at: Timestamp, answer: Option<Value> },
}

/// Notes a request's key. Two at once: the second waits here until the first has committed.
async fn receive(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    key: &OccurrenceKey,
) -> Result<Received, StoreError> {
    let noted = sqlx::query_scalar!(
        r#"
        insert into received (agent_id, key)
        values ($1, $2)
        on conflict do nothing
        returning first_seen_at as "at: jiff_sqlx::Timestamp"
        "#,
        caller.agent.uuid(),
        key.as_str()
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("note a request")?;
    if let Some(at) = noted {
        return Ok(Received::New(at.to_jiff()));
    }
    // A statement of its own: the one above began before the other transaction's row was there to see. Locked: whoever
    // asks the third time waits for what the second makes of it.
    let row = sqlx::query!(
        r#"
        select first_seen_at as "at: jiff_sqlx::Timestamp", answer
        from received
        where agent_id = $1
          and key = $2
        for update
        "#,
        caller.agent.uuid(),
        key.as_str()
    )
    .fetch_one(&mut **tx)
    .await
    .doing("read an earlier request")?;
    Ok(Received::Before { at: row.at.to_jiff(), answer: row.answer })
}

/// Keeps what a request was answered.
async fn answer(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    key: &OccurrenceKey,
    answer: &Value,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update received set answer = $3 where agent_id = $1 and key = $2",
        caller.agent.uuid(),
        key.as_str(),
        answer
    )
    .execute(&mut **tx)
    .await
    .doing("keep the answer to a request")?;
    Ok(())
}

async fn lock_task(tx: &mut Transaction<'_, Postgres>, caller: &Caller, task: TaskId) -> Result<Asked, StoreError> {
    sqlx::query!(
        "select from task where id = $1 and agent_id = $2 for no key update",
        task.uuid(),
        caller.agent.uuid()
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("lock a task")?;
    // A statement of its own: an edit that the lock waited for has a definition that the one above does not see.
    let row = sqlx::query!(
        r#"
        select task.id, task.shard, task.agent_id, task.revision, task.state, task_revision.definition,
            exists (select from agent_budget where agent_id = task.agent_id) as "has_budget!"
        from task
        join task_revision on task_revision.task_id = task.id and task_revision.revision = task.revision
        where task.id = $1
          and task.agent_id = $2
        "#,
        task.uuid(),
        caller.agent.uuid()
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("read a locked task")?
    .ok_or_else(|| StoreError::TaskNotFound { task: task.to_string(), near: Vec::new() })?;
    // After the task, before anything else that is waited for.
    let agents = BTreeSet::from_iter(row.has_budget.then_some(caller.agent));
    Ok(Asked {
        agents: lock_agents(tx, &agents).await?,
        task: LockedTask {
            id: task,
            shard: Shard(u8::try_from(row.shard).unwrap_or(0)),
            agent: ordinaut_schema::id::AgentId::from_uuid(row.agent_id),
            revision: row.revision,
        },
        state: TaskState::from_text(&row.state)
            .ok_or_else(|| StoreError::unreadable(format!("the state of task {task}"), row.state))?,
        spec: TaskSpec::from_stored(row.definition)
            .map_err(|error| StoreError::unreadable(format!("the definition of task {task}"), error))?,
    })
}

/// Enters a run that was asked for, if budgets allow it: it takes its turn after the runs of its task that are not over.
async fn enter(tx: &mut Transaction<'_, Postgres>, asked: &Asked, run: &mut NewRun) -> Result<(), StoreError> {
    let wanted = Wanted { task: &asked.task, spec: &asked.spec, from: run.occurrence_at, to: run.occurrence_at };
    let mut budgets = Budgets::count(tx, &asked.agents, &[wanted]).await?;
    budgets
        .allows(&asked.task, run)
        .map_err(|exhausted| StoreError::OverBudget { task: asked.task.id, exhausted: Box::new(exhausted) })?;
    budgets.take(run);
    if asked.spec.overlap == Overlap::CancelRunning {
        cancel_live(tx, Live::OfTasks(&[asked.task.id]), "a newer run was asked for").await?;
    }
    let live = live_runs(tx, &[asked.task.id.uuid()]).await?.get(&asked.task.id).copied().unwrap_or_default();
    match entry(&asked.spec, live) {
        Ok(turn) => run.blocked = turn == Turn::Later,
        Err(SkipReason::QueueFull) => {
            return Err(StoreError::TaskState {
                task: asked.task.id,
                reason: format!("{} of its runs are not over, which is all its queue holds", live.all()),
            });
        }
        Err(other) => return Err(StoreError::TaskState { task: asked.task.id, reason: other.to_string() }),
    }
    enter_runs(tx, std::slice::from_ref(run)).await
}

async fn cancel(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    run: RunId,
    reason: &str,
) -> Result<Cancelling, StoreError> {
    let outcome = cancel_live(tx, Live::Runs(&[run]), reason).await?;
    let answer = if let Some(gone) = outcome.cancelled.first() {
        let keys = gone.concurrency_key.iter().map(|key| (gone.agent, key.clone())).collect();
        admit(tx, &[gone.task.uuid()], &keys).await?;
        Cancelling::Cancelled
    } else if outcome.requested.is_empty() {
        return Ok(Cancelling::Over(former(tx, run).await?.state));
    } else {
        Cancelling::Requested
    };
    audit(tx, caller, "cancel_run", None, Some(run), Some(json!({ "reason": reason }))).await?;
    Ok(answer)
}

async fn former(tx: &mut Transaction<'_, Postgres>, run: RunId) -> Result<Former, StoreError> {
    let row = sqlx::query!(
        r#"
        select task_id, revision, state, root_run_id, cause_depth, event, params, pinned, steps,
               started_at as "started_at: jiff_sqlx::Timestamp"
        from run
        where id = $1
        "#,
        run.uuid()
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("read a run")?
    .ok_or(StoreError::RunNotFound(run))?;
    Ok(Former {
        task: TaskId::from_uuid(row.task_id),
        revision: row.revision,
        state: RunState::from_text(&row.state)
            .ok_or_else(|| StoreError::unreadable(format!("the state of run {run}"), row.state))?,
        root_run: RunId::from_uuid(row.root_run_id),
        cause_depth: u16::try_from(row.cause_depth).unwrap_or(0),
        event: row.event,
        params: row.params,
        pinned: row.pinned,
        started_at: row.started_at.map(jiff_sqlx::Timestamp::to_jiff),
        steps: serde_json::from_value(row.steps)
            .map_err(|error| StoreError::unreadable(format!("the steps of run {run}"), error))?,
    })
}
