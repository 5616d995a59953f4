//! Times in expressions: RFC 3339 texts, read and written with the offset they carry.
//!
//! `add_time` counts days in the offset of its argument: an expression knows the offset of `now`, not the rules of
//! its zone, so seven days over a DST change are 168 hours.

use jiff::{
    Span, Timestamp, Zoned,
    fmt::{strtime, temporal::Pieces},
    tz::TimeZone,
};
use serde_json::Value;

use crate::time::Zone;

use super::{super::evaluator::Evaluator, Argument, Function, Kind, text, value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("format_time", &[Kind::TextOrNumber, Kind::Text, Kind::Text], format_time).optional(1),
    Function::new("add_time", &[Kind::TextOrNumber, Kind::Text], |_, args| {
        let moved = instant(value(args, 0), "add_time")?
            .checked_add(span(text(args, 1))?)
            .map_err(|_| format!("`add_time` by {} leaves the calendar", text(args, 1)))?;
        Ok(Value::String(moved.timestamp().display_with_offset(moved.offset()).to_string()))
    }),
];

/// Checks the amount of `now+24h`.
pub(in crate::template) fn check_shift(amount: &str) -> Result<(), String> {
    span(amount).map(drop)
}

fn span(amount: &str) -> Result<Span, String> {
    let wrong = || format!("`{amount}` is not an amount of time; write `+24h`, `-7d`, `+1h30m`");
    let (negative, plain) = match amount.trim().split_at_checked(1) {
        Some(("-", rest)) => (true, rest),
        Some(("+", rest)) => (false, rest),
        _ => (false, amount.trim()),
    };
    if plain.starts_with(['-', '+']) {
        return Err(wrong());
    }
    let span: Span = plain.parse().map_err(|_| wrong())?;
    Ok(if negative { -span } else { span })
}

/// A text with an offset, or seconds since 1970 in UTC.
fn instant(value: &Value, function: &str) -> Result<Zoned, String> {
    if let Some(seconds) = value.as_number() {
        return seconds
            .as_f64()
            .and_then(|seconds| jiff::SignedDuration::try_from_secs_f64(seconds).ok())
            .and_then(|since| Timestamp::from_duration(since).ok())
            .map(|at| at.to_zoned(TimeZone::UTC))
            .ok_or_else(|| format!("{seconds} is not a number of seconds since 1970"));
    }
    let text = value.as_str().unwrap_or_default();
    let wrong = || format!("`{function}` takes a time such as 2026-11-23T08:30:00+02:00, not '{text}'");
    let at: Timestamp = text.parse().map_err(|_| wrong())?;
    let offset = Pieces::parse(text).ok().and_then(|pieces| pieces.to_numeric_offset()).ok_or_else(wrong)?;
    Ok(at.to_zoned(TimeZone::fixed(offset)))
}

fn format_time(_: &Evaluator<'_>, args: &[Argument<'_>]) -> Result<Value, String> {
    let format = text(args, 1);
    let mut at = instant(value(args, 0), "format_time")?;
    if args.len() == 3 {
        let name = text(args, 2);
        let zone = Zone::find(name).ok_or_else(|| format!("`{name}` is not a timezone; write an IANA name"))?;
        at = at.with_time_zone(zone.rules().clone());
    }
    if format.len() > 200 {
        return Err("the format of `format_time` is longer than 200 bytes".to_owned());
    }
    strtime::format(format, &at)
        .map(Value::String)
        .map_err(|_| format!("'{format}' is not a format; write one such as '%A, %-d %B %H:%M'"))
}
