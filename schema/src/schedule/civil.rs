//! Between the clock on the wall and the line of instants: the only place where daylight saving is decided.
//!
//! Civil time is a number of seconds: what the wall clock shows, read as if it were UTC. Two policies turn a
//! matcher over civil time into instants. [`first_fixed`] is for rules that name times of the day: a time in the
//! spring gap is shifted forward by the gap, a time in the autumn fold is taken at its first pass.
//! [`first_elapsed`] is for wildcards, which go by elapsed real time: nothing is made up, both passes fire.

use jiff::{Timestamp, civil::DateTime, tz::Offset};

use super::{DstShift, GaveUp};
use crate::time::Zone;

pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// No schedule looks beyond this: the end of year 9999, less what offsets and shifts can add.
pub(crate) const HORIZON: i64 = 253_402_300_800 - 3 * DAY;

/// No schedule looks before this: the beginning of year 1.
pub(crate) const ORIGIN: i64 = -62_135_596_800;

/// More than any offset, and any change of offset, has ever been (24 hours, when Samoa skipped a day).
const NEAR: i64 = 26 * HOUR;

/// Whole seconds, rounded down, so that "strictly after" holds for instants with fractions.
pub(crate) fn seconds(at: Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}

pub(crate) fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second.clamp(ORIGIN - 3 * DAY, HORIZON + DAY)).expect("the clamp is within jiff's range")
}

pub(crate) fn offset_at(zone: &Zone, second: i64) -> i64 {
    i64::from(zone.rules().to_offset(timestamp(second)).seconds())
}

/// A civil time as jiff has it.
pub(crate) fn to_datetime(civil: i64) -> DateTime {
    Offset::UTC.to_datetime(timestamp(civil))
}

pub(crate) fn from_datetime(civil: DateTime) -> Option<i64> {
    Offset::UTC.to_timestamp(civil).ok().map(seconds)
}

/// The instant of a civil time, and how daylight saving moved it.
pub(crate) fn resolve(zone: &Zone, civil: i64) -> (i64, Option<DstShift>) {
    use jiff::tz::AmbiguousOffset::{Fold, Gap, Unambiguous};
    match zone.rules().to_ambiguous_timestamp(to_datetime(civil)).offset() {
        Unambiguous { offset } => (civil - i64::from(offset.seconds()), None),
        // The offset before the gap puts it as far past the gap as it was into it.
        Gap { before, .. } => (civil - i64::from(before.seconds()), Some(DstShift::Gap)),
        Fold { before, .. } => (civil - i64::from(before.seconds()), Some(DstShift::Fold)),
    }
}

/// The least instant after `after` of a rule that names times of the day.
///
/// `from` gives the first civil time of the rule at or after the one it is asked about.
pub(crate) fn first_fixed(
    zone: &Zone,
    after: i64,
    mut from: impl FnMut(i64) -> Result<Option<i64>, GaveUp>,
) -> Result<Option<i64>, GaveUp> {
    let mut best = None;
    let mut civil = resume_point(zone, after);
    // A time shifted out of a gap may come after regular times that follow it: those are looked at, too.
    let mut limit = HORIZON;
    while let Some(found) = from(civil)?.filter(|found| *found < limit) {
        let (at, shift) = resolve(zone, found);
        if at > after && best.is_none_or(|best| at < best) {
            best = Some(at);
            limit = at + offset_at(zone, at);
        }
        // Not by one that is over: a shifted time ahead of it may be the best so far, and others come before that.
        if at > after && shift != Some(DstShift::Gap) {
            break;
        }
        civil = found + 1;
    }
    Ok(best)
}

/// The first civil time that may lie after `after`: past a fold whose first pass is over, and back into a gap
/// whose shifted times are still to come.
fn resume_point(zone: &Zone, after: i64) -> i64 {
    let here = offset_at(zone, after);
    if here == offset_at(zone, after - NEAR) {
        return after + here + 1;
    }
    for transition in zone.rules().preceding(timestamp(after + 1)) {
        let start = seconds(transition.timestamp());
        if start <= after - NEAR {
            break;
        }
        let (before, since) = (offset_at(zone, start - 1), offset_at(zone, start));
        if since > before && after < start + (since - before) {
            return after + before + 1;
        }
        if since < before && after + since < start + before {
            return start + before;
        }
    }
    after + here + 1
}

/// The least instant after `after` at which the wall clock shows a time of a wildcard rule.
pub(crate) fn first_elapsed(
    zone: &Zone,
    after: i64,
    mut from: impl FnMut(i64) -> Result<Option<i64>, GaveUp>,
) -> Result<Option<i64>, GaveUp> {
    let mut at = after + 1;
    loop {
        let stretch = Stretch::at(zone, at);
        let Some(found) = from(at + stretch.offset)?.filter(|found| *found < HORIZON) else { return Ok(None) };
        let candidate = found - stretch.offset;
        if stretch.holds_until(candidate) {
            return Ok(Some(candidate));
        }
        // Nothing matches between here and `found`, so most of the way can be skipped; except across a change so
        // near that the wall clock may go back to before here.
        let end = stretch.end();
        at = if end - at < NEAR { end } else { end.max(candidate - NEAR) };
    }
}

/// A stretch of time over which the zone keeps one offset.
#[derive(Debug)]
pub(crate) struct Stretch<'a> {
    zone: &'a Zone,
    from: i64,
    pub(crate) offset: i64,
    end: Option<i64>,
}

impl<'a> Stretch<'a> {
    /// The stretch that `second` lies in.
    pub(crate) fn at(zone: &'a Zone, second: i64) -> Self {
        Self { zone, from: second, offset: offset_at(zone, second), end: None }
    }

    /// Whether the offset still holds at `second`, which is not before the instant it was made for.
    pub(crate) fn holds_until(&self, second: i64) -> bool {
        match self.end {
            Some(end) => second < end,
            // No zone has ever changed its offset and changed it back within two days.
            None if second - self.from < 2 * DAY => offset_at(self.zone, second) == self.offset,
            None => second < self.search_end(),
        }
    }

    /// The first instant under another offset.
    pub(crate) fn end(&self) -> i64 {
        self.end.unwrap_or_else(|| self.search_end())
    }

    /// The same, with its end known: for those who ask many times.
    pub(crate) fn measured(mut self) -> Self {
        self.end = Some(self.search_end());
        self
    }

    fn search_end(&self) -> i64 {
        let mut transitions = self.zone.rules().following(timestamp(self.from));
        transitions
            .find(|transition| i64::from(transition.offset().seconds()) != self.offset)
            .map_or(i64::MAX, |transition| seconds(transition.timestamp()))
    }
}

/// How daylight saving moved the occurrence at `at` of a rule that names times of the day.
///
/// `is_due` says whether the rule names a civil time.
pub(crate) fn shift_at(
    zone: &Zone,
    at: i64,
    is_due: impl Fn(i64) -> Result<bool, GaveUp>,
) -> Result<Option<DstShift>, GaveUp> {
    let here = offset_at(zone, at);
    if resolve(zone, at + here).1 == Some(DstShift::Fold) {
        return Ok(Some(DstShift::Fold));
    }
    let before = offset_at(zone, at - NEAR);
    let moved = before < here && resolve(zone, at + before) == (at, Some(DstShift::Gap));
    Ok((moved && !is_due(at + here)? && is_due(at + before)?).then_some(DstShift::Gap))
}

/// Days since 1970-01-01 of the first day of `year`.
pub(crate) fn year_start(year: i64) -> i64 {
    let past = year - 1;
    365 * past + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) - 719_162
}

/// The year that a day, counted from 1970-01-01, lies in.
pub(crate) fn year_of(day: i64) -> i64 {
    let guess = 1970 + (day * 400).div_euclid(146_097);
    if day < year_start(guess) {
        guess - 1
    } else if day >= year_start(guess + 1) {
        guess + 1
    } else {
        guess
    }
}

pub(crate) fn is_leap(year: i64) -> bool {
    year_start(year + 1) - year_start(year) == 366
}

/// 0 = Monday … 6 = Sunday.
pub(crate) fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

const BEFORE_MONTH: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

/// Days since 1970-01-01 of the first day of a month, numbered `year * 12 + month - 1`.
pub(crate) fn month_start(index: i64) -> i64 {
    let (year, month) = (index.div_euclid(12), index.rem_euclid(12));
    let leap = i64::from(month > 1 && is_leap(year));
    year_start(year) + BEFORE_MONTH[usize::try_from(month).expect("a remainder of 12")] + leap
}

/// The month that a day lies in, numbered `year * 12 + month - 1`.
pub(crate) fn month_of(day: i64) -> i64 {
    let year = year_of(day);
    let guess = year * 12 + ((day - year_start(year)) / 29).min(11);
    (guess - 2..=guess)
        .rev()
        .find(|index| month_start(*index) <= day)
        .expect("29 days a month is two months off at most")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn days_years_and_months_agree_with_jiff(day in -719_000_i64..2_932_000) {
            let date = to_datetime(day * DAY).date();
            prop_assert_eq!(year_of(day), i64::from(date.year()));
            prop_assert_eq!(month_of(day), i64::from(date.year()) * 12 + i64::from(date.month()) - 1);
            prop_assert_eq!(weekday(day), i64::from(date.weekday().to_monday_zero_offset()));
            prop_assert_eq!(month_start(month_of(day)), day - i64::from(date.day()) + 1);
        }
    }

    #[test]
    fn a_time_in_the_gap_moves_forward_and_one_in_the_fold_is_the_first_pass() {
        let zone = Zone::find("Europe/Chisinau").unwrap();
        let civil = |text: &str| from_datetime(text.parse().unwrap()).unwrap();
        let instant = |text: &str| seconds(text.parse().unwrap());
        assert_eq!(
            resolve(&zone, civil("2025-03-30T03:30:00")),
            (instant("2025-03-30T01:30:00Z"), Some(DstShift::Gap))
        );
        assert_eq!(
            resolve(&zone, civil("2025-10-26T03:30:00")),
            (instant("2025-10-26T00:30:00Z"), Some(DstShift::Fold))
        );
        assert_eq!(resolve(&zone, civil("2025-07-01T12:00:00")), (instant("2025-07-01T09:00:00Z"), None));
    }
}
