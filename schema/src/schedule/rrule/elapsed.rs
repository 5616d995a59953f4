//! Rules of hours and finer: by elapsed real time, from any point, at the same cost.
//!
//! They are walked stretch by stretch of constant offset, and within one by leaps: to the next instant in phase, to
//! the next allowed day, hour, minute. A rule that leaves the finer parts to DTSTART (`FREQ=HOURLY`) is a grid of
//! instants from DTSTART on. One that names them (`FREQ=HOURLY;BYMINUTE=0,30`) fires in the hours of the wall clock,
//! counted in elapsed time.

use super::{
    super::{
        GaveUp,
        civil::{DAY, HORIZON, HOUR, Stretch},
    },
    budget::Budget,
    days::Days,
    rule::{Freq, Rule},
    times::Times,
};
use crate::time::Zone;

/// After so many steps it pays to ask whether the grid can meet the times of the day at all.
const PATIENCE: u32 = 500;

#[derive(Debug, Clone)]
pub(super) struct Elapsed {
    /// Seconds of the frequency's unit.
    unit: i64,
    interval: i64,
    /// The instant of DTSTART.
    start: i64,
    /// The instant at which the wall clock's unit that DTSTART lies in began.
    block: i64,
    days: Days,
    hours: Filter,
    minutes: Filter,
    seconds: Filter,
    /// Where finer parts are named: the times within a unit.
    within: Option<Times>,
    /// BYSETPOS leaves nothing.
    is_empty: bool,
}

impl Elapsed {
    /// `civil` and `start` are DTSTART, on the wall and as an instant.
    pub(super) fn new(rule: &Rule, civil: i64, start: i64, days: Days) -> Self {
        let unit = match rule.freq {
            Freq::Hourly => HOUR,
            Freq::Minutely => 60,
            _ => 1,
        };
        let own = |list: &[u8], default: i64| {
            if list.is_empty() { vec![u8::try_from(default).expect("below 60")] } else { list.to_vec() }
        };
        let seconds = own(&rule.by_second, civil.rem_euclid(60));
        let named = match rule.freq {
            Freq::Hourly if rule.by_minute.is_empty() && rule.by_second.is_empty() => None,
            Freq::Hourly => Some((own(&rule.by_minute, civil.rem_euclid(HOUR) / 60), seconds)),
            Freq::Minutely if !rule.by_second.is_empty() => Some((vec![0], seconds)),
            _ => None,
        };
        let mut within = named.map(|(minutes, seconds)| Times::Product { hours: vec![0], minutes, seconds });
        let mut is_empty = false;
        if !rule.by_set_pos.is_empty() {
            match &within {
                Some(times) => {
                    let picked = times.pick(&rule.by_set_pos);
                    is_empty = picked.len() == 0;
                    within = Some(picked);
                }
                None => is_empty = !rule.by_set_pos.iter().any(|position| position.abs() == 1),
            }
        }
        Self {
            unit,
            interval: i64::from(rule.interval),
            start,
            block: start - civil.rem_euclid(unit),
            days,
            hours: Filter::new(&rule.by_hour),
            minutes: if unit <= 60 { Filter::new(&rule.by_minute) } else { Filter::ALL },
            seconds: if unit == 1 { Filter::new(&rule.by_second) } else { Filter::ALL },
            within,
            is_empty,
        }
    }

    pub(super) fn next_after(&self, zone: &Zone, after: i64, budget: &Budget) -> Result<Option<i64>, GaveUp> {
        let mut found = None;
        self.walk(zone, after, 1, budget, |at| found = Some(at))?;
        Ok(found)
    }

    /// The occurrence that is the `count`-th, or the last one if there are fewer.
    pub(super) fn last_of(&self, zone: &Zone, count: u32, budget: &Budget) -> Result<Option<i64>, GaveUp> {
        let filters = [self.hours, self.minutes, self.seconds];
        if self.within.is_none() && !self.is_empty && self.days.are_all() && filters == [Filter::ALL; 3] {
            let length = i64::from(count - 1).saturating_mul(self.unit.saturating_mul(self.interval));
            return Ok(Some(self.start.saturating_add(length)));
        }
        let mut last = None;
        self.walk(zone, self.start - 1, count, budget, |at| last = Some(at))?;
        Ok(last)
    }

    /// Gives the first `count` occurrences after `after`, fewer where the rule ends.
    fn walk(
        &self,
        zone: &Zone,
        after: i64,
        count: u32,
        budget: &Budget,
        mut give: impl FnMut(i64),
    ) -> Result<(), GaveUp> {
        if self.is_empty {
            return Ok(());
        }
        let mut left = count;
        let mut at = (after + 1).max(self.start);
        let mut stretch = Stretch::at(zone, at).measured();
        let mut hopeless = Vec::new();
        let patience = budget.steps() + PATIENCE;
        while at < HORIZON {
            budget.step()?;
            if at >= stretch.end() {
                stretch = Stretch::at(zone, at).measured();
            }
            if budget.steps() > patience && self.is_hopeless(stretch.offset, &mut hopeless) {
                at = stretch.end();
                continue;
            }
            let candidate = match self.in_phase(at, stretch.offset) {
                Ok(candidate) => candidate,
                Err(later) => {
                    at = later.min(stretch.end());
                    continue;
                }
            };
            if candidate >= stretch.end() {
                // A grid leaps over the end of a stretch; what is of the wall clock starts anew there.
                at = if self.within.is_some() { stretch.end() } else { candidate };
                continue;
            }
            let civil = candidate + stretch.offset;
            match self.first_allowed(civil)? {
                Some(allowed) if allowed == civil => {
                    give(candidate);
                    left -= 1;
                    if left == 0 {
                        return Ok(());
                    }
                    at = candidate + 1;
                }
                Some(allowed) => at = (allowed - stretch.offset).min(stretch.end()),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether the grid, under an offset, never meets an allowed time of the day: `INTERVAL=60;BYMINUTE=30` from :00.
    ///
    /// Within a day it comes by every multiple of what its step and the day have in common.
    fn is_hopeless(&self, offset: i64, known: &mut Vec<(i64, bool)>) -> bool {
        if self.within.is_some() {
            return false;
        }
        if let Some((_, verdict)) = known.iter().find(|(it, _)| *it == offset) {
            return *verdict;
        }
        let common = gcd(self.unit.saturating_mul(self.interval), DAY);
        let first = (self.start + offset).rem_euclid(common);
        let meets = (0..DAY / common).map(|n| first + n * common).any(|time| {
            self.hours.allows(time / HOUR) && self.minutes.allows(time / 60 % 60) && self.seconds.allows(time % 60)
        });
        known.push((offset, !meets));
        !meets
    }

    /// The first instant in phase at or after `at`; as an error, an instant to go on from.
    fn in_phase(&self, at: i64, offset: i64) -> Result<i64, i64> {
        let step = self.unit.saturating_mul(self.interval);
        let Some(within) = &self.within else {
            let behind = (at - self.start).rem_euclid(step);
            return Ok(if behind == 0 { at } else { at.saturating_add(step - behind) });
        };
        let block = (at + offset).div_euclid(self.unit) * self.unit - offset;
        let behind = (block - self.block).div_euclid(self.unit).rem_euclid(self.interval);
        if behind != 0 {
            return Err(block.saturating_add((self.interval - behind).saturating_mul(self.unit)));
        }
        within
            .first_from(at - block)
            .filter(|second| *second < self.unit)
            .map(|second| block + second)
            .ok_or(block + self.unit)
    }

    /// The first civil time at or after `civil` that the filters on day, hour, minute and second allow.
    fn first_allowed(&self, civil: i64) -> Result<Option<i64>, GaveUp> {
        let mut civil = civil;
        loop {
            let day = civil.div_euclid(DAY);
            let Some(allowed) = self.days.first_from(day, HORIZON / DAY + 1)? else { return Ok(None) };
            if allowed > day {
                civil = allowed * DAY;
            }
            let start = civil.div_euclid(DAY) * DAY;
            let time = civil - start;
            let Some(hour) = self.hours.first(time / HOUR) else {
                civil = start + DAY;
                continue;
            };
            if hour > time / HOUR {
                civil = start + hour * HOUR;
            }
            let start = civil.div_euclid(HOUR) * HOUR;
            let time = civil - start;
            let Some(minute) = self.minutes.first(time / 60) else {
                civil = start + HOUR;
                continue;
            };
            if minute > time / 60 {
                civil = start + minute * 60;
            }
            let start = civil.div_euclid(60) * 60;
            match self.seconds.first(civil - start) {
                Some(second) => return Ok(Some(start + second)),
                None => civil = start + 60,
            }
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The values below 60 that a part allows, a bit each; all of them where there is no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Filter(u64);

impl Filter {
    const ALL: Self = Self(u64::MAX >> 4);

    fn new(list: &[u8]) -> Self {
        if list.is_empty() { Self::ALL } else { Self(list.iter().fold(0, |bits, value| bits | 1 << value)) }
    }

    fn allows(self, value: i64) -> bool {
        self.0 >> value & 1 == 1
    }

    /// The first value at or after `from`.
    fn first(self, from: i64) -> Option<i64> {
        let rest = self.0 >> from;
        (rest != 0).then(|| from + i64::from(rest.trailing_zeros()))
    }
}
