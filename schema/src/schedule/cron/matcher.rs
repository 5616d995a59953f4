//! `saffron`, the only place that knows it: which civil minutes an expression matches.
//!
//! It is fed civil time dressed as UTC. It counts days of the week from 1 = Sunday, panics or errs on reversed
//! ranges, on `*` inside lists and on large steps, and invents days for `30W` in a short month. So it sees only
//! ascending lists, or `*`, with days of the week by name; a mark is passed alone; what can never match is refused
//! before it would search for a quarter of a million years.

use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Datelike, Utc};

use super::{
    super::{EXPR, GaveUp, civil},
    fields::{DAYS, Field, Fields, Values},
    marks::Mark,
};
use crate::fault::{Fault, FaultCode};

/// More than two expressions have to leapfrog within the 400 years after which the calendar repeats.
const MAX_STEPS: u32 = 20_000;

#[derive(Debug, Clone)]
pub(super) struct Matcher {
    plan: Plan,
}

#[derive(Debug, Clone)]
enum Plan {
    One(Expression),
    /// Both day fields are restricted: either may match.
    Either(Expression, Expression),
    /// Both day fields count, because one begins with `*` (`*/2`): both must match.
    Both(Expression, Expression),
}

/// One compiled expression.
#[derive(Debug, Clone)]
struct Expression {
    cron: saffron::Cron,
    /// The day of `30W`, which matches only in months that have it.
    needs_day: Option<u32>,
}

impl Matcher {
    pub(super) fn new(fields: &Fields) -> Result<Self, Fault> {
        let any_day = is_any(&fields.days, Field::DayOfMonth);
        let any_weekday = is_any(&fields.weekdays, Field::DayOfWeek);
        let both = !any_day && !any_weekday && (fields.days.star || fields.weekdays.star);
        if (any_weekday || both) && !has_day(&fields.days, &fields.months) {
            return Err(never(fields));
        }
        let plan = if both {
            Plan::Both(Expression::new(fields, true, false)?, Expression::new(fields, false, true)?)
        } else if !any_day && !any_weekday && matches!(fields.days.mark, Some(Mark::NearestWeekday(29..))) {
            let dated = has_day(&fields.days, &fields.months);
            let weekly = Expression::new(fields, false, true)?;
            if dated { Plan::Either(Expression::new(fields, true, false)?, weekly) } else { Plan::One(weekly) }
        } else {
            Plan::One(Expression::new(fields, !any_day, !any_weekday)?)
        };
        let matcher = Self { plan };
        // `15W` is never a Sunday: where both day fields must match, only a search can tell.
        if both && !matches!(matcher.first_from(civil::year_start(2000) * civil::DAY), Ok(Some(_))) {
            return Err(never(fields));
        }
        Ok(matcher)
    }

    /// The first civil time at or after `civil` that matches.
    pub(super) fn first_from(&self, civil: i64) -> Result<Option<i64>, GaveUp> {
        match &self.plan {
            Plan::One(only) => only.first_from(civil),
            Plan::Either(one, other) => {
                Ok([one.first_from(civil)?, other.first_from(civil)?].into_iter().flatten().min())
            }
            Plan::Both(dated, weekly) => {
                let mut civil = civil;
                for _ in 0..MAX_STEPS {
                    let Some(found) = dated.first_from(civil)? else { return Ok(None) };
                    match weekly.first_from(found)? {
                        Some(same) if same == found => return Ok(Some(found)),
                        Some(later) => civil = later,
                        None => return Ok(None),
                    }
                }
                Err(GaveUp { steps: MAX_STEPS })
            }
        }
    }
}

impl Expression {
    fn new(fields: &Fields, with_days: bool, with_weekdays: bool) -> Result<Self, Fault> {
        let minutes = list(&fields.minutes, Field::Minute);
        let hours = list(&fields.hours, Field::Hour);
        let months = list(&fields.months, Field::Month);
        let days = if with_days { days(&fields.days) } else { "*".to_owned() };
        let weekdays = if with_weekdays { weekdays(&fields.weekdays) } else { "*".to_owned() };
        let needs_day = match fields.days.mark {
            Some(Mark::NearestWeekday(day @ 29..)) if with_days => Some(u32::from(day)),
            _ => None,
        };
        let text = format!("{minutes} {hours} {days} {months} {weekdays}");
        catch_unwind(|| text.parse::<saffron::Cron>().ok())
            .ok()
            .flatten()
            .map(|cron| Self { cron, needs_day })
            .ok_or_else(|| Fault::new(EXPR, FaultCode::BadCron, format!("`{}` could not be understood", fields.text())))
    }

    fn first_from(&self, civil: i64) -> Result<Option<i64>, GaveUp> {
        let mut civil = civil;
        for _ in 0..MAX_STEPS {
            let Some(from) = DateTime::<Utc>::from_timestamp(civil, 0) else { return Ok(None) };
            let found = catch_unwind(AssertUnwindSafe(|| {
                if civil.rem_euclid(60) == 0 { self.cron.next_from(from) } else { self.cron.next_after(from) }
            }))
            .map_err(|_| GaveUp { steps: 1 })?;
            let Some(found) = found else { return Ok(None) };
            if self.needs_day.is_none_or(|day| u32::from(found.num_days_in_month()) >= day) {
                return Ok(Some(found.timestamp()));
            }
            civil = (found.timestamp().div_euclid(civil::DAY) + 1) * civil::DAY;
        }
        Err(GaveUp { steps: MAX_STEPS })
    }
}

fn is_any(values: &Values, field: Field) -> bool {
    values.star && values.list.len() == field.size()
}

/// Whether any of the months ever has one of the days.
fn has_day(days: &Values, months: &Values) -> bool {
    const LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let longest = months.list.iter().map(|month| LENGTHS[usize::from(month - 1)]).max().unwrap_or(0);
    match days.mark {
        Some(Mark::Last(offset)) => offset < longest,
        Some(Mark::NearestWeekday(day)) => day <= longest,
        Some(_) => true,
        None => days.list.first().is_some_and(|day| *day <= longest),
    }
}

fn never(fields: &Fields) -> Fault {
    let mut suggestion = fields.clone();
    "L".clone_into(&mut suggestion.days.text);
    let fault = |why: &str| Fault::new(EXPR, FaultCode::NeverFires, format!("`{}` never fires: {why}", fields.text()));
    if has_day(&fields.days, &fields.months) {
        return fault("no day fits both the day of month and the day of week, and with a leading `*` both must fit");
    }
    fault(&format!(
        "month {} never has day {}; for the last day of a month write `L`",
        fields.months.text, fields.days.text
    ))
    .suggest(suggestion.text())
}

fn list(values: &Values, field: Field) -> String {
    if values.list.len() == field.size() {
        return "*".to_owned();
    }
    values.list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn days(days: &Values) -> String {
    match days.mark {
        Some(Mark::Last(0)) => "L".to_owned(),
        Some(Mark::Last(offset)) => format!("L-{offset}"),
        Some(Mark::NearestWeekday(day)) => format!("{day}W"),
        Some(Mark::LastWeekday) => "LW".to_owned(),
        // All 31 days, written out: a restriction in name, which `*` would not be.
        _ => days.list.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn weekdays(weekdays: &Values) -> String {
    let name = |day: u8| DAYS[usize::from(day)];
    match weekdays.mark {
        Some(Mark::LastOf(day)) => format!("{}L", name(day)),
        Some(Mark::Nth(day, nth)) => format!("{}#{nth}", name(day)),
        _ => weekdays.list.iter().map(|day| name(*day)).collect::<Vec<_>>().join(","),
    }
}
