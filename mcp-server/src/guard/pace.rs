//! How fast somebody may come: a token bucket for each, kept as the one instant at which it is full again.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// How often those that have rested are looked for, at most, while there is no room.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// So many a minute, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub per_minute: u32,
    pub burst: u32,
}

impl Pace {
    /// What one costs.
    fn gap(self) -> Duration {
        Duration::from_mins(1) / self.per_minute.max(1)
    }

    /// When a bucket that was to be full at `full_at` is full again once one more is taken at `now`.
    fn one_more(self, full_at: Option<Instant>, now: Instant) -> Result<Instant, Duration> {
        let gap = self.gap();
        let next = full_at.map_or(now, |at| at.max(now)) + gap;
        let late = next.saturating_duration_since(now + gap.saturating_mul(self.burst.max(1)));
        if late.is_zero() { Ok(next) } else { Err(late) }
    }
}

/// A [`Pace`] for each of many. A bucket that is full need not be remembered, and no more than `most` are: those
/// beyond share one, so that whoever comes under ever new names gains nothing by it, and pushes nobody out.
#[derive(Debug)]
pub(crate) struct Paces<K> {
    pace: Pace,
    most: usize,
    full_at: HashMap<K, Instant>,
    others_full_at: Option<Instant>,
    swept_at: Option<Instant>,
}

impl<K: Eq + Hash> Paces<K> {
    pub(crate) fn new(pace: Pace, most: usize) -> Self {
        Self { pace, most, full_at: HashMap::new(), others_full_at: None, swept_at: None }
    }

    /// Whether one more of `key` could be taken; the error is how long until then.
    pub(crate) fn look(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let own = self.full_at.get(key).copied();
        let full_at = if self.full_at.len() < self.most { own } else { own.or(self.others_full_at) };
        self.pace.one_more(full_at, now).map(drop)
    }

    /// Takes one of `key`; the error is how long until there is one.
    pub(crate) fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if !self.full_at.contains_key(&key) && !self.has_room(now) {
            self.others_full_at = Some(self.pace.one_more(self.others_full_at, now)?);
            return Ok(());
        }
        let next = self.pace.one_more(self.full_at.get(&key).copied(), now)?;
        self.full_at.insert(key, next);
        Ok(())
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.full_at.len() < self.most {
            return true;
        }
        if self.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_INTERVAL) {
            self.swept_at = Some(now);
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < self.most
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace { per_minute: 60, burst: 3 };

    #[test]
    fn so_many_at_once_and_then_so_many_a_minute() {
        let mut paces = Paces::new(PACE, 10);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(paces.look(&"ann", now), Ok(()));
            assert_eq!(paces.take("ann", now), Ok(()));
        }
        assert_eq!(paces.look(&"ann", now), Err(Duration::from_secs(1)));
        assert_eq!(paces.take("ann", now), Err(Duration::from_secs(1)));
        assert_eq!(paces.take("bob", now), Ok(()), "each has a bucket of its own");
        assert_eq!(paces.take("ann", now + Duration::from_secs(1)), Ok(()));
        assert!(paces.take("ann", now + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn who_comes_under_ever_new_names_shares_one_bucket_and_pushes_nobody_out() {
        let mut paces = Paces::new(PACE, 2);
        let now = Instant::now();
        for _ in 0..3 {
            paces.take(1, now).unwrap();
            paces.take(2, now).unwrap();
        }
        let let_in = (3..1_000).filter(|name| paces.take(*name, now).is_ok()).count();
        assert_eq!(let_in, 3);
        assert!(paces.look(&1_000, now).is_err());
        assert!(paces.take(1, now).is_err(), "who was there is still remembered");
        assert_eq!(paces.full_at.len(), 2);
        let rested = now + Duration::from_mins(1);
        assert_eq!(paces.take(1_000, rested), Ok(()));
        assert!(paces.full_at.contains_key(&1_000), "who has rested makes room");
    }

    proptest! {
        /// Over any stretch of time, no more than the burst and what the minutes bring.
        #[test]
        fn nobody_gets_more_than_the_pace(gaps in prop::collection::vec(0_u64..3_000, 1..200)) {
            let mut paces = Paces::new(PACE, 10);
            let began = Instant::now();
            let (mut now, mut taken) = (began, 0_u64);
            for gap in gaps {
                now += Duration::from_millis(gap);
                match paces.take((), now) {
                    Ok(()) => taken += 1,
                    Err(wait) => prop_assert!(paces.look(&(), now + wait).is_ok(), "the wait told is long enough"),
                }
            }
            prop_assert!(taken <= 3 + (now - began).as_secs());
        }
    }
}
