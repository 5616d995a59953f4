//! Rules of whole days and coarser: in civil time, from any point, at the same cost.
//!
//! A period is a day, week, month or year. Whether one is in phase with the interval is a division, which days of
//! it are allowed is [`Days`], which times of those [`Times`]; nothing is walked from DTSTART.

use super::{
    super::{
        GaveUp,
        civil::{self, DAY, HORIZON},
    },
    days::Days,
    rule::{Freq, Rule},
    times::{Times, picks},
};

/// A step is a day or a period that was looked at and did not match: 20,000 weeks are nearly the 400 years after
/// which the calendar repeats.
const MAX_STEPS: u32 = 20_000;

#[derive(Debug, Clone)]
pub(super) struct Periods {
    freq: Freq,
    interval: i64,
    /// 0 = Monday.
    week_start: i64,
    /// Where DTSTART lies; nothing before it counts.
    start: i64,
    days: Days,
    times: Times,
    /// BYSETPOS, where a period has more than one day; for days it is in `times` already.
    positions: Vec<i16>,
}

impl Periods {
    pub(super) fn new(rule: &Rule, start: i64, days: Days, times: Times) -> Self {
        let (times, positions) = if rule.freq == Freq::Daily && !rule.by_set_pos.is_empty() {
            (times.pick(&rule.by_set_pos), Vec::new())
        } else {
            (times, rule.by_set_pos.clone())
        };
        let (interval, week_start) = (i64::from(rule.interval), i64::from(rule.week_start));
        Self { freq: rule.freq, interval, week_start, start, days, times, positions }
    }

    /// The first civil time of the rule at or after `civil`.
    pub(super) fn first_from(&self, civil: i64) -> Result<Option<i64>, GaveUp> {
        if self.times.len() == 0 {
            return Ok(None);
        }
        let civil = civil.max(self.start);
        let phase = self.period_of(self.start.div_euclid(DAY));
        let end = HORIZON / DAY;
        let mut day = civil.div_euclid(DAY);
        for _ in 0..MAX_STEPS {
            let Some(found) = self.days.first_from(day, end)? else { return Ok(None) };
            let period = self.period_of(found);
            let behind = (period - phase).rem_euclid(self.interval);
            if behind != 0 {
                day = self.start_of(period + self.interval - behind);
                continue;
            }
            let earliest = civil - found * DAY;
            if self.positions.is_empty() {
                match self.times.first_from(earliest.max(0)) {
                    Some(time) => return Ok(Some(found * DAY + time)),
                    None => day = found + 1,
                }
            } else {
                match self.first_picked(period, civil)? {
                    Some(picked) => return Ok(Some(picked)),
                    None => day = self.start_of(period + 1),
                }
            }
        }
        Err(GaveUp { steps: MAX_STEPS })
    }

    /// The occurrence that is the `count`-th, or the last one if there are fewer.
    pub(super) fn last_of(&self, count: u32) -> Result<Option<i64>, GaveUp> {
        let per_day = self.times.len();
        let mut left = i64::from(count);
        let mut last = None;
        let mut from = self.start;
        while left > 0 {
            let Some(found) = self.first_from(from)? else { break };
            let day = found.div_euclid(DAY);
            if !self.positions.is_empty() || found - day * DAY > self.times.nth(0).unwrap_or(0) || left < per_day {
                (last, from, left) = (Some(found), found + 1, left - 1);
                continue;
            }
            // A whole year at once, where every allowed day counts; else a whole day.
            let end = if self.interval == 1 {
                civil::year_start(civil::year_of(day) + 1).min(HORIZON / DAY)
            } else {
                day + 1
            };
            let days = self.days.count(day, end)?.min(left / per_day);
            let until = self.days.nth(day, end, days - 1)?.unwrap_or(day);
            last = self.times.nth(per_day - 1).map(|time| until * DAY + time);
            (from, left) = ((until + 1) * DAY, left - days * per_day);
        }
        Ok(last)
    }

    /// The first time at or after `civil` that BYSETPOS picks from a period.
    fn first_picked(&self, period: i64, civil: i64) -> Result<Option<i64>, GaveUp> {
        let (start, end) = (self.start_of(period), self.start_of(period + 1));
        let times = self.times.len();
        for pick in picks(&self.positions, self.days.count(start, end)? * times) {
            let day = self.days.nth(start, end, pick / times)?;
            if let Some((day, time)) = day.zip(self.times.nth(pick % times))
                && day * DAY + time >= civil
            {
                return Ok(Some(day * DAY + time));
            }
        }
        Ok(None)
    }

    fn period_of(&self, day: i64) -> i64 {
        match self.freq {
            Freq::Yearly => civil::year_of(day),
            Freq::Monthly => civil::month_of(day),
            Freq::Weekly => (day + 3 - self.week_start).div_euclid(7),
            Freq::Daily | Freq::Hourly | Freq::Minutely | Freq::Secondly => day,
        }
    }

    fn start_of(&self, period: i64) -> i64 {
        match self.freq {
            Freq::Yearly => civil::year_start(period),
            Freq::Monthly => civil::month_start(period),
            Freq::Weekly => period * 7 - 3 + self.week_start,
            Freq::Daily | Freq::Hourly | Freq::Minutely | Freq::Secondly => period,
        }
    }
}
