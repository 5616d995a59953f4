//! What a recurrence set says, in one English sentence.

use super::{
    super::{
        civil,
        english::{self, WEEKDAYS, capital, position, within},
    },
    RuleSet,
    rule::{Freq, Rule},
};

/// Without the zone: `Every weekday at 08:30`.
pub(super) fn describe(set: &RuleSet) -> String {
    let rules: Vec<String> = set.rules.iter().map(|it| one(&it.rule, set)).collect();
    let mut clauses = vec![capital(&rules.join("; and "))];
    // What is counted from DTSTART begins there, too.
    if set.starts_later && !set.rules.iter().all(|it| is_counted(&it.rule, set)) {
        clauses.push(format!("from {}", day_and_time(set.start)));
    }
    if !set.rdates.is_empty() {
        clauses.push(format!("plus {}", dates(set.rdates.len())));
    }
    if !set.exdates.is_empty() {
        clauses.push(format!("except {}", dates(set.exdates.len())));
    }
    clauses.join(", ")
}

fn dates(count: usize) -> String {
    if count == 1 { "1 date".to_owned() } else { format!("{count} dates") }
}

fn day_and_time(civil: i64) -> String {
    let at = civil::to_datetime(civil);
    let form = if at.second() == 0 { "%-d %B %Y %H:%M" } else { "%-d %B %Y %H:%M:%S" };
    at.strftime(form).to_string()
}

fn one(rule: &Rule, set: &RuleSet) -> String {
    let explicit = rule.with_implied_days(set.start);
    let mut clauses = vec![if rule.freq < Freq::Hourly { of_days(&explicit, set.start) } else { of_hours(&explicit) }];
    if is_counted(rule, set) {
        clauses.push(format!("counted from {}", day_and_time(set.start)));
    }
    let weeks_count = !rule.by_week.is_empty() || (rule.freq == Freq::Weekly && rule.interval > 1);
    let picks_in_weeks = rule.freq == Freq::Weekly && !rule.by_set_pos.is_empty();
    if rule.week_start != 0 && (weeks_count || picks_in_weeks) {
        clauses.push(format!("weeks beginning on {}", WEEKDAYS[usize::from(rule.week_start)]));
    }
    match rule.count {
        Some(1) => clauses.push("once".to_owned()),
        Some(count) => clauses.push(format!("{count} times")),
        None => {}
    }
    if let Some(until) = rule.until {
        clauses.push(format!("until {}", day_and_time(until + civil::offset_at(&set.zone, until))));
    }
    clauses.join(", ")
}

/// Whether the sentence needs DTSTART to be exact.
fn is_counted(rule: &Rule, set: &RuleSet) -> bool {
    let unit = match rule.freq {
        Freq::Hourly => civil::HOUR,
        Freq::Minutely => 60,
        _ => 1,
    };
    rule.interval > 1 || set.start.rem_euclid(unit) != 0
}

fn every(interval: u32, unit: &str) -> String {
    if interval == 1 { format!("every {unit}") } else { format!("every {interval} {unit}s") }
}

/// A rule of days or coarser, its implied days made explicit.
fn of_days(rule: &Rule, start: i64) -> String {
    let time = start.rem_euclid(civil::DAY);
    let own = |list: &[u8], value: i64| {
        if list.is_empty() { vec![u8::try_from(value).unwrap_or(0)] } else { list.to_vec() }
    };
    let times = english::times(
        &own(&rule.by_hour, time / civil::HOUR),
        &own(&rule.by_minute, time / 60 % 60),
        &own(&rule.by_second, time % 60),
    );
    let period = match rule.freq {
        Freq::Yearly => "year",
        Freq::Monthly => "month",
        Freq::Weekly => "week",
        _ => "day",
    };
    let plain = rule.by_month_day.is_empty() && rule.by_year_day.is_empty() && rule.by_week.is_empty();
    let every_weekday = plain && rule.by_day.iter().all(|(ordinal, _)| *ordinal == 0);
    let in_months =
        if rule.by_month.is_empty() { String::new() } else { format!(" in {}", english::months(&rule.by_month)) };
    if !rule.by_set_pos.is_empty() {
        return picked(rule, period, every_weekday, &times);
    }
    if every_weekday && rule.interval == 1 {
        // Whatever the period, each such day of every period is each such day.
        let days: Vec<u8> = rule.by_day.iter().map(|(_, day)| *day).collect();
        let days = if days.is_empty() { "day".to_owned() } else { english::weekdays(&days) };
        return format!("every {days}{in_months} {times}");
    }
    if rule.freq == Freq::Weekly {
        let days: Vec<&str> = rule.by_day.iter().map(|(_, day)| WEEKDAYS[usize::from(*day)]).collect();
        return format!("{} on {}{in_months} {times}", every(rule.interval, period), english::join(&days));
    }
    let dated = rule.by_day.is_empty() && rule.by_year_day.is_empty() && rule.by_week.is_empty();
    if rule.freq == Freq::Yearly && rule.interval == 1 && dated && !rule.by_month_day.is_empty() {
        let months = if rule.by_month.is_empty() { "every month".to_owned() } else { english::months(&rule.by_month) };
        return format!("on {} of {months} {times}", month_days(rule));
    }
    let limits = limits(rule);
    if limits.is_empty() {
        return format!("{} {times}", every(rule.interval, period));
    }
    format!("{} {limits} {times}", every(rule.interval, period))
}

/// What BYSETPOS picks from each period.
fn picked(rule: &Rule, period: &str, every_weekday: bool, times: &str) -> String {
    let every = every(rule.interval, period);
    let days: Vec<u8> = rule.by_day.iter().map(|(_, day)| *day).collect();
    let in_months =
        if rule.by_month.is_empty() { String::new() } else { format!(" in {}", english::months(&rule.by_month)) };
    // With one time a day the picked times are days, and those have plainer names; but the last of two months of a
    // year is not the last of each.
    let once_a_day = [&rule.by_hour, &rule.by_minute, &rule.by_second].iter().all(|list| list.len() < 2);
    let of_year_in_months = rule.freq == Freq::Yearly && !rule.by_month.is_empty();
    if every_weekday && !days.is_empty() && once_a_day && rule.freq != Freq::Daily && !of_year_in_months {
        let days = english::weekdays(&days).replace(" and ", " or ");
        return format!("{every} on the {} {days} of the {period}{in_months} {times}", positions(&rule.by_set_pos));
    }
    let of = match limits(rule) {
        _ if every_weekday && !days.is_empty() => format!("every {}{in_months}", english::weekdays(&days)),
        limits if limits.is_empty() => "every day".to_owned(),
        limits => limits,
    };
    format!("{every}, only the {} of: {of} {times}", positions(&rule.by_set_pos))
}

/// From the first to the last, those that count from the end after the others.
fn positions<T: Copy + Ord + Into<i32>>(numbers: &[T]) -> String {
    let mut numbers: Vec<i32> = numbers.iter().map(|n| (*n).into()).collect();
    numbers.sort_by_key(|n| (*n < 0, *n));
    english::join(&numbers.into_iter().map(position).collect::<Vec<_>>())
}

/// A rule of hours or finer.
fn of_hours(rule: &Rule) -> String {
    let unit = match rule.freq {
        Freq::Hourly => "hour",
        Freq::Minutely => "minute",
        _ => "second",
    };
    let mut clauses = vec![every(rule.interval, unit)];
    let mut named = Vec::new();
    if !rule.by_second.is_empty() {
        named.push(within("second", &rule.by_second, 60));
    }
    if !rule.by_minute.is_empty() {
        named.push(within("minute", &rule.by_minute, 60));
    }
    if !rule.by_hour.is_empty() {
        named.push(within("hour", &rule.by_hour, 24));
    }
    if !named.is_empty() {
        clauses.push(format!("at {}", named.join(" of ")));
    }
    if !rule.by_set_pos.is_empty() {
        clauses.push(format!("only the {} of each {unit}", positions(&rule.by_set_pos)));
    }
    let limits = limits(rule);
    if !limits.is_empty() {
        clauses.push(limits);
    }
    clauses.join(", ")
}

/// Which days, as the parts say it: `on the last Friday, in March`.
fn limits(rule: &Rule) -> String {
    let mut clauses = Vec::new();
    if !rule.by_day.is_empty() {
        let days: Vec<String> = rule
            .by_day
            .iter()
            .map(|(ordinal, day)| {
                let day = WEEKDAYS[usize::from(*day)];
                match ordinal {
                    0 => format!("every {day}"),
                    n => format!("the {} {day}", position(i32::from(*n))),
                }
            })
            .collect();
        let counted = rule.by_day.iter().any(|(ordinal, _)| *ordinal != 0);
        let within = match (counted, rule.freq, rule.by_month.is_empty()) {
            (false, ..) => "",
            (true, Freq::Yearly, true) => " of the year",
            _ => " of the month",
        };
        let plain: Vec<u8> = rule.by_day.iter().map(|(_, day)| *day).collect();
        let days = if counted { english::join(&days) } else { format!("every {}", english::weekdays(&plain)) };
        clauses.push(format!("on {days}{within}"));
    }
    if !rule.by_month_day.is_empty() {
        clauses.push(format!("on {} of the month", month_days(rule)));
    }
    if !rule.by_year_day.is_empty() {
        clauses.push(format!("on the {} day of the year", positions(&rule.by_year_day)));
    }
    if !rule.by_week.is_empty() {
        clauses.push(format!("in the {} week of the year", positions(&rule.by_week)));
    }
    if !rule.by_month.is_empty() {
        clauses.push(format!("in {}", english::months(&rule.by_month)));
    }
    clauses.join(" that is also ").replace(" that is also in ", " in ")
}

fn month_days(rule: &Rule) -> String {
    let (back, forth): (Vec<i8>, Vec<i8>) = rule.by_month_day.iter().partition(|day| **day < 0);
    let mut items = Vec::new();
    if !forth.is_empty() {
        let days: Vec<u8> = forth.iter().map(|day| day.unsigned_abs()).collect();
        let noun = if days.len() == 1 { "day" } else { "days" };
        items.push(format!("{noun} {}", english::runs(&days, |day| day.to_string())));
    }
    items.extend(back.iter().rev().map(|day| format!("the {} day", position(i32::from(*day)))));
    english::join(&items)
}
