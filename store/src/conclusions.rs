//! Conclusions: what attempts decided, many in one transaction.
//!
//! A run that is over leaves `due_work` and enters history, its journal goes, what it held is given to the next that
//! waits, and its event is in the outbox, all at once or not at all.

mod locks;
mod plain;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff_sqlx::Timestamp as SqlTimestamp;
use ordinaut_schema::{
    event::Topic,
    id::{AgentId, RunId, TaskId},
    run::{ErrorKind, RunState, StepFailure, StepRecord, Verdict},
};
use serde_json::{Value, json};
use sqlx::{
    Postgres, Transaction,
    types::{Json, Uuid},
};

use self::{
    locks::{Held, lock_counted_tasks, lock_held},
    plain::end_plainly,
};
use crate::{
    Store,
    admission::admit,
    afterwards::claimable,
    claims::Lease,
    error::{Doing as _, StoreError},
    failures::note_ends,
    inbound::trigger_own,
    outbox::{Told, tell},
    runs::cancel_sub_runs,
    waking::wake_runs,
};

/// One attempt's end.
#[derive(Debug, Clone)]
pub struct Conclusion {
    pub lease: Lease,
    pub verdict: Verdict,
    /// The whole timeline, for history; ignored unless the verdict ends the run.
    pub steps: Vec<StepRecord>,
    /// How long this attempt ran.
    pub ran_for: Duration,
}

impl Conclusion {
    /// Its run ended well and left nothing behind: batches of only such conclusions are written the short way.
    pub fn is_plain(&self) -> bool {
        plain::output_of(self).is_some()
    }
}

/// What became of one conclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Yes,
    /// The lease is lost; nothing was written, and nothing may be said about the run.
    LeaseLost,
}

/// A run that another attempt will carry on.
struct PutOff {
    run: RunId,
    ran_for: Duration,
    until: Resumes,
}

enum Resumes {
    /// As if nothing had been.
    AtOnce,
    /// With one failure more.
    After(Duration, StepFailure),
    /// With nothing counted; sooner where somebody wakes it.
    At(jiff::Timestamp),
}

/// A run that is over, as it will stand in history.
pub(crate) struct Ended<'a> {
    pub(crate) run: RunId,
    pub(crate) agent: AgentId,
    pub(crate) task: TaskId,
    pub(crate) state: RunState,
    pub(crate) error: Option<StepFailure>,
    occurrence_at: jiff::Timestamp,
    cause_depth: u16,
    output: Value,
    steps: &'a [StepRecord],
}

impl Store {
    /// Writes conclusions in one transaction; answers in the order given.
    ///
    /// # Errors
    /// The transaction failed as a whole: nothing was written. The caller halves the batch to find the row at fault.
    pub async fn conclude_runs(&self, conclusions: Vec<Conclusion>) -> Result<Vec<Written>, StoreError> {
        let conclusions = Arc::new(conclusions);
        self.hot_transaction("conclude runs", move |mut tx| async move {
            let written = conclude(&mut tx, &conclusions).await?;
            Ok((written, tx))
        })
        .await
    }
}

async fn conclude(tx: &mut Transaction<'_, Postgres>, conclusions: &[Conclusion]) -> Result<Vec<Written>, StoreError> {
    let mut freed = Freed::default();
    let mut over = HashSet::new();
    // Not those of a mixed batch: tasks are locked before any run.
    if conclusions.iter().all(Conclusion::is_plain) {
        for run in end_plainly(tx, conclusions).await? {
            over.insert(run.lease);
            freed.add((run.agent, run.task), run.serial, run.concurrency_key);
        }
    }
    let others: Vec<&Conclusion> = conclusions.iter().filter(|it| !over.contains(&it.lease)).collect();
    let held = if others.is_empty() { HashMap::new() } else { conclude_others(tx, &others, &mut freed).await? };
    admit(tx, &freed.tasks.into_iter().collect::<Vec<_>>(), &freed.keys).await?;
    let is_written = |it: &Conclusion| over.contains(&it.lease) || held.contains_key(&it.lease);
    Ok(conclusions.iter().map(|it| if is_written(it) { Written::Yes } else { Written::LeaseLost }).collect())
}

/// The long way, which knows every verdict and whatever an end can mean. Answers what it found under its lease.
async fn conclude_others(
    tx: &mut Transaction<'_, Postgres>,
    conclusions: &[&Conclusion],
    freed: &mut Freed,
) -> Result<HashMap<Lease, Held>, StoreError> {
    lock_counted_tasks(tx, conclusions).await?;
    let held = lock_held(tx, conclusions).await?;
    let mut ended = Vec::new();
    let mut put_off = Vec::new();
    for conclusion in conclusions {
        let Some(run) = held.get(&conclusion.lease) else { continue };
        let verdict = last_word(conclusion.verdict.clone(), run.cancel.as_deref());
        if !matches!(verdict, Verdict::Released) {
            freed.add((run.agent, run.task), run.serial, run.concurrency_key.clone());
        }
        match verdict {
            Verdict::Succeeded { output } => {
                ended.push(end(run, RunState::Succeeded, None, output, &conclusion.steps));
            }
            Verdict::Failed { error } => {
                ended.push(end(run, RunState::Failed, Some(error), Value::Null, &conclusion.steps));
            }
            Verdict::Cancelled { reason } => {
                let error = StepFailure::new(ErrorKind::Cancelled, reason);
                ended.push(end(run, RunState::Cancelled, Some(error), Value::Null, &conclusion.steps));
            }
            Verdict::RetryAfter { delay, error } => {
                put_off.push(PutOff { run: run.run, ran_for: conclusion.ran_for, until: Resumes::After(delay, error) });
            }
            Verdict::Parked { until } => {
                put_off.push(PutOff { run: run.run, ran_for: conclusion.ran_for, until: Resumes::At(until) });
            }
            Verdict::Released => {
                put_off.push(PutOff { run: run.run, ran_for: conclusion.ran_for, until: Resumes::AtOnce });
            }
        }
    }
    write_put_off(tx, &put_off).await?;
    if put_off.iter().any(|it| matches!(it.until, Resumes::AtOnce)) {
        claimable();
    }
    end_runs(tx, &ended).await?;
    Ok(held)
}

/// What a wish to cancel leaves of a verdict: what is done is done, all else stops here.
fn last_word(verdict: Verdict, cancel: Option<&str>) -> Verdict {
    match (verdict, cancel) {
        (verdict @ (Verdict::Succeeded { .. } | Verdict::Cancelled { .. }), _) | (verdict, None) => verdict,
        (
            Verdict::Failed { .. } | Verdict::RetryAfter { .. } | Verdict::Parked { .. } | Verdict::Released,
            Some(reason),
        ) => Verdict::Cancelled { reason: reason.to_owned() },
    }
}

fn end<'a>(
    run: &Held,
    state: RunState,
    error: Option<StepFailure>,
    output: Value,
    steps: &'a [StepRecord],
) -> Ended<'a> {
    Ended {
        run: run.run,
        agent: run.agent,
        task: run.task,
        state,
        error,
        occurrence_at: run.occurrence_at,
        cause_depth: run.cause_depth,
        output,
        steps,
    }
}

/// What ended runs held. A retry's wait holds the place unless the task says otherwise; admission counts, so naming
/// too much here costs a look and nothing else.
#[derive(Default)]
struct Freed {
    tasks: BTreeSet<Uuid>,
    keys: BTreeSet<(AgentId, String)>,
}

impl Freed {
    fn add(&mut self, (agent, task): (AgentId, TaskId), serial: bool, concurrency_key: Option<String>) {
        if serial {
            self.tasks.insert(task.uuid());
        }
        self.keys.extend(concurrency_key.map(|key| (agent, key)));
    }
}

/// Writes retries (waiting, one failure more), parked runs (waiting, nothing counted) and releases (pending, nothing
/// counted). A run that was woken while it was still on its way to be parked does not wait at all. An attempt that came
/// as far as a retry or a wait killed nobody: crashes are counted anew.
async fn write_put_off(tx: &mut Transaction<'_, Postgres>, put_off: &[PutOff]) -> Result<(), StoreError> {
    if put_off.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = put_off.iter().map(|it| it.run.uuid()).collect();
    let ran: Vec<i64> = put_off.iter().map(|it| i64::try_from(it.ran_for.as_millis()).unwrap_or(i64::MAX)).collect();
    let mut waits = Vec::with_capacity(put_off.len());
    let mut errors = Vec::with_capacity(put_off.len());
    let mut instants = Vec::with_capacity(put_off.len());
    for it in put_off {
        let (wait, error, at) = match &it.until {
            Resumes::AtOnce => (None, None, None),
            Resumes::After(delay, error) => (Some(delay.as_secs_f64()), Some(json!(error)), None),
            Resumes::At(at) => (None, None, Some(SqlTimestamp::from(*at))),
        };
        waits.push(wait);
        errors.push(error);
        instants.push(at);
    }
    sqlx::query!(
        "
        update due_work
        set state = case when num_nulls(given.wait, given.at) = 2 then 'pending' else 'waiting' end,
            wake_at = case
                when given.at is null then now() + make_interval(secs => given.wait)
                when due_work.wake_asked then now()
                else given.at
            end,
            wake_asked = false,
            failures = due_work.failures + (given.wait is not null)::integer,
            crashes_in_row = case
                when num_nulls(given.wait, given.at) = 2 then due_work.crashes_in_row
                else 0
            end,
            last_error = coalesce(given.error, due_work.last_error),
            running_ms = due_work.running_ms + given.ran_ms,
            lease_token = null,
            lease_owner = null,
            lease_expires_at = null
        from unnest($1::uuid [], $2::bigint [], $3::double precision [], $4::jsonb [], $5::timestamptz []) as given (
            run_id, ran_ms, wait, error, at
        )
        where due_work.run_id = given.run_id
        ",
        &ids,
        &ran,
        &waits as _,
        &errors as _,
        &instants as _
    )
    .execute(&mut **tx)
    .await
    .doing("put runs off")?;
    Ok(())
}

/// Moves runs to history, tells of them, and counts what their ends mean for their tasks.
async fn end_runs(tx: &mut Transaction<'_, Postgres>, ended: &[Ended<'_>]) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let parents = sqlx::query_file_scalar!(
        "queries/end_runs.sql",
        &ended.iter().map(|it| it.run.uuid()).collect::<Vec<_>>(),
        &ended.iter().map(|it| it.state.as_str().to_owned()).collect::<Vec<_>>(),
        &ended.iter().map(|it| it.error.as_ref().map(Json)).collect::<Vec<_>>() as _,
        &ended.iter().map(|it| Some(&it.output).filter(|output| !output.is_null()).map(Json)).collect::<Vec<_>>() as _,
        &ended.iter().map(|it| Json(it.steps)).collect::<Vec<_>>() as _,
    )
    .fetch_all(&mut **tx)
    .await
    .doing("write runs to history")?;
    wake_runs(tx, &parents).await?;
    // A timeline without `task.run` started none; an empty one is in the journal, which is gone.
    let starts = |it: &&Ended<'_>| it.steps.is_empty() || it.steps.iter().any(|step| step.uses == "task.run");
    cancel_sub_runs(tx, &ended.iter().filter(starts).map(|it| it.run).collect::<Vec<_>>()).await?;

    let told: Vec<Told> = ended.iter().map(told_of).collect();
    tell(tx, &told).await?;
    trigger_own(tx, &told).await?;
    note_ends(tx, ended).await
}

fn told_of(ended: &Ended<'_>) -> Told {
    let topic = match ended.state {
        RunState::Succeeded => Topic::RunSucceeded,
        RunState::Cancelled => Topic::RunCancelled,
        RunState::Skipped => Topic::RunSkipped,
        RunState::Quarantined => Topic::RunQuarantined,
        RunState::Failed | RunState::Blocked | RunState::Waiting | RunState::Pending | RunState::Running => {
            Topic::RunFailed
        }
    };
    Told {
        agent: ended.agent,
        task: Some(ended.task),
        run: Some(ended.run),
        topic: topic.as_str().into(),
        cause_depth: ended.cause_depth,
        payload: json!({
            "run_id": ended.run,
            "task_id": ended.task,
            "state": ended.state,
            "scheduled_at": ended.occurrence_at,
            "error": ended.error,
        }),
    }
}

/// A run that kills its executors, as recovery convicted it.
pub(crate) struct Poison {
    pub(crate) run: RunId,
    pub(crate) agent: AgentId,
    pub(crate) task: TaskId,
    pub(crate) occurrence_at: jiff::Timestamp,
    pub(crate) cause_depth: u16,
    pub(crate) reason: String,
}

/// Quarantines runs whose rows are locked.
pub(crate) async fn quarantine(tx: &mut Transaction<'_, Postgres>, runs: Vec<Poison>) -> Result<(), StoreError> {
    let ended: Vec<Ended<'_>> = runs
        .into_iter()
        .map(|poison| Ended {
            run: poison.run,
            agent: poison.agent,
            task: poison.task,
            state: RunState::Quarantined,
            error: Some(StepFailure::new(ErrorKind::OutcomeUnknown, poison.reason)),
            occurrence_at: poison.occurrence_at,
            cause_depth: poison.cause_depth,
            output: Value::Null,
            steps: &[],
        })
        .collect();
    end_runs(tx, &ended).await
}
