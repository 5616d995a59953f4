//! Rules of whole days and coarser: in civil time, from any point, at the same cost.
//!
//! A period is a day, week, month or year. Whether one is in phase with the interval is a division, which days of
//! it are allowed is [`Days`], which times of those [`Times`]; nothing is walked from DTSTART.

use super::{
    super::{
        GaveUp,
        civil::{self, DAY, HORIZON},
    },
    budget::Budget,
    days::Days,
    rule::{Freq, Rule},
    times::{Times, picks},
};

#[derive(Debug, Clone)]
pub(super) struct Periods {
    pub(super) freq: Freq,
    pub(super) interval: i64,
    /// 0 = Monday.
    week_start: i64,
    /// Where DTSTART lies; nothing before it counts.
    pub(super) start: i64,
    pub(super) days: Days,
    pub(super) times: Times,
    /// BYSETPOS, where a period has more than one day; for days it is in `times` already.
    pub(super) positions: Vec<i16>,
    /// The one nearest to either end: what has fewer times to pick from has none.
    least_position: i64,
}

impl Periods {
    pub(super) fn new(rule: &Rule, start: i64, days: Days, times: Times) -> Self {
        let days_of_period = match rule.freq {
            Freq::Yearly => 366,
            Freq::Monthly => 31,
            Freq::Weekly => 7,
            Freq::Daily | Freq::Hourly | Freq::Minutely | Freq::Secondly => 1,
        };
        // Positions that no period reaches are not looked for in each.
        let reached = |position: &&i16| i64::from(position.abs()) <= days_of_period * times.len();
        let positions: Vec<i16> = rule.by_set_pos.iter().filter(reached).copied().collect();
        let (times, positions) = match (rule.freq, rule.by_set_pos.is_empty()) {
            (_, true) => (times, positions),
            (Freq::Yearly | Freq::Monthly | Freq::Weekly, false) if !positions.is_empty() => (times, positions),
            _ => (times.pick(&positions), Vec::new()),
        };
        let (interval, week_start) = (i64::from(rule.interval), i64::from(rule.week_start));
        let least_position = positions.iter().map(|position| i64::from(position.abs())).min().unwrap_or(0);
        Self { freq: rule.freq, interval, week_start, start, days, times, positions, least_position }
    }

    /// The first civil time of the rule at or after `civil`.
    pub(super) fn first_from(&self, civil: i64, budget: &Budget) -> Result<Option<i64>, GaveUp> {
        if self.times.len() == 0 {
            return Ok(None);
        }
        let civil = civil.max(self.start);
        let phase = self.period_of(self.start.div_euclid(DAY));
        let end = HORIZON / DAY;
        let mut day = civil.div_euclid(DAY);
        loop {
            budget.step()?;
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
    }

    /// The first time at or after `civil` that BYSETPOS picks from a period.
    fn first_picked(&self, period: i64, civil: i64) -> Result<Option<i64>, GaveUp> {
        let (start, end) = (self.start_of(period), self.start_of(period + 1));
        let choice = self.days.count(start, end)? * self.times.len();
        // Most periods of a rule that never matches are done with here.
        if choice < self.least_position {
            return Ok(None);
        }
        let picks = self.picks_of(period)?;
        match picks.get(self.first_pick(period, &picks, civil)?) {
            Some(pick) => self.time_of(period, *pick),
            None => Ok(None),
        }
    }

    /// Which of a period's times BYSETPOS picks, ascending.
    pub(super) fn picks_of(&self, period: i64) -> Result<Vec<i64>, GaveUp> {
        let (start, end) = (self.start_of(period), self.start_of(period + 1));
        Ok(picks(&self.positions, self.days.count(start, end)? * self.times.len()))
    }

    /// The index of the first pick at or after `civil`.
    pub(super) fn first_pick(&self, period: i64, picks: &[i64], civil: i64) -> Result<usize, GaveUp> {
        let (mut low, mut high) = (0, picks.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.time_of(period, picks[middle])?.is_some_and(|time| time < civil) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The time of a period with `n` before it.
    pub(super) fn time_of(&self, period: i64, n: i64) -> Result<Option<i64>, GaveUp> {
        let times = self.times.len();
        let day = self.days.nth(self.start_of(period), self.start_of(period + 1), n / times)?;
        Ok(day.zip(self.times.nth(n % times)).map(|(day, time)| day * DAY + time))
    }

    pub(super) fn period_of(&self, day: i64) -> i64 {
        match self.freq {
            Freq::Yearly => civil::year_of(day),
            Freq::Monthly => civil::month_of(day),
            Freq::Weekly => (day + 3 - self.week_start).div_euclid(7),
            Freq::Daily | Freq::Hourly | Freq::Minutely | Freq::Secondly => day,
        }
    }

    pub(super) fn start_of(&self, period: i64) -> i64 {
        match self.freq {
            Freq::Yearly => civil::year_start(period),
            Freq::Monthly => civil::month_start(period),
            Freq::Weekly => period * 7 - 3 + self.week_start,
            Freq::Daily | Freq::Hourly | Freq::Minutely | Freq::Secondly => period,
        }
    }
}
