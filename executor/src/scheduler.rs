//! The scheduler: plans what is due, and sleeps until something will be.
//!
//! Leaderless: any number of executors plan, each under the locks of [`ordinaut_store::planning`]. It sleeps until the
//! earliest due instant (a difference of the database's own readings, counted on the monotonic clock), a hint, or its
//! poll, whichever is first: hints make it fast, the poll makes it right.

use std::{sync::Arc, time::Duration};

use ordinaut_store::{
    Store, StoreError, faults,
    planning::{Ahead, Planned},
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{clock::DatabaseClock, metrics, revisions::Revisions, traces};

/// Tasks of one planning transaction.
const BATCH: u32 = 500;
/// The longest sleep: a lost hint costs no more.
const POLL: Duration = Duration::from_secs(1);
/// The shortest sleep after a round that did nothing although something is due: somebody else holds it.
const HELD: Duration = Duration::from_millis(25);
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Plans until `drain`, waking the worker through `wake` whenever there may be something to claim.
pub(crate) async fn serve(
    store: Store,
    clock: DatabaseClock,
    revisions: Arc<Revisions>,
    wake: Arc<Notify>,
    hinted: Arc<Notify>,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    let mut pause = PAUSES.0;
    let mut polled = false;
    while !drain.is_cancelled() {
        let wait = match round(&store, &clock, &revisions, &wake, polled).await {
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
            () = tokio::time::sleep(wait.time), if wait.is_poll => true,
            () = pause_exactly(wait.time), if !wait.is_poll => false,
        };
    }
    Ok(())
}

/// Plans what is due; where only the poll has come, looks first whether anything is.
async fn round(
    store: &Store,
    clock: &DatabaseClock,
    revisions: &Revisions,
    wake: &Notify,
    polled: bool,
) -> Result<Wait, StoreError> {
    if polled {
        let ahead = look_ahead(store, clock, wake).await?;
        if ahead.next_due_at.is_none_or(|next| next > ahead.now) {
            return Ok(sleep_after(&Planned::default(), &ahead, rand::random()));
        }
    }
    let begun = Instant::now();
    let mut planned = store.plan_due(BATCH).await?;
    if planned.runs > 0 {
        faults::reached("after-plan-commit");
        // What is about to be claimed need not be read again.
        revisions.planned(std::mem::take(&mut planned.definitions));
        wake.notify_one();
    }
    note(&planned, begun.elapsed());
    // After a full round too: what waits must not wait for a backlog to be planned.
    Ok(sleep_after(&planned, &look_ahead(store, clock, wake).await?, rand::random()))
}

async fn look_ahead(store: &Store, clock: &DatabaseClock, wake: &Notify) -> Result<Ahead, StoreError> {
    let ahead = store.look_ahead(BATCH).await?;
    clock.set(ahead.now, std::time::Instant::now());
    if ahead.woken > 0 {
        wake.notify_one();
    }
    Ok(ahead)
}

fn note(planned: &Planned, lasted: Duration) {
    traces::planned(planned, lasted);
    metrics::get().runs_planned.add(planned.runs.into(), &[]);
    metrics::get().occurrences_skipped.add(planned.skipped.into(), &[]);
    if planned.runs > 0 {
        debug!(planned.runs, planned.skipped, "planned {} runs", planned.runs);
    }
}

/// The timer of the runtime is good to two milliseconds; what is left after it, a thread sleeps through.
async fn pause_exactly(time: Duration) {
    const FINE: Duration = Duration::from_millis(3);
    let end = std::time::Instant::now() + time;
    let coarse = time.saturating_sub(FINE);
    if !coarse.is_zero() {
        tokio::time::sleep(coarse).await;
    }
    let left = end.saturating_duration_since(std::time::Instant::now());
    #[expect(clippy::disallowed_methods, reason = "no other sleep is as exact; it ends by itself, heard or not")]
    let sleeping = tokio::task::spawn_blocking(move || std::thread::sleep(left));
    // Broken down it would be over early, which costs a round.
    let _ended = sleeping.await;
}

/// How long to sleep after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    time: Duration,
    /// Nothing is due by then, as far as is known.
    is_poll: bool,
}

/// `spread` in `0.0..1.0` keeps executors from polling in step.
fn sleep_after(planned: &Planned, ahead: &Ahead, spread: f64) -> Wait {
    let for_due = |time| Wait { time, is_poll: false };
    if planned.tasks >= BATCH {
        return for_due(Duration::ZERO);
    }
    let poll = Wait { time: POLL.mul_f64(0.75 + spread / 4.0), is_poll: true };
    let Some(next) = ahead.next_due_at else { return poll };
    if next <= ahead.now && planned.tasks == 0 && ahead.woken == 0 {
        return for_due(HELD);
    }
    let due = Duration::try_from(next.duration_since(ahead.now)).unwrap_or_default();
    if due <= poll.time { for_due(due) } else { poll }
}

#[cfg(test)]
mod polls;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn ahead(next_in_ms: i64) -> Ahead {
        let now: Timestamp = "2026-11-23T08:30:00Z".parse().unwrap();
        let next_due_at = Some(now + jiff::SignedDuration::from_millis(next_in_ms));
        Ahead { woken: 0, next_due_at, now }
    }

    fn planned(tasks: u32) -> Planned {
        Planned { tasks, ..Planned::default() }
    }

    #[test]
    fn after_a_full_round_there_may_be_more() {
        assert_eq!(sleep_after(&planned(BATCH), &ahead(60_000), 0.5).time, Duration::ZERO);
    }

    #[test]
    fn what_is_due_but_held_by_somebody_else_is_not_asked_for_without_a_pause() {
        let after = |tasks, ahead| sleep_after(&planned(tasks), &ahead, 0.5).time;
        assert_eq!(after(0, ahead(-10)), HELD);
        assert_eq!(after(0, ahead(0)), HELD);
        assert_eq!(after(1, ahead(-10)), Duration::ZERO, "a round that did something goes on");
        assert_eq!(after(0, Ahead { woken: 1, ..ahead(-10) }), Duration::ZERO, "so does one that woke something");
    }

    proptest! {
        #[test]
        fn it_never_sleeps_past_the_next_instant_nor_past_its_poll(ms in -5_000_i64..5_000, spread in 0.0..1.0) {
            let Wait { time, is_poll } = sleep_after(&planned(3), &ahead(ms), spread);
            prop_assert!(time <= POLL);
            let due = Duration::from_millis(u64::try_from(ms.max(0)).unwrap());
            prop_assert!(time <= due);
            // What comes due while it sleeps is planned without looking first.
            prop_assert_eq!(is_poll, ms >= 0 && time < due);
        }
    }

    #[tokio::test]
    async fn a_pause_is_never_too_short() {
        for us in [0, 10, 900, 2_999, 3_001, 7_500] {
            let time = Duration::from_micros(us);
            let begun = Instant::now();
            pause_exactly(time).await;
            assert!(begun.elapsed() >= time, "{time:?}");
        }
    }
}
