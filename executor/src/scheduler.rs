//! The scheduler: plans what is due, and sleeps until something will be.
//!
//! Leaderless: any number of executors plan, each under the locks of [`ordinaut_store::planning`]. It sleeps until the
//! earliest due instant (a difference of the database's own readings, counted on the monotonic clock), a hint, or its
//! poll, whichever is first: hints make it fast, the poll makes it right.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use ordinaut_store::{Store, StoreError, faults, planning::Planned};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{clock::DatabaseClock, metrics, traces};

/// Tasks of one planning transaction.
const BATCH: u32 = 500;
/// The longest sleep: a lost hint costs no more.
const POLL: Duration = Duration::from_secs(1);
/// The shortest sleep after a round that did nothing although something is due: somebody else holds it.
const HELD: Duration = Duration::from_millis(25);
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Plans until `drain`, waking the worker through `wake` whenever there may be something to claim.
pub async fn serve(
    store: Store,
    clock: DatabaseClock,
    wake: Arc<Notify>,
    hinted: Arc<Notify>,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    let mut pause = PAUSES.0;
    let mut polled = false;
    while !drain.is_cancelled() {
        let wait = match round(&store, &clock, &wake, polled).await {
            Ok(wait) => {
                pause = PAUSES.0;
                wait
            }
            Err(error) => {
                metrics::get().store_errors.add(1, &[opentelemetry::KeyValue::new("service", "scheduler")]);
                warn!(error = &error as &dyn std::error::Error, "could not plan; trying again");
                let wait = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                pause = (pause * 2).min(PAUSES.1);
                Wait { time: wait, is_poll: false }
            }
        };
        if wait.time.is_zero() {
            polled = false;
            continue;
        }
        polled = tokio::select! {
            () = drain.cancelled() => false,
            () = hinted.notified() => false,
            () = tokio::time::sleep(wait.time) => wait.is_poll,
        };
    }
    Ok(())
}

/// Plans what is due; where only the poll has come, looks first whether anything is.
async fn round(store: &Store, clock: &DatabaseClock, wake: &Notify, polled: bool) -> Result<Wait, StoreError> {
    if polled {
        let ahead = store.look_ahead().await?;
        clock.set(ahead.now, std::time::Instant::now());
        if ahead.next_due_at.is_none_or(|next| next > ahead.now) {
            let nothing = Planned { next_due_at: ahead.next_due_at, now: Some(ahead.now), ..Planned::default() };
            return Ok(sleep_after(&nothing, BATCH, rand::random()));
        }
    }
    let begun = Instant::now();
    let planned = store.plan_due(BATCH).await?;
    if planned.runs > 0 {
        faults::reached("after-plan-commit");
    }
    traces::planned(&planned, begun.elapsed());
    note(&planned, clock);
    if planned.runs > 0 || planned.woken > 0 {
        wake.notify_one();
    }
    Ok(sleep_after(&planned, BATCH, rand::random()))
}

fn note(planned: &Planned, clock: &DatabaseClock) {
    if let Some((now, read_at)) = planned.now.zip(planned.read_at) {
        clock.set(now, read_at);
    }
    metrics::get().runs_planned.add(planned.runs.into(), &[]);
    metrics::get().occurrences_skipped.add(planned.skipped.into(), &[]);
    if planned.runs > 0 {
        debug!(planned.runs, planned.skipped, planned.woken, "planned {} runs", planned.runs);
    }
}

/// How long to sleep after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    time: Duration,
    /// Nothing is due by then, as far as is known.
    is_poll: bool,
}

/// `spread` in `0.0..1.0` keeps executors from polling in step.
fn sleep_after(planned: &Planned, batch: u32, spread: f64) -> Wait {
    let for_due = |time| Wait { time, is_poll: false };
    if planned.tasks >= batch {
        return for_due(Duration::ZERO);
    }
    let poll = Wait { time: POLL.mul_f64(0.75 + spread / 4.0), is_poll: true };
    let (Some(next), Some(now)) = (planned.next_due_at, planned.now) else { return poll };
    if next <= now && planned.tasks == 0 && planned.woken == 0 {
        return for_due(HELD);
    }
    let due = until(next, now);
    if due <= poll.time { for_due(due) } else { poll }
}

fn until(next: Timestamp, now: Timestamp) -> Duration {
    // A millisecond late rather than a hair early, which would cost a second round.
    Duration::try_from(next.duration_since(now)).map_or(Duration::ZERO, |wait| wait + Duration::from_millis(1))
}

#[cfg(test)]
mod polls;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn planned(tasks: u32, next_in_ms: Option<i64>) -> Planned {
        let now: Timestamp = "2026-11-23T08:30:00Z".parse().unwrap();
        let next = next_in_ms.map(|ms| now + jiff::SignedDuration::from_millis(ms));
        Planned { tasks, next_due_at: next, now: Some(now), ..Planned::default() }
    }

    #[test]
    fn after_a_full_round_there_may_be_more() {
        assert_eq!(sleep_after(&planned(500, Some(60_000)), 500, 0.5).time, Duration::ZERO);
    }

    #[test]
    fn what_is_due_but_held_by_somebody_else_is_not_asked_for_without_a_pause() {
        let after = |planned| sleep_after(&planned, 500, 0.5).time;
        assert_eq!(after(planned(0, Some(-10))), HELD);
        assert_eq!(after(planned(0, Some(0))), HELD);
        assert_eq!(after(planned(1, Some(-10))), Duration::ZERO, "a round that did something goes on");
    }

    proptest! {
        #[test]
        fn it_never_sleeps_past_the_next_instant_nor_past_its_poll(ms in -5_000_i64..5_000, spread in 0.0..1.0) {
            let Wait { time, is_poll } = sleep_after(&planned(3, Some(ms)), 500, spread);
            prop_assert!(time <= POLL);
            let due = Duration::from_millis(u64::try_from(ms.max(0)).unwrap() + 1);
            prop_assert!(time <= due);
            // What comes due while it sleeps is planned without looking first.
            prop_assert_eq!(is_poll, ms >= 0 && time < due);
        }
    }
}
