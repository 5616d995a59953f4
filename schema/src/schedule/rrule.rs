//! RFC 5545 recurrence sets: DTSTART, one to four RRULE, RDATE and EXDATE, in a zone.
//!
//! [`text`] reads the lines, [`rule`] and [`values`] the parts, strictly; [`days`] has `rrule` say which days a rule allows;
//! [`periods`] (days and coarser, fixed times) and [`elapsed`] (hours and finer, real time) search from any point,
//! so the age of DTSTART costs nothing. COUNT becomes an end when the rule is read ([`count`]); what a question may cost
//! is bounded for the whole set ([`budget`]). The set is a union: what two
//! rules name, or a rule and an RDATE, happens once.

mod budget;
mod count;
mod days;
mod elapsed;
mod moment;
mod periods;
mod rule;
mod sentence;
mod text;
mod times;
mod values;

use jiff::Timestamp;

use super::{DstShift, EXPR, GaveUp, civil};
use crate::{
    fault::{Fault, FaultCode},
    limits::Limits,
    time::Zone,
};
use budget::Budget;
use days::Days;
use elapsed::Elapsed;
use periods::Periods;
use rule::{Freq, Rule};
use times::Times;

#[derive(Debug, Clone)]
pub(crate) struct RuleSet {
    zone: Zone,
    /// DTSTART on the wall clock.
    start: i64,
    /// Whether DTSTART lies after the anchor, so that it is worth telling.
    starts_later: bool,
    rules: Vec<Recurrence>,
    /// Instants, ascending.
    rdates: Vec<i64>,
    exdates: Vec<i64>,
    normalised: String,
}

/// One rule of the set, ready to be searched.
#[derive(Debug, Clone)]
struct Recurrence {
    rule: Rule,
    search: Search,
}

#[derive(Debug, Clone)]
enum Search {
    /// `last`: where COUNT ends, on the wall clock.
    Civil { periods: Periods, last: Option<i64> },
    /// `last`: where COUNT ends, as an instant.
    Real { elapsed: Elapsed, last: Option<i64> },
}

impl RuleSet {
    pub(crate) fn parse(
        expr: &str,
        zone: Option<&Zone>,
        anchor: Timestamp,
        limits: &Limits,
    ) -> Result<Self, Vec<Fault>> {
        let lines = text::Lines::read(expr, zone, anchor, limits)?;
        let mut faults = Vec::new();
        let mut rules = Vec::new();
        let budget = Budget::for_counts();
        for rule in lines.rules {
            match Recurrence::new(rule, lines.start, &lines.zone, &budget) {
                Ok(recurrence) => rules.push(recurrence),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let start = civil::resolve(&lines.zone, lines.start).0;
        let set = Self {
            starts_later: lines.start_was_given && start > civil::seconds(anchor),
            zone: lines.zone,
            start: lines.start,
            rules,
            rdates: lines.rdates,
            exdates: lines.exdates,
            normalised: lines.normalised,
        };
        set.check_fires()?;
        Ok(set)
    }

    fn check_fires(&self) -> Result<(), Vec<Fault>> {
        let never = |message: String| Err(vec![Fault::new(EXPR, FaultCode::NeverFires, message)]);
        match self.next_after(civil::ORIGIN - 1) {
            Ok(Some(_)) => Ok(()),
            Err(gave_up) => Err(self.rules.iter().map(|it| rule::too_sparse(&it.rule, gave_up)).take(1).collect()),
            Ok(None) => {
                let start = civil::resolve(&self.zone, self.start).0;
                if let Some(rule) =
                    self.rules.iter().map(|it| &it.rule).find(|rule| rule.until.is_some_and(|until| until < start))
                {
                    return never(format!("`{}` ends before DTSTART: the set is empty and never fires", rule.text()));
                }
                let rules: Vec<String> = self.rules.iter().map(|it| format!("`{}`", it.rule.text())).collect();
                never(format!("{} never matches: the set has no occurrence", rules.join(" and ")))
            }
        }
    }

    pub(crate) fn zone(&self) -> &Zone {
        &self.zone
    }

    pub(crate) fn normalised(&self) -> &str {
        &self.normalised
    }

    pub(crate) fn describe(&self) -> String {
        sentence::describe(self)
    }

    pub(crate) fn next_after(&self, after: i64) -> Result<Option<i64>, GaveUp> {
        let budget = Budget::for_next();
        let mut nexts = [None; text::MAX_RULES];
        for (next, recurrence) in nexts.iter_mut().zip(&self.rules) {
            *next = recurrence.next_after(&self.zone, after, &budget)?;
        }
        let mut rdates = self.rdates[self.rdates.partition_point(|at| *at <= after)..].iter().copied().peekable();
        loop {
            let best = nexts.iter().copied().flatten().chain(rdates.peek().copied()).min();
            let Some(at) = best.filter(|at| self.exdates.binary_search(at).is_ok()) else { return Ok(best) };
            // Excepted: whoever named it is asked for the one after.
            for (next, recurrence) in nexts.iter_mut().zip(&self.rules).filter(|(next, _)| **next == Some(at)) {
                *next = recurrence.next_after(&self.zone, at, &budget)?;
            }
            rdates.next_if_eq(&at);
        }
    }

    pub(crate) fn shift_at(&self, at: i64) -> Result<Option<DstShift>, GaveUp> {
        let fixed: Vec<&Periods> = self
            .rules
            .iter()
            .filter_map(|it| match &it.search {
                Search::Civil { periods, .. } => Some(periods),
                Search::Real { .. } => None,
            })
            .collect();
        let is_due = |civil: i64| {
            for periods in &fixed {
                if periods.first_from(civil, &Budget::for_next())? == Some(civil) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        match civil::shift_at(&self.zone, at, is_due)? {
            // A rule of hours and finer takes both passes of a fold; only fixed times took the first one.
            Some(DstShift::Fold) if !is_due(at + civil::offset_at(&self.zone, at))? => Ok(None),
            shift => Ok(shift),
        }
    }
}

impl Recurrence {
    fn new(rule: Rule, start: i64, zone: &Zone, budget: &Budget) -> Result<Self, Fault> {
        let explicit = rule.with_implied_days(start);
        let days = Days::new(&explicit);
        let gave_up = |gave_up| rule::too_long(&rule, gave_up);
        // COUNT becomes an end here, once.
        let search = if rule.freq < Freq::Hourly {
            let time = start.rem_euclid(civil::DAY);
            let own = |list: &[u8], value: i64| {
                if list.is_empty() { vec![u8::try_from(value).expect("below 60")] } else { list.to_vec() }
            };
            let times = Times::Product {
                hours: own(&rule.by_hour, time / civil::HOUR),
                minutes: own(&rule.by_minute, time / 60 % 60),
                seconds: own(&rule.by_second, time % 60),
            };
            let periods = Periods::new(&explicit, start, days, times);
            let last = rule.count.map(|count| periods.last_of(count, budget)).transpose().map_err(gave_up)?.flatten();
            Search::Civil { periods, last }
        } else {
            let elapsed = Elapsed::new(&rule, start, civil::resolve(zone, start).0, days);
            let last =
                rule.count.map(|count| elapsed.last_of(zone, count, budget)).transpose().map_err(gave_up)?.flatten();
            Search::Real { elapsed, last }
        };
        Ok(Self { rule, search })
    }

    fn next_after(&self, zone: &Zone, after: i64, budget: &Budget) -> Result<Option<i64>, GaveUp> {
        let found = match &self.search {
            Search::Civil { periods, last } => civil::first_fixed(zone, after, |from| {
                Ok(periods.first_from(from, budget)?.filter(|found| last.is_none_or(|last| *found <= last)))
            })?,
            Search::Real { elapsed, last } => {
                elapsed.next_after(zone, after, budget)?.filter(|found| last.is_none_or(|last| *found <= last))
            }
        };
        Ok(found.filter(|found| self.rule.until.is_none_or(|until| *found <= until)))
    }
}
