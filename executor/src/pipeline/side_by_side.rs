//! Several at once: items of a `foreach`, members of a group.

use std::future::Future;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::Halt;

/// Starts `count` of them in order, at most `limit` at a time.
///
/// The first that halts keeps the rest from starting, unless `keep_going`; those that started are waited for, the parked
/// ones elsewhere: such a one keeps its place, and no other from starting. What all halts come to is told.
pub(super) async fn side_by_side<F>(
    count: usize,
    limit: usize,
    keep_going: bool,
    mut start: impl FnMut(usize) -> F,
) -> Result<(), Halt>
where
    F: Future<Output = Result<(), Halt>>,
{
    let mut running = FuturesUnordered::new();
    let mut next = 0;
    let mut parked = 0;
    let mut halts: Vec<Halt> = Vec::new();
    let may_go_on = |halt: &Halt| matches!(halt, Halt::Parked { .. }) || keep_going && halt.is_of_a_step();
    loop {
        while next < count && running.len() + parked < limit.max(1) && halts.iter().all(may_go_on) {
            running.push(start(next));
            next += 1;
        }
        match running.next().await {
            None => return Halt::of_all(halts).map_or(Ok(()), Err),
            Some(Ok(())) => {}
            Some(Err(halt)) => {
                parked += usize::from(matches!(halt, Halt::Parked { .. }));
                halts.push(halt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use ordinaut_schema::run::{ErrorKind, StepFailure};

    use super::*;

    fn failed(message: &str) -> Halt {
        Halt::Failed(StepFailure::new(ErrorKind::ClientError, message))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_starts_no_more_and_waits_for_those_that_started() {
        let seen = RefCell::new(Vec::new());
        let answer = side_by_side(5, 2, false, |n| {
            let seen = &seen;
            async move {
                seen.borrow_mut().push(format!("start {n}"));
                tokio::time::sleep(Duration::from_secs(if n == 0 { 1 } else { 5 })).await;
                seen.borrow_mut().push(format!("end {n}"));
                if n == 0 { Err(failed("0")) } else { Ok(()) }
            }
        })
        .await;
        assert!(matches!(answer, Err(Halt::Failed(_))));
        assert_eq!(*seen.borrow(), ["start 0", "start 1", "end 0", "end 1"]);
    }

    #[tokio::test]
    async fn a_failure_for_good_outweighs_a_retry_and_a_lost_lease_outweighs_both() {
        let halts = |n: usize| async move {
            Err(match n {
                0 => Halt::Retry { delay: Duration::ZERO, error: StepFailure::new(ErrorKind::Timeout, "late") },
                1 => failed("for good"),
                _ => Halt::Lost,
            })
        };
        assert!(matches!(side_by_side(2, 9, true, halts).await, Err(Halt::Failed(_))));
        assert!(matches!(side_by_side(3, 9, true, halts).await, Err(Halt::Lost)));
    }

    #[tokio::test]
    async fn a_failure_waits_for_what_is_parked_and_a_retry_beside_it_is_given_up() {
        let halts = |n: usize| async move {
            Err(match n {
                0 => Halt::Retry { delay: Duration::ZERO, error: StepFailure::new(ErrorKind::Timeout, "late") },
                1 => failed("for good"),
                2 => Halt::Parked { until: jiff::Timestamp::UNIX_EPOCH },
                _ => Halt::Cancelled,
            })
        };
        assert!(matches!(side_by_side(3, 9, true, halts).await, Err(Halt::Parked { .. })));
        assert!(matches!(side_by_side(4, 9, true, halts).await, Err(Halt::Cancelled)));
    }
}
