//! The times within a period, as seconds from its start, ascending.
//!
//! Kept as the lists they were written as: a rule with every BYHOUR, BYMINUTE and BYSECOND is 144 numbers, not
//! 86,400. BYSETPOS picks a few of them.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Times {
    /// Every combination of the three ascending lists.
    Product { hours: Vec<u8>, minutes: Vec<u8>, seconds: Vec<u8> },
    /// Ascending, without repeats.
    Picked(Vec<i64>),
}

impl Times {
    pub(super) fn len(&self) -> i64 {
        let len = match self {
            Self::Product { hours, minutes, seconds } => hours.len() * minutes.len() * seconds.len(),
            Self::Picked(list) => list.len(),
        };
        i64::try_from(len).expect("at most 86,400")
    }

    /// The time with `n` before it.
    pub(super) fn nth(&self, n: i64) -> Option<i64> {
        let n = usize::try_from(n).ok()?;
        match self {
            Self::Product { hours, minutes, seconds } => {
                let (rest, second) = (n / seconds.len(), n % seconds.len());
                let (hour, minute) = (rest / minutes.len(), rest % minutes.len());
                Some(seconds_of(*hours.get(hour)?, minutes[minute], seconds[second]))
            }
            Self::Picked(list) => list.get(n).copied(),
        }
    }

    /// How many times come before `second`.
    pub(super) fn count_before(&self, second: i64) -> i64 {
        let count = match self {
            Self::Product { hours, minutes, seconds } => {
                let before = |list: &[u8], value: i64| list.partition_point(|it| i64::from(*it) < value);
                let is = |list: &[u8], n: usize, value: i64| list.get(n).is_some_and(|it| i64::from(*it) == value);
                let (hour, minute) = (second / 3600, second / 60 % 60);
                let (hour_at, minute_at) = (before(hours, hour), before(minutes, minute));
                let mut count = hour_at * minutes.len() * seconds.len();
                if is(hours, hour_at, hour) {
                    count += minute_at * seconds.len();
                    if is(minutes, minute_at, minute) {
                        count += before(seconds, second % 60);
                    }
                }
                count
            }
            Self::Picked(list) => list.partition_point(|it| *it < second),
        };
        i64::try_from(count).expect("at most 86,400")
    }

    /// The first time at or after `second`.
    pub(super) fn first_from(&self, second: i64) -> Option<i64> {
        match self {
            Self::Product { hours, minutes, seconds } => {
                let at = |list: &[u8], value: i64| list.iter().copied().find(|it| i64::from(*it) >= value);
                let (hour, minute, rest) = (second / 3600, second / 60 % 60, second % 60);
                let in_hour = |hour: u8, minute: i64, rest: i64| {
                    let first = at(minutes, minute)?;
                    let rest = if i64::from(first) == minute { rest } else { 0 };
                    if let Some(found) = at(seconds, rest) {
                        return Some(seconds_of(hour, first, found));
                    }
                    Some(seconds_of(hour, at(minutes, i64::from(first) + 1)?, seconds[0]))
                };
                let first = at(hours, hour)?;
                if i64::from(first) > hour {
                    return Some(seconds_of(first, minutes[0], seconds[0]));
                }
                in_hour(first, minute, rest).or_else(|| Some(seconds_of(at(hours, hour + 1)?, minutes[0], seconds[0])))
            }
            Self::Picked(list) => list.get(list.partition_point(|it| *it < second)).copied(),
        }
    }

    /// Those at the given positions: 1 is the first, -1 the last.
    pub(super) fn pick(&self, positions: &[i16]) -> Self {
        Self::Picked(picks(positions, self.len()).into_iter().filter_map(|n| self.nth(n)).collect())
    }
}

/// The indices that positions (1 is the first, -1 the last) name among `len`, ascending, without repeats.
pub(super) fn picks(positions: &[i16], len: i64) -> Vec<i64> {
    let index = |position: &i16| if *position > 0 { i64::from(*position) - 1 } else { len + i64::from(*position) };
    let mut picks: Vec<i64> = positions.iter().map(index).filter(|n| (0..len).contains(n)).collect();
    picks.sort_unstable();
    picks.dedup();
    picks
}

fn seconds_of(hour: u8, minute: u8, second: u8) -> i64 {
    i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn the_product_is_never_built_and_still_searched_exactly(
            hours in btree_set(0_u8..24, 1..5),
            minutes in btree_set(0_u8..60, 1..5),
            seconds in btree_set(0_u8..60, 1..5),
            from in 0_i64..86_400,
        ) {
            let mut all = Vec::new();
            for hour in &hours {
                for minute in &minutes {
                    all.extend(seconds.iter().map(|second| seconds_of(*hour, *minute, *second)));
                }
            }
            let list = |set: std::collections::BTreeSet<u8>| set.into_iter().collect();
            let times = Times::Product { hours: list(hours), minutes: list(minutes), seconds: list(seconds) };
            prop_assert_eq!(times.first_from(from), all.iter().copied().find(|it| *it >= from));
            prop_assert_eq!(times.count_before(from), i64::try_from(all.iter().filter(|it| **it < from).count()).unwrap());
            prop_assert_eq!((0..times.len()).filter_map(|n| times.nth(n)).collect::<Vec<_>>(), all);
        }
    }
}
