//! Where COUNT ends a rule of days or coarser: found once, when the rule is read.
//!
//! Without BYSETPOS a year is counted at once: the days that its BY parts allow and those in phase with the interval
//! are bits, so 100,000 occurrences are a few thousand years at most. With it, period by period.

use super::{
    super::{
        GaveUp,
        civil::{self, DAY, HORIZON},
    },
    budget::Budget,
    days::{Bits, count_bits, nth_bit, set_bits},
    periods::Periods,
};

impl Periods {
    /// The `count`-th occurrence, on the wall clock; `None` where time ends before.
    pub(super) fn last_of(&self, count: u32, budget: &Budget) -> Result<Option<i64>, GaveUp> {
        let Some(first) = self.first_from(self.start, budget)? else { return Ok(None) };
        if self.positions.is_empty() {
            self.last_of_days(first, i64::from(count))
        } else {
            self.last_of_picks(first, i64::from(count), budget)
        }
    }

    fn last_of_days(&self, first: i64, count: i64) -> Result<Option<i64>, GaveUp> {
        let per_day = self.times.len();
        let mut from = first.div_euclid(DAY);
        // On its first day a rule begins at DTSTART; counted from that day's midnight, so many more are to come.
        let mut left = count + self.times.count_before(first - from * DAY);
        let mut year = civil::year_of(from);
        while civil::year_start(year) < HORIZON / DAY {
            let start = civil::year_start(year);
            let (allowed, in_phase) = (self.days.of_year(year)?, self.in_phase(year));
            let bits: Bits = std::array::from_fn(|n| allowed[n] & in_phase[n]);
            let here = count_bits(&bits, from - start, civil::year_start(year + 1) - start) * per_day;
            if left <= here {
                let day = nth_bit(&bits, from - start, (left - 1) / per_day);
                let time = self.times.nth((left - 1) % per_day);
                return Ok(day.zip(time).map(|(day, time)| (start + day) * DAY + time));
            }
            (left, year) = (left - here, year + 1);
            from = civil::year_start(year);
        }
        Ok(None)
    }

    /// The days of a year that lie in periods in phase with the interval.
    fn in_phase(&self, year: i64) -> Bits {
        if self.interval == 1 {
            return [u64::MAX; 6];
        }
        let mut bits = [0; 6];
        let (start, end) = (civil::year_start(year), civil::year_start(year + 1));
        let mut period = self.next_in_phase(self.period_of(start));
        while self.start_of(period) < end {
            set_bits(&mut bits, self.start_of(period).max(start) - start, self.start_of(period + 1).min(end) - start);
            period += self.interval;
        }
        bits
    }

    fn last_of_picks(&self, first: i64, count: i64, budget: &Budget) -> Result<Option<i64>, GaveUp> {
        let mut period = self.period_of(first.div_euclid(DAY));
        let picks = self.picks_of(period)?;
        // Those of the first period that lie before DTSTART do not count.
        let mut left = count + to_i64(self.first_pick(period, &picks, first)?);
        // How many are picked depends on nothing but how many days there are to pick from.
        let mut known = [None; 367];
        while self.start_of(period) < HORIZON / DAY {
            budget.step()?;
            let (start, end) = (self.start_of(period), self.start_of(period + 1));
            let days = usize::try_from(self.days.count(start, end)?).expect("counted");
            if days == 0 {
                let Some(day) = self.days.first_from(end, HORIZON / DAY)? else { return Ok(None) };
                period = self.next_in_phase(self.period_of(day));
                continue;
            }
            let here = match known[days] {
                Some(here) => here,
                None => *known[days].insert(to_i64(self.picks_of(period)?.len())),
            };
            if left <= here {
                let picks = self.picks_of(period)?;
                return self.time_of(period, picks[usize::try_from(left - 1).expect("at least one is left")]);
            }
            (left, period) = (left - here, period + self.interval);
        }
        Ok(None)
    }

    /// The first period at or after one that is in phase with the interval.
    fn next_in_phase(&self, period: i64) -> i64 {
        let phase = self.period_of(self.start.div_euclid(DAY));
        period + (phase - period).rem_euclid(self.interval)
    }
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).expect("a few hundred")
}
