//! The values of the parts of an RRULE.

use super::{
    super::civil,
    moment::{self, Moment},
    rule::{DAYS, Freq, bad},
};
use crate::{
    fault::{Fault, nearest},
    time::Zone,
};

/// What people call a frequency that the standard writes in two parts, or in another word.
const CALLED: [(&str, &str); 6] = [
    ("BIWEEKLY", "WEEKLY;INTERVAL=2"),
    ("FORTNIGHTLY", "WEEKLY;INTERVAL=2"),
    ("BIMONTHLY", "MONTHLY;INTERVAL=2"),
    ("QUARTERLY", "MONTHLY;INTERVAL=3"),
    ("WEEKDAYS", "WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
    ("ANNUALLY", "YEARLY"),
];

pub(super) fn freq(value: &str) -> Result<Freq, Fault> {
    if let Some((_, freq)) = Freq::ALL.iter().find(|(name, _)| *name == value) {
        return Ok(*freq);
    }
    let names = Freq::ALL.map(|(name, _)| name);
    let fault = bad(format!("FREQ={value} is not known; there are {}", names.join(", ")));
    let called = CALLED.iter().find(|(word, _)| *word == value).map(|(_, parts)| *parts);
    Err(match called.or_else(|| nearest(value, names)) {
        Some(meant) => fault.suggest(format!("FREQ={meant}")),
        None => fault,
    })
}

pub(super) fn number<T: TryFrom<i64>>(name: &str, value: &str, least: i64, most: i64) -> Result<T, Fault> {
    let digits = !value.is_empty() && value.len() <= 18 && value.bytes().all(|b| b.is_ascii_digit());
    value
        .parse::<i64>()
        .ok()
        .filter(|number| digits && (least..=most).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| bad(format!("{name}={value}: it must be a whole number, at least {least}")))
}

/// A list of numbers, ascending, without repeats; `signed` also allows the negatives of the range.
pub(super) fn list<T: TryFrom<i64> + Ord>(
    name: &str,
    value: &str,
    least: i64,
    most: i64,
    signed: bool,
) -> Result<Vec<T>, Fault> {
    let range = if signed { format!("{least} to {most} or -{most} to -{least}") } else { format!("{least} to {most}") };
    let mut values = Vec::new();
    for item in value.split(',') {
        let (negative, digits) = match item.as_bytes().first() {
            Some(b'-') => (true, &item[1..]),
            Some(b'+') => (false, &item[1..]),
            _ => (false, item),
        };
        let number = if !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit()) {
            digits.parse::<i64>().ok()
        } else {
            None
        };
        let wanted = number
            .filter(|number| (least..=most).contains(number) && (signed || digits == item))
            .and_then(|number| T::try_from(if negative { -number } else { number }).ok());
        let Some(wanted) = wanted else {
            let item = if item.is_empty() { "an empty item" } else { item };
            return Err(bad(format!("{name}={value}: {item} is not allowed; the values are {range}")));
        };
        values.push(wanted);
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

pub(super) fn weekday(text: &str) -> Option<u8> {
    DAYS.iter().position(|day| *day == text).and_then(|index| u8::try_from(index).ok())
}

pub(super) fn bad_weekday(name: &str, text: &str) -> Fault {
    let fault = bad(format!("{name}: `{text}` is not a day of the week; there are {}", DAYS.join(", ")));
    match DAYS.iter().find(|day| text.len() > 2 && text.starts_with(*day)) {
        Some(day) => fault.suggest(format!("{name}={day}")),
        None => fault,
    }
}

pub(super) fn by_day(value: &str) -> Result<Vec<(i8, u8)>, Fault> {
    let mut days = Vec::new();
    for item in value.split(',') {
        let split = item.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(item.len());
        let (ordinal, day) = item.split_at(split);
        let day = weekday(day).ok_or_else(|| bad_weekday("BYDAY", item))?;
        let ordinal = if ordinal.is_empty() { 0 } else { list::<i8>("BYDAY", ordinal, 1, 53, true)?[0] };
        days.push((ordinal, day));
    }
    days.sort_unstable_by_key(|(ordinal, day)| (*day, *ordinal));
    days.dedup();
    Ok(days)
}

pub(super) fn until(value: &str, zone: &Zone) -> Result<i64, Fault> {
    match moment::parse(value).map_err(|why| bad(format!("UNTIL={value}: {why}")))? {
        Moment::Utc(at) => Ok(at),
        Moment::Local(local) => {
            let at = civil::resolve(zone, local).0;
            let message = format!("UNTIL={value} must be in UTC, with a `Z` at its end, because DTSTART has a zone");
            Err(bad(message).suggest(format!("UNTIL={}", moment::utc_text(at))))
        }
    }
}
