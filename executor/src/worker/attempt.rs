//! One attempt: from a claimed run to a conclusion, or to silence.
//!
//! No transaction is open while steps run. Whatever ends the attempt early (the lease, an abort, a panic), what was
//! put in its journal is written before the run is given to anybody else.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use ordinaut_schema::{
    action::Grants,
    event::Topic,
    run::{ErrorKind, StepFailure, StepRecord, Trigger, Verdict},
};
use ordinaut_store::{
    StoreError,
    claims::{ClaimedRun, Lease},
    conclusions::{Conclusion, Written},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Claimed, Crew, ahead::GIVEN_BACK, lease::Held, verdict};
use crate::{
    metrics,
    pipeline::{
        Attempted, Engine, Halt,
        journal::{Journal, LeasedPages},
        orders::Orders,
        scope::Pinned,
    },
    progress::ProgressEvent,
    revisions::Revision,
    traces,
};

/// Runs one attempt to its end.
pub(super) async fn attempt(crew: Arc<Crew>, Claimed { run, asked_at, ahead }: Claimed) {
    let lease = run.lease();
    let held = crew.leases.hold(lease, asked_at);
    let begun = Instant::now();
    if run.cancel_asked {
        held.orders.cancelled.cancel();
    }
    let prepared = if ahead && asked_at.elapsed() > GIVEN_BACK {
        // Claimed for a pace that was not kept: somebody else may be idle.
        Err(Halt::Released)
    } else {
        tell_started(&crew, &run);
        match at_hand(&crew, &run, lease) {
            Some(prepared) => Ok(prepared),
            // Boxed, as whatever few attempts come to: all of them would be as large.
            None => until_told(&crew, &held.orders, Box::pin(prepare(&crew, &run, lease))).await,
        }
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(halt) => {
            let empty = open(&crew, lease, Vec::new());
            return conclude(&crew, &run, &held, &empty, Err(halt), begun.elapsed()).await;
        }
    };
    let Prepared { revision, journal, pinned, grants } = prepared;
    let attempted =
        Attempted { run: &run, spec: &revision.spec, journal: &journal, orders: &held.orders, grants: &grants };
    let engine = Engine::new(attempted, pinned, &crew.around);
    let walk = AssertUnwindSafe(engine.run()).catch_unwind();
    let walk = pin!(walk.map(|walked| walked.unwrap_or_else(|panic| Err(panicked(&*panic)))));
    let walked = until_told(&crew, &held.orders, walk).await;
    crew.walked.fetch_add(1, Ordering::Relaxed);
    conclude(&crew, &run, &held, &journal, walked, begun.elapsed()).await;
}

struct Prepared {
    revision: Arc<Revision>,
    journal: Journal,
    pinned: Pinned,
    grants: Grants,
}

/// Stops to wait for `work` when the lease ends or an abort is ordered.
async fn until_told<T>(
    crew: &Crew,
    orders: &Orders,
    work: impl Future<Output = Result<T, Halt>> + Unpin,
) -> Result<T, Halt> {
    tokio::select! {
        biased;
        // First: what only computes is done at the first look, and then nobody has to watch the clock for it.
        done = work => done,
        () = orders.lease_over() => Err(Halt::Lost),
        () = crew.abort.cancelled() => Err(Halt::Released),
    }
}

fn open(crew: &Crew, lease: Lease, written: Vec<StepRecord>) -> Journal {
    Journal::open(Arc::new(LeasedPages { store: crew.store.clone(), lease }), written)
}

/// Of the first attempt at a definition that was read before and names nothing that has to be looked up, everything that
/// must be known.
fn at_hand(crew: &Crew, run: &ClaimedRun, lease: Lease) -> Option<Prepared> {
    if run.attempt > 1 || run.trigger == Trigger::Retry || run.pinned.is_some() {
        return None;
    }
    let revision = crew.revisions.known(run.task, run.revision)?;
    if revision.names_previous || revision.needs_grants {
        return None;
    }
    let pinned = Pinned::new(run.started_at, &revision.spec, Value::Null);
    Some(Prepared { revision, journal: open(crew, lease, Vec::new()), pinned, grants: Grants::default() })
}

/// Everything that must be known before the first step, asked for until it is answered.
async fn prepare(crew: &Crew, run: &ClaimedRun, lease: Lease) -> Result<Prepared, Halt> {
    let mut pause = Duration::from_millis(50);
    loop {
        match prepare_once(crew, run, lease).await {
            Ok(prepared) => return Ok(prepared),
            Err(error) if error.is_retryable() => {
                warn!(run.id = %run.id, error = &error as &dyn std::error::Error, "could not prepare run {}; trying again", run.id);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Err(error @ StoreError::LeaseLost { .. }) => return Err(error.into()),
            Err(error) => {
                let message = format!("the run could not be prepared: {}", verdict::chain(&error));
                return Err(Halt::Failed(StepFailure::new(ErrorKind::ClientError, message)));
            }
        }
    }
}

async fn prepare_once(crew: &Crew, run: &ClaimedRun, lease: Lease) -> Result<Prepared, StoreError> {
    let revision = crew.revisions.find(&crew.store, run.task, run.revision).await?;
    // A retry begins with what its run's earlier incarnation finished.
    let written = if run.attempt > 1 || run.trigger == Trigger::Retry {
        crew.store.read_journal(run.id).await?
    } else {
        Vec::new()
    };
    let pinned = pin(crew, run, lease, &revision).await?;
    let grants = if revision.needs_grants { crew.store.find_agent(run.agent).await?.grants } else { Grants::default() };
    Ok(Prepared { revision, journal: open(crew, lease, written), pinned, grants })
}

/// `now` follows from the row itself, which keeps the instant of the first start; only `previous` must be written.
async fn pin(crew: &Crew, run: &ClaimedRun, lease: Lease, revision: &Revision) -> Result<Pinned, StoreError> {
    let unreadable = |source: serde_json::Error| StoreError::Unreadable {
        what: format!("what run {} pinned", run.id),
        source: source.into(),
    };
    if let Some(pinned) = &run.pinned {
        return serde_json::from_value(pinned.clone()).map_err(unreadable);
    }
    let spec = &revision.spec;
    if !revision.names_previous {
        return Ok(Pinned::new(run.started_at, spec, Value::Null));
    }
    let previous = crew.store.previous_run(run.task, run.id).await?;
    let pinned = json!(Pinned::new(run.started_at, spec, previous));
    serde_json::from_value(crew.store.pin_run(lease, &pinned).await?).map_err(unreadable)
}

async fn conclude(
    crew: &Crew,
    run: &ClaimedRun,
    held: &Held,
    journal: &Journal,
    walked: Result<Value, Halt>,
    ran_for: Duration,
) {
    let Some(mut verdict) = verdict::verdict(walked) else {
        info!(run.id = %run.id, attempt = run.attempt, "attempt {} at run {} lost its lease and stops", run.attempt, run.id);
        return;
    };
    if !verdict::is_final(&verdict) {
        // What this attempt knows must be there before another one can look.
        let flushed = tokio::select! {
            flushed = Box::pin(journal.flush()) => flushed,
            () = held.orders.lease_over() => return,
        };
        match flushed {
            Ok(()) => {}
            Err(StoreError::LeaseLost { .. }) => return,
            Err(error) => verdict = verdict::verdict(Err(Halt::Broken(error))).unwrap_or(Verdict::Released),
        }
    }
    let steps = if verdict::is_final(&verdict) {
        journal.close_open(crew.around.clock.now(), |_open| verdict::cause(&verdict));
        journal.timeline()
    } else {
        Vec::new()
    };
    let name = verdict::name(&verdict);
    let conclusion = Conclusion { lease: held.lease, verdict, steps, ran_for };
    held.concludes();
    match crew.committer.conclude(conclusion, journal.bytes() + 512, &held.orders).await {
        Written::Yes => {
            traces::concluded(name);
            metrics::get().runs_concluded.add(1, &[opentelemetry::KeyValue::new("verdict", name)]);
            debug!(run.id = %run.id, attempt = run.attempt, verdict = name, "concluded run {}: {name}", run.id);
        }
        Written::LeaseLost => {
            // Or it was written, and the answer to that never came.
            debug!(run.id = %run.id, attempt = run.attempt, "run {} is not this attempt's to conclude any more", run.id);
        }
    }
}

/// A panic is a mistake of ours: it would strike again, so the run fails.
fn panicked(panic: &(dyn Any + Send)) -> Halt {
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    tracing::error!("an attempt panicked: {what}");
    Halt::Failed(StepFailure::new(
        ErrorKind::OutcomeUnknown,
        format!("the executor failed inside this attempt: {what}"),
    ))
}

fn tell_started(crew: &Crew, run: &ClaimedRun) {
    crew.around.progress.tell(|| ProgressEvent {
        topic: Topic::RunStarted,
        agent: run.agent,
        task: run.task,
        run: run.id,
        payload: json!({ "attempt": run.attempt, "trigger": run.trigger, "scheduled_at": run.occurrence_at }),
    });
}

#[cfg(test)]
mod tests;
