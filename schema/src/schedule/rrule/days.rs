//! The crate `rrule`, the only place that knows it: which days of a year a rule's BY parts allow.
//!
//! `rrule` walks from DTSTART at every call, loops for seconds where nothing matches, and builds the product of
//! BYHOUR, BYMINUTE and BYSECOND in memory. But whether a day is allowed depends on nothing but its year's kind:
//! the weekday it begins on, its length, and those of its neighbours (56 kinds at most). So `rrule` is asked
//! once for each kind that is met, about one year, with every BY part explicit and one time of the day, and its
//! answer is kept as one bit a day. What is left, intervals and times of the day, is arithmetic in the sibling modules.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use chrono::{Datelike, Month, TimeZone, Weekday};
use rrule::{Frequency, NWeekday, RRule, RRuleSet, Tz};

use super::{
    super::{GaveUp, civil},
    rule::{Freq, Rule},
};

/// One bit for each day of a year.
pub(super) type Bits = [u64; 6];

/// The days that a rule's BY parts allow, in any year.
#[derive(Debug, Clone)]
pub(super) struct Days {
    all: bool,
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    months: Vec<u8>,
    month_days: Vec<i8>,
    year_days: Vec<i16>,
    weeks: Vec<i8>,
    /// 0 = Monday.
    week_start: i64,
    /// Weekdays without an ordinal.
    weekdays: Vec<Weekday>,
    ordinals: Vec<(i16, Weekday)>,
    kinds: [OnceLock<Option<Bits>>; 56],
}

impl Days {
    /// The day parts of `rule`, whose implicit ones have been made explicit.
    pub(super) fn new(rule: &Rule) -> Self {
        let mut months = rule.by_month.clone();
        let (weekdays, ordinals): (Vec<_>, Vec<_>) = rule.by_day.iter().partition(|(ordinal, _)| *ordinal == 0);
        // An ordinal counts within the month where the frequency or BYMONTH says so, else within the year.
        if rule.freq == Freq::Monthly && months.is_empty() {
            months = (1..=12).collect();
        }
        let parts = Parts {
            months,
            month_days: rule.by_month_day.clone(),
            year_days: rule.by_year_day.clone(),
            weeks: rule.by_week.clone(),
            week_start: i64::from(rule.week_start),
            weekdays: weekdays.into_iter().map(|(_, day)| chrono_weekday(day)).collect(),
            ordinals: ordinals.into_iter().map(|(ordinal, day)| (i16::from(ordinal), chrono_weekday(day))).collect(),
            kinds: [const { OnceLock::new() }; 56],
        };
        let numbers = parts.month_days.is_empty() && parts.year_days.is_empty() && parts.weeks.is_empty();
        let all = numbers && parts.months.is_empty() && parts.weekdays.is_empty() && parts.ordinals.is_empty();
        Self { all, parts: Arc::new(parts) }
    }

    /// The first allowed day at or after `day`, before `end`.
    pub(super) fn first_from(&self, day: i64, end: i64) -> Result<Option<i64>, GaveUp> {
        if self.all {
            return Ok(Some(day).filter(|day| *day < end));
        }
        // The calendar repeats after 400 years: what has not come by then never does.
        let end = end.min(day + 401 * 366);
        let mut year = civil::year_of(day);
        let mut from = day;
        while from < end {
            let (start, next) = (civil::year_start(year), civil::year_start(year + 1));
            if let Some(found) = next_bit(self.of_year(year)?, from - start) {
                return Ok(Some(start + found).filter(|found| *found < end));
            }
            (year, from) = (year + 1, next);
        }
        Ok(None)
    }

    /// How many days in `from..end` are allowed.
    pub(super) fn count(&self, from: i64, end: i64) -> Result<i64, GaveUp> {
        let mut count = 0;
        let mut year = civil::year_of(from);
        let mut from = from;
        while from < end {
            let (start, next) = (civil::year_start(year), civil::year_start(year + 1));
            count += count_bits(self.of_year(year)?, from - start, end.min(next) - start);
            (year, from) = (year + 1, next);
        }
        Ok(count)
    }

    /// The allowed day in `from..end` with `n` allowed ones before it.
    pub(super) fn nth(&self, from: i64, end: i64, n: i64) -> Result<Option<i64>, GaveUp> {
        let mut left = n;
        let mut year = civil::year_of(from);
        let mut from = from;
        while from < end {
            let (start, next) = (civil::year_start(year), civil::year_start(year + 1));
            let bits = self.of_year(year)?;
            let count = count_bits(bits, from - start, end.min(next) - start);
            if left < count {
                return Ok(nth_bit(bits, from - start, left).map(|found| start + found));
            }
            (left, year, from) = (left - count, year + 1, next);
        }
        Ok(None)
    }

    /// Whether nothing is ruled out.
    pub(super) fn are_all(&self) -> bool {
        self.all
    }

    /// The allowed days of a year.
    pub(super) fn of_year(&self, year: i64) -> Result<&Bits, GaveUp> {
        let first_weekday = civil::weekday(civil::year_start(year));
        let leap =
            [year - 1, year, year + 1].into_iter().fold(0, |bits, year| bits * 2 + i64::from(civil::is_leap(year)));
        let slot = &self.parts.kinds[usize::try_from(first_weekday * 8 + leap).expect("7 weekdays times 8")];
        // A year of 2000 to 2399 stands for all of its kind, so `rrule` never sees a far one.
        let like = i32::try_from(2000 + year.rem_euclid(400)).expect("less than 2400");
        let bits = slot.get_or_init(|| {
            if self.are_all() {
                return Some(whole_year(civil::is_leap(year)));
            }
            catch_unwind(AssertUnwindSafe(|| self.parts.ask(like))).ok().flatten()
        });
        bits.as_ref().ok_or(GaveUp { steps: 1 })
    }
}

impl Parts {
    fn ask(&self, year: i32) -> Option<Bits> {
        let everyday = self.weekdays.is_empty() && self.ordinals.is_empty();
        let mut bits = [0; 6];
        // Asked for plain and counted weekdays at once, `rrule` gives the days that are both.
        if !self.weekdays.is_empty() || everyday {
            let weekdays = if everyday { &WEEK[..] } else { &self.weekdays };
            self.add(year, weekdays.iter().map(|day| NWeekday::Every(*day)).collect(), &mut bits)?;
        }
        if !self.ordinals.is_empty() {
            let ordinals: Vec<_> = self.ordinals.iter().filter_map(|(n, day)| ordinal(year, *n, *day)).collect();
            if !ordinals.is_empty() {
                self.add(year, ordinals, &mut bits)?;
            }
        }
        Some(bits)
    }

    fn add(&self, year: i32, weekdays: Vec<NWeekday>, bits: &mut Bits) -> Option<()> {
        let start = Tz::UTC.with_ymd_and_hms(year, 1, 1, 0, 0, 0).single()?;
        let mut year_days = self.year_days.clone();
        if !self.weeks.is_empty() {
            // `rrule` loses days of weeks that lie across the turn of a year, so it is given the days themselves.
            year_days = self.days_of_weeks(i64::from(year));
            if year_days.is_empty() {
                return Some(());
            }
        }
        let months: Vec<Month> = self.months.iter().filter_map(|month| Month::try_from(*month).ok()).collect();
        // An interval beyond the last year that `rrule` knows: it looks at this year and stops.
        let rule = RRule::new(Frequency::Yearly)
            .interval(u16::MAX)
            .by_month(&months)
            .by_month_day(self.month_days.clone())
            .by_year_day(year_days)
            .by_weekday(weekdays)
            .by_hour(vec![0])
            .by_minute(vec![0])
            .by_second(vec![0])
            .validate(start)
            .ok()?;
        for day in &RRuleSet::new(start).rrule(rule).limit() {
            let ordinal = usize::try_from(day.ordinal0()).ok().filter(|_| day.year() == year)?;
            bits[ordinal / 64] |= 1 << (ordinal % 64);
        }
        Some(())
    }
}

impl Parts {
    /// The days of `year` that lie in the weeks of BYWEEKNO, and in BYYEARDAY where there is one.
    fn days_of_weeks(&self, year: i64) -> Vec<i16> {
        let first = civil::year_start(year);
        let length = civil::year_start(year + 1) - first;
        let wanted = |n: &i64| {
            let (number, total) = self.week(year, first + n - 1);
            let by_week = self.weeks.iter().any(|week| {
                let week = i64::from(*week);
                week == number || week == number - total - 1
            });
            let by_day = self.year_days.iter().any(|day| [*n, n - length - 1].contains(&i64::from(*day)));
            by_week && (by_day || self.year_days.is_empty())
        };
        (1..=length).filter(wanted).filter_map(|n| i16::try_from(n).ok()).collect()
    }

    /// The number of the week that a day of `year` lies in, and how many weeks its week-year has.
    fn week(&self, year: i64, day: i64) -> (i64, i64) {
        // A year's first week is the one with at least four of its days, so the one of 4 January.
        let first_week = |year: i64| {
            let fourth = civil::year_start(year) + 3;
            fourth - (civil::weekday(fourth) - self.week_start).rem_euclid(7)
        };
        let owner = [year + 1, year].into_iter().find(|year| first_week(*year) <= day).unwrap_or(year - 1);
        let first = first_week(owner);
        ((day - first) / 7 + 1, (first_week(owner + 1) - first) / 7)
    }
}

const WEEK: [Weekday; 7] =
    [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

fn chrono_weekday(day: u8) -> Weekday {
    WEEK[usize::from(day % 7)]
}

/// `rrule` knows ordinals down to -52: the 53rd from the end is the first of 53, where there are so many.
fn ordinal(year: i32, ordinal: i16, day: Weekday) -> Option<NWeekday> {
    if ordinal != -53 {
        return Some(NWeekday::Nth(ordinal, day));
    }
    let last = Tz::UTC.with_ymd_and_hms(year, 12, 31, 0, 0, 0).single()?;
    let first_of_53 = last.ordinal() - 364;
    (1..=first_of_53)
        .any(|n| chrono::NaiveDate::from_yo_opt(year, n).is_some_and(|date| date.weekday() == day))
        .then_some(NWeekday::Nth(1, day))
}

fn whole_year(leap: bool) -> Bits {
    let last = if leap { u64::MAX >> 18 } else { u64::MAX >> 19 };
    [u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX, last]
}

fn next_bit(bits: &Bits, from: i64) -> Option<i64> {
    let from = usize::try_from(from).ok().filter(|from| *from < 366)?;
    let mut word = from / 64;
    let mut rest = bits[word] & (u64::MAX << (from % 64));
    while rest == 0 {
        word += 1;
        rest = *bits.get(word)?;
    }
    i64::try_from(word * 64).ok().map(|base| base + i64::from(rest.trailing_zeros()))
}

/// The set bit from `from` on with `n` set ones before it.
pub(super) fn nth_bit(bits: &Bits, from: i64, n: i64) -> Option<i64> {
    let mut left = n;
    let first = usize::try_from(from).ok()?;
    for (number, word) in bits.iter().enumerate().skip(first / 64) {
        let mut word = if number == first / 64 { word & (u64::MAX << (first % 64)) } else { *word };
        let count = i64::from(word.count_ones());
        if left >= count {
            left -= count;
            continue;
        }
        for _ in 0..left {
            word &= word - 1;
        }
        return i64::try_from(number * 64).ok().map(|base| base + i64::from(word.trailing_zeros()));
    }
    None
}

/// How many bits are set from `from` on, before `end`.
pub(super) fn count_bits(bits: &Bits, from: i64, end: i64) -> i64 {
    bits.iter().zip(0_i64..).map(|(word, n)| i64::from((word & below(end, n) & !below(from, n)).count_ones())).sum()
}

/// Sets the bits from `from` on, before `end`.
pub(super) fn set_bits(bits: &mut Bits, from: i64, end: i64) {
    for (word, n) in bits.iter_mut().zip(0_i64..) {
        *word |= below(end, n) & !below(from, n);
    }
}

/// Of the `n`-th word, the bits before the `limit`-th of all.
fn below(limit: i64, n: i64) -> u64 {
    match limit - n * 64 {
        left @ 0..64 => (1 << left) - 1,
        left if left < 0 => 0,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_found_and_counted_like_a_list(bits in any::<Bits>(), from in 0_i64..366, n in 0_i64..384) {
            // A year has 366 days at most.
            let bits = bits.map(|word| word & word.rotate_left(7)).map(|word| word & (u64::MAX >> 18));
            let set: Vec<i64> = (from..384).filter(|n| bits[usize::try_from(n / 64).unwrap()] >> (n % 64) & 1 == 1).collect();
            let mut range = [0; 6];
            set_bits(&mut range, from, n);
            prop_assert_eq!(count_bits(&range, 0, 384), (n - from).clamp(0, 384 - from));
            prop_assert!(next_bit(&range, 0).is_none_or(|first| first == from));
            prop_assert_eq!(next_bit(&bits, from), set.first().copied());
            prop_assert_eq!(nth_bit(&bits, from, n), set.get(usize::try_from(n).unwrap()).copied());
            prop_assert_eq!(count_bits(&bits, from, 366), i64::try_from(set.iter().filter(|n| **n < 366).count()).unwrap());
        }
    }
}
