//! Retries: a new run that carries on where a former one failed, or begins again.
//!
//! Resuming keeps what was journaled and the root's idempotency keys; it takes the latest definition only where the
//! finished steps read the same in it.

use jiff::Timestamp;
use ordinaut_schema::{
    id::{OccurrenceKey, RunId, TaskId},
    run::{ErrorKind, RunState, StepFailure, StepRecord, StepState, Trigger},
    task::{TaskSpec, TaskState},
    time::{Zone, with_offset},
};
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};

use super::{Received, enter, former, lock_task, receive};
use crate::{
    Caller,
    admission::NewRun,
    audit::audit,
    connection::at,
    error::{Doing as _, StoreError},
    journal::item,
    runs::RetryFrom,
};

/// Plans the run that retries `run`.
pub(super) async fn plan_retry(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    run: RunId,
    from: RetryFrom,
) -> Result<RunId, StoreError> {
    if is_live(tx, run).await? {
        return Err(StoreError::RunState { run, reason: "it is not over; cancel it first, or wait".to_owned() });
    }
    let former = former(tx, run).await?;
    match former.state {
        RunState::Failed | RunState::Cancelled | RunState::Quarantined => {}
        RunState::Skipped => {
            return Err(StoreError::RunState { run, reason: "it was skipped; use run_now".to_owned() });
        }
        state => return Err(StoreError::RunState { run, reason: format!("it {state}; use run_now to run again") }),
    }
    let mut asked = lock_task(tx, caller, former.task).await?;
    if asked.state == TaskState::Cancelled {
        return Err(StoreError::TaskState { task: former.task, reason: "it is cancelled, which is final".to_owned() });
    }
    let then = if former.revision == asked.task.revision {
        asked.spec.clone()
    } else {
        revision(tx, former.task, former.revision).await?
    };
    let resumes = from == RetryFrom::FailedStep;
    if resumes && !finished_unchanged(&former.steps, &then, &asked.spec) {
        asked.task.revision = former.revision;
        asked.spec = then.clone();
    }
    if resumes {
        refuse_second(tx, run, former.task, former.root_run).await?;
    }
    let n = retries_of(tx, caller, former.root_run).await? + 1;
    let key = OccurrenceKey::retry(former.root_run, n);
    let now = match receive(tx, caller, &key).await? {
        Received::New(at) | Received::Before { at, .. } => at,
    };
    let mut retry = NewRun::of(&asked.task, &asked.spec, Trigger::Retry, key, now, now);
    retry.retry_of = Some(run);
    retry.cause_depth = former.cause_depth;
    retry.event = former.event;
    retry.params = former.params;
    if resumes {
        retry.root_run = former.root_run;
        retry.pinned = former.pinned.or_else(|| former.started_at.map(|at| pinned_at(at, &then)));
    }
    enter(tx, &asked, &mut retry).await?;
    if resumes {
        copy_journal(tx, &retry, &carried(&former.steps, &then, &asked.spec)).await?;
    }
    audit(tx, caller, "retry_run", Some(former.task), Some(retry.id), Some(json!({ "retry_of": run }))).await?;
    Ok(retry.id)
}

/// What a run pinned that pinned nothing itself: `now` is when it first started.
fn pinned_at(started_at: Timestamp, spec: &TaskSpec) -> Value {
    let zone = Zone::find(&spec.timezone).unwrap_or_else(Zone::utc);
    json!({ "now": with_offset(started_at, &zone) })
}

/// The journal of a resuming retry: what is done, and the input of what failed, so that a call is repeated under its
/// key with the same words. A failed step that reads otherwise now is rendered anew; `on_failure` begins anew.
fn carried(steps: &[StepRecord], then: &TaskSpec, now: &TaskSpec) -> Vec<StepRecord> {
    let in_pipeline = |step: &&StepRecord| !then.on_failure.iter().any(|other| other.id == step.step);
    steps
        .iter()
        .filter(in_pipeline)
        .filter_map(|step| match step.state {
            StepState::Succeeded | StepState::Skipped | StepState::Continued => Some(step.clone()),
            StepState::Started | StepState::Failed if step.input.is_null() => None,
            StepState::Started | StepState::Failed => reads_the_same(&step.step, then, now).then(|| StepRecord {
                state: StepState::Started,
                calls: 0,
                // With its error, it is a call that is to be made again: somebody asked for just that.
                error: Some(step.error.clone().unwrap_or_else(|| {
                    StepFailure::new(ErrorKind::OutcomeUnknown, "nobody knows what became of the call")
                })),
                finished_at: None,
                ..step.clone()
            }),
        })
        .collect()
}

fn reads_the_same(step: &str, then: &TaskSpec, now: &TaskSpec) -> bool {
    let find = |spec: &TaskSpec| spec.steps().find(|other| other.id == step).cloned();
    find(then) == find(now)
}

/// Whether the steps that are done read the same in both revisions.
fn finished_unchanged(steps: &[StepRecord], then: &TaskSpec, now: &TaskSpec) -> bool {
    steps
        .iter()
        .filter(|step| matches!(step.state, StepState::Succeeded | StepState::Skipped | StepState::Continued))
        .all(|step| reads_the_same(&step.step, then, now))
}

async fn revision(tx: &mut Transaction<'_, Postgres>, task: TaskId, revision: i32) -> Result<TaskSpec, StoreError> {
    let definition = sqlx::query_scalar!(
        "select definition from task_revision where task_id = $1 and revision = $2",
        task.uuid(),
        revision
    )
    .fetch_one(&mut **tx)
    .await
    .doing("read a revision")?;
    TaskSpec::from_stored(definition)
        .map_err(|error| StoreError::unreadable(format!("revision {revision} of task {task}"), error))
}

async fn is_live(tx: &mut Transaction<'_, Postgres>, run: RunId) -> Result<bool, StoreError> {
    sqlx::query_scalar!(r#"select exists (select from due_work where run_id = $1) as "live!""#, run.uuid())
        .fetch_one(&mut **tx)
        .await
        .doing("look whether a run is live")
}

/// Two that resume one root at once would make the same calls under the same keys. The task is locked: one is planned
/// after the other.
async fn refuse_second(
    tx: &mut Transaction<'_, Postgres>,
    run: RunId,
    task: TaskId,
    root: RunId,
) -> Result<(), StoreError> {
    let other = sqlx::query_scalar!(
        "select run_id from due_work where task_id = $1 and root_run_id = $2 limit 1",
        task.uuid(),
        root.uuid()
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("look for a retry that is not over")?;
    match other {
        None => Ok(()),
        Some(other) => {
            let reason = format!(
                "run {} resumes it already; wait for its end, cancel it first, or retry from: start",
                RunId::from_uuid(other)
            );
            Err(StoreError::RunState { run, reason })
        }
    }
}

async fn retries_of(tx: &mut Transaction<'_, Postgres>, caller: &Caller, root: RunId) -> Result<u32, StoreError> {
    let n = sqlx::query_scalar!(
        r#"select count(*) as "n!" from received where agent_id = $1 and key >= $2 and key < $3"#,
        caller.agent.uuid(),
        format!("r:{root}:"),
        format!("r:{root};")
    )
    .fetch_one(&mut **tx)
    .await
    .doing("count retries")?;
    Ok(u32::try_from(n).unwrap_or(u32::MAX))
}

async fn copy_journal(
    tx: &mut Transaction<'_, Postgres>,
    run: &NewRun,
    steps: &[StepRecord],
) -> Result<(), StoreError> {
    for step in steps {
        sqlx::query!(
            "
            insert into step_journal (
                run_id, agent_id, step, item, uses, state, calls, input, output, error, started_at, finished_at
            )
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            ",
            run.id.uuid(),
            run.agent.uuid(),
            step.step,
            item(step.index),
            step.uses,
            step.state.as_str(),
            i32::try_from(step.calls).unwrap_or(i32::MAX),
            step.input,
            step.output,
            step.error.as_ref().map(|error| json!(error)),
            at(step.started_at) as _,
            at(step.finished_at) as _
        )
        .execute(&mut **tx)
        .await
        .doing("copy the journal of a run")?;
    }
    Ok(())
}
