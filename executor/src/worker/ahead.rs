//! How many runs a claim may take beyond the permits: those that only compute, and only as many as are started soon.
//!
//! A permit is for work that waits for others. A run that only computes waits for a processor, and with a permit each the
//! queue would be drained in batches of the permits, a commit apiece. So it is claimed ahead: what this process will start
//! within [`WITHIN`] at the rate at which it has started such runs just now. Pure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// What is claimed ahead is started within this, at the measured rate.
const WITHIN: Duration = Duration::from_millis(200);
/// What was claimed ahead and not started by then is given back.
pub(super) const GIVEN_BACK: Duration = Duration::from_secs(1);

/// Starts so far, looked at now and then.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// Notes that `started` runs have been started in all by `now`; answers how many of them within the last stretch.
    pub(super) fn note(&mut self, now: Instant, started: u64) -> u64 {
        // The last look at or before the beginning of the stretch stays: it is what the stretch is reckoned from.
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WITHIN) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= WITHIN / 20) {
            self.0.push_back((now, started));
        }
        let &(since, before) = self.0.front().expect("one was put in at the first look");
        let started = started.saturating_sub(before);
        let passed = now.saturating_duration_since(since).max(WITHIN);
        // Over a longer stretch, the share of it.
        u64::try_from(u128::from(started) * WITHIN.as_nanos() / passed.as_nanos()).unwrap_or(started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_started_in_the_stretch_before_may_be_claimed_ahead() {
        let mut pace = Pace::default();
        assert_eq!(pace.note(Instant::now(), 0), 0, "nothing is known of a process that has just begun");
        for n in 1..=40_u64 {
            tokio::time::advance(Duration::from_millis(10)).await;
            let ahead = pace.note(Instant::now(), n * 50);
            assert!(ahead <= 50 * 20, "{n}: {ahead} in 200 ms at 50 each 10 ms");
        }
        assert_eq!(pace.note(Instant::now(), 2_000), 1_000);

        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(pace.note(Instant::now(), 2_000) <= 100, "a stretch in which little was started allows little");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(pace.note(Instant::now(), 2_000), 0);
    }
}
