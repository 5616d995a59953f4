//! The marks of the day fields: days that depend on the month they lie in.

use super::fields::{Field, Refusal, parse_value};

/// Days that depend on the month they lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `L`, `L-3`: so many days before the last of the month.
    Last(u8),
    /// `15W`: the weekday (Monday to Friday) nearest to a day, within its month.
    NearestWeekday(u8),
    /// `LW`: the last weekday of the month.
    LastWeekday,
    /// `5L`: the last such day of the week in the month.
    LastOf(u8),
    /// `MON#2`.
    Nth(u8, u8),
}

/// `L`, `L-3`, `15W`, `LW`; `5L`, `MON#2`. `None` where the part is an ordinary list.
pub(super) fn parse_mark(field: Field, part: &str) -> Result<Option<Mark>, Refusal> {
    let marked = match field {
        Field::Minute | Field::Hour | Field::Month => false,
        Field::DayOfMonth => part.contains(['L', 'W']),
        Field::DayOfWeek => part.contains('#') || (part.ends_with('L') && !part.ends_with("JUL")),
    };
    if !marked {
        return Ok(None);
    }
    if part.contains(',') {
        return Err(Refusal::new("`L`, `W` and `#` stand alone, not in a list; use one task for each, or an rrule"));
    }
    if field == Field::DayOfWeek { weekday_mark(part) } else { month_day_mark(part) }.map(Some)
}

fn month_day_mark(part: &str) -> Result<Mark, Refusal> {
    let digits = |text: &str| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u8>().unwrap_or(u8::MAX))
    };
    if part == "L" {
        return Ok(Mark::Last(0));
    }
    if matches!(part, "LW" | "WL") {
        return Ok(Mark::LastWeekday);
    }
    if let Some(rest) = part.strip_prefix("L-") {
        if rest.ends_with('W') {
            return Err(Refusal::new("`L-n` and `W` cannot be combined").instead("LW"));
        }
        return match digits(rest) {
            Some(offset @ 1..=30) => Ok(Mark::Last(offset)),
            Some(0) => Err(Refusal::new("`L-0` is the last day itself").instead("L")),
            _ => Err(Refusal::new("`L-n` counts 1 to 30 days back from the last day, such as `L-3`")),
        };
    }
    match part.strip_suffix('W').map(|day| (day, digits(day))) {
        Some((_, Some(day @ 1..=31))) => Ok(Mark::NearestWeekday(day)),
        Some(("", _)) => Err(Refusal::new("`W` needs a day before it, such as `15W`, or `LW` for the last weekday")),
        Some((day, Some(_))) => Err(Refusal::new(format!("there is no day {day}; days of the month are 1 to 31"))),
        _ => Err(Refusal::new("write `L`, `L-3`, `15W` or `LW`")),
    }
}

fn weekday_mark(part: &str) -> Result<Mark, Refusal> {
    if let Some((day, nth)) = part.split_once('#') {
        if day.is_empty() {
            return Err(Refusal::new(format!("`{part}` has no day before `#`; write `MON#2` for the second Monday")));
        }
        let (day, _) = parse_value(Field::DayOfWeek, day)?;
        return match nth.parse::<u8>() {
            Ok(nth @ 1..=5) if part.len() - part.find('#').expect("it was split there") == 2 => {
                Ok(Mark::Nth(day % 7, nth))
            }
            _ => Err(Refusal::new(format!("`#{nth}`: a month has a first to a fifth of each day; write `#1` to `#5`"))),
        };
    }
    let day = &part[..part.len() - 1];
    if day.is_empty() {
        return Err(Refusal::new(
            "`L` needs a day before it, such as `5L` for the last Friday; for the last day of the month put `L` in the day-of-month field",
        ));
    }
    let (day, _) = parse_value(Field::DayOfWeek, day)?;
    Ok(Mark::LastOf(day % 7))
}
