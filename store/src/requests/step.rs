//! Sub-runs: a step asks for a run of another task of its agent, and waits for its end.
//!
//! A sub-run is guarded by the `received` row of `s:<root run>/<step>`: however often the step's call is made, by the run
//! or by one that resumes it, it is one run. There is another only where a repeat asks for just that: the step was told
//! that the run failed and calls again, which is what its retry is; the parent ended, and its sub-run with it, and is
//! resumed; the step was edited meanwhile, and asks for something else. What must never begin is refused: a chain of
//! causes that is too deep, and a task or a concurrency key that the runs waiting for this one hold already, because that
//! would never end.

use jiff::Timestamp;
use ordinaut_schema::{
    event::MAX_CAUSE_DEPTH,
    id::{AgentId, OccurrenceKey, RunId, TaskId},
    run::{RunState, StepFailure, Trigger},
    task::{TaskSpec, TaskState},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{Postgres, Transaction};

use super::{Received, answer, enter, lock_task, receive};
use crate::{
    Caller, Store, StoreError, admission::NewRun, approvals::in_one_order, audit::audit, connection::become_agent,
    error::Doing as _,
};

/// A step that asks for a run.
#[derive(Debug, Clone)]
pub struct SubRun {
    pub agent: AgentId,
    pub parent: RunId,
    /// Of the parent: what its idempotency keys begin with.
    pub root: RunId,
    /// The step, with `/<index>` in a `foreach`.
    pub step: String,
    pub task: TaskId,
    pub params: Option<Map<String, Value>>,
    /// The parent's.
    pub cause_depth: u16,
    /// Whether the step waits for its end: then it ends with its parent, too.
    pub awaited: bool,
}

/// How a sub-run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum SubRunState {
    /// It is not over.
    Live(RunId),
    Succeeded {
        run: RunId,
        output: Value,
    },
    /// It ended otherwise; the step has not been told of it before.
    Failed {
        run: RunId,
        state: RunState,
        error: Option<StepFailure>,
    },
}

/// What `received` keeps of a step's sub-runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Planned {
    run: RunId,
    /// How many there were.
    n: u32,
    /// The step was told that it failed: another call is a retry.
    told: bool,
    /// Whose step asked; absent in what programs before this one wrote, as the next.
    parent: Option<RunId>,
    /// The SHA-256 of what was asked for.
    asked: Option<String>,
}

impl Planned {
    /// Whether the run that was planned is not what this call asks for.
    fn is_of_another(&self, asked: &SubRun) -> bool {
        self.asked.as_ref().is_some_and(|of| *of != asked.sha256())
    }
}

impl SubRun {
    /// Of the task and its params, keys in their order.
    fn sha256(&self) -> String {
        let params = self.params.clone().map(Value::Object).unwrap_or_default();
        hex::encode(Sha256::digest(format!("{} {}", self.task, in_one_order(&params))))
    }
}

impl Store {
    /// Starts a sub-run, or says how the one that was started stands.
    ///
    /// # Errors
    /// [`StoreError::SubRunRefused`], [`StoreError::TaskState`]; [`StoreError::RunState`] when the parent is over.
    pub async fn sub_run(&self, asked: &SubRun) -> Result<SubRunState, StoreError> {
        let asked = asked.clone();
        let state = self
            .transaction("start a sub-run", move |mut tx| async move {
                become_agent(&mut tx, asked.agent).await?;
                let state = start_or_look(&mut tx, &asked).await?;
                Ok((state, tx))
            })
            .await?;
        if matches!(state, SubRunState::Live(_)) {
            self.wakeups.hint(Timestamp::UNIX_EPOCH);
        }
        Ok(state)
    }
}

async fn start_or_look(tx: &mut Transaction<'_, Postgres>, asked: &SubRun) -> Result<SubRunState, StoreError> {
    let caller = Caller::of(asked.agent, format!("run {}", asked.parent));
    let ledger = key(asked, asked.root, 1);
    let (first_seen, n) = match receive(tx, &caller, &ledger).await? {
        Received::New(at) => (at, 1),
        Received::Before { answer: kept, .. } => {
            let planned: Planned = serde_json::from_value(kept.unwrap_or_default())
                .map_err(|error| StoreError::unreadable(format!("what `{ledger}` planned"), error))?;
            let resumes = planned.parent.unwrap_or(asked.root) != asked.parent;
            match standing(tx, planned.run).await? {
                SubRunState::Failed { .. } if planned.told || resumes => {}
                SubRunState::Failed { run, state, error } => {
                    answer(tx, &caller, &ledger, &json!(Planned { told: true, ..planned })).await?;
                    return Ok(SubRunState::Failed { run, state, error });
                }
                SubRunState::Succeeded { .. } if planned.is_of_another(asked) => {}
                // One that is live was asked to end with the parent that is resumed: another begins when it has.
                other => return Ok(other),
            }
            (crate::connection::transaction_now(tx).await?, planned.n + 1)
        }
    };
    let run = start(tx, asked, &caller, key(asked, asked.parent, n), first_seen).await?;
    let planned = Planned { run, n, told: false, parent: Some(asked.parent), asked: Some(asked.sha256()) };
    answer(tx, &caller, &ledger, &json!(planned)).await?;
    Ok(SubRunState::Live(run))
}

/// The key of a step's n-th sub-run, of its parent: the one to wake. One that nobody waits for is a request like any
/// other, only made by a step.
fn key(asked: &SubRun, of: RunId, n: u32) -> OccurrenceKey {
    let step = if n == 1 { asked.step.clone() } else { format!("{}:{n}", asked.step) };
    if asked.awaited { OccurrenceKey::step(of, &step) } else { OccurrenceKey::manual(&format!("{of}/{step}")) }
}

async fn start(
    tx: &mut Transaction<'_, Postgres>,
    asked: &SubRun,
    caller: &Caller,
    key: OccurrenceKey,
    at: Timestamp,
) -> Result<RunId, StoreError> {
    if asked.cause_depth >= MAX_CAUSE_DEPTH {
        let message = format!("the chain of causes is {MAX_CAUSE_DEPTH} deep; call the steps of that task in this one");
        return Err(StoreError::SubRunRefused(message));
    }
    let task = lock_task(tx, caller, asked.task).await?;
    if task.state == TaskState::Cancelled {
        return Err(StoreError::TaskState { task: asked.task, reason: "it is cancelled, which is final".to_owned() });
    }
    // Whoever ends the parent ends what it started: nothing may be started behind its back.
    sqlx::query_scalar!("select run_id from due_work where run_id = $1 for share", asked.parent.uuid())
        .fetch_optional(&mut **tx)
        .await
        .doing("hold a run that starts another")?
        .ok_or_else(|| StoreError::RunState { run: asked.parent, reason: "it is over".to_owned() })?;
    refuse_circles(tx, asked, &task.spec).await?;
    let mut run = NewRun::of(&task.task, &task.spec, Trigger::Step, key, at, at);
    run.params = asked.params.clone().map(Value::Object);
    run.cause_depth = asked.cause_depth + 1;
    enter(tx, &task, &mut run).await?;
    audit(tx, caller, "task.run", Some(asked.task), Some(run.id), None).await?;
    Ok(run.id)
}

/// Refuses what would wait for itself.
async fn refuse_circles(tx: &mut Transaction<'_, Postgres>, asked: &SubRun, spec: &TaskSpec) -> Result<(), StoreError> {
    let line = sqlx::query!(
        r#"
        with recursive line as (
            select task_id, concurrency_key, concurrency_limit, trigger, occurrence_key, 1 as depth
            from due_work
            where run_id = $1
            union all
            select up.task_id, up.concurrency_key, up.concurrency_limit, up.trigger, up.occurrence_key, line.depth + 1
            from line
            join due_work as up
                on up.run_id = case
                    when line.trigger = 'step' and line.occurrence_key like 's:%'
                        then substr(line.occurrence_key, 3, 36)::uuid
                end
            where line.depth < 32
        )
        select task_id as "task!", concurrency_key, concurrency_limit
        from line
        "#,
        asked.parent.uuid()
    )
    .fetch_all(&mut **tx)
    .await
    .doing("look at the runs that wait for a sub-run")?;
    if line.first().is_some_and(|parent| parent.task == asked.task.uuid()) {
        return Err(StoreError::SubRunRefused("a task does not run itself; use `foreach`, or a schedule".to_owned()));
    }
    if !asked.awaited {
        return Ok(());
    }
    if line.iter().any(|up| up.task == asked.task.uuid()) {
        let message = format!("a run of \"{}\" waits for this one, so both would wait for ever", spec.title);
        return Err(StoreError::SubRunRefused(message));
    }
    if let Some(key) = &spec.concurrency_key {
        let holders: Vec<_> = line.iter().filter(|up| up.concurrency_key.as_ref() == Some(key)).collect();
        let lowest = holders.iter().filter_map(|up| up.concurrency_limit).min().unwrap_or(i32::MAX);
        let limit = u32::try_from(lowest).unwrap_or(1).min(spec.concurrency_limit) as usize;
        if !holders.is_empty() && holders.len() >= limit {
            let message = format!(
                "\"{}\" needs a place under the concurrency key `{key}`, and the runs that wait for it hold them all; \
                 give one of them another key or a higher concurrency_limit",
                spec.title
            );
            return Err(StoreError::SubRunRefused(message));
        }
    }
    Ok(())
}

async fn standing(tx: &mut Transaction<'_, Postgres>, run: RunId) -> Result<SubRunState, StoreError> {
    let over = sqlx::query!("select state, output, error from run where id = $1", run.uuid())
        .fetch_optional(&mut **tx)
        .await
        .doing("read how a sub-run ended")?;
    let Some(over) = over else { return Ok(SubRunState::Live(run)) };
    let state = RunState::from_text(&over.state)
        .ok_or_else(|| StoreError::unreadable(format!("the state of run {run}"), over.state))?;
    if state == RunState::Succeeded {
        return Ok(SubRunState::Succeeded { run, output: over.output.unwrap_or_default() });
    }
    let error = over
        .error
        .map(serde_json::from_value)
        .transpose()
        .map_err(|error| StoreError::unreadable(format!("the error of run {run}"), error))?;
    Ok(SubRunState::Failed { run, state, error })
}
