//! DATE-TIME values of RFC 5545, `20261123T083000` and `20261123T063000Z`.

use jiff::civil::{Date, DateTime, Time};

use super::super::civil;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// An instant.
    Utc(i64),
    /// What the wall clock shows, in a zone that is named elsewhere.
    Local(i64),
}

/// # Errors
/// Why it is not one.
pub(super) fn parse(text: &str) -> Result<Moment, String> {
    const FORM: &str = "write `20261123T083000` (local) or `20261123T063000Z` (UTC)";
    let (local, is_utc) = match text.strip_suffix(['Z', 'z']) {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if local.len() == 8 && local.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("a date without a time; write `{local}T000000`"));
    }
    let shaped = local.len() == 15
        && local.bytes().enumerate().all(|(n, b)| if n == 8 { matches!(b, b'T' | b't') } else { b.is_ascii_digit() });
    if !shaped {
        return Err(format!("not a date and time; {FORM}"));
    }
    let field = |from: usize, to: usize| local[from..to].parse::<i16>().map_err(|_| FORM.to_owned());
    let small = |from: usize| field(from, from + 2).map(|it| i8::try_from(it).unwrap_or(i8::MAX));
    let date = Date::new(field(0, 4)?, small(4)?, small(6)?)
        .ok()
        .filter(|date| date.year() >= 1)
        .ok_or_else(|| format!("there is no date {}-{}-{}", &local[..4], &local[4..6], &local[6..8]))?;
    // Without leap seconds, second 60 is 59 (RFC 5545 section 3.3.12).
    let time = Time::new(small(9)?, small(11)?, small(13).map(|second| if second == 60 { 59 } else { second })?, 0)
        .map_err(|_| format!("there is no time {}:{}:{}", &local[9..11], &local[11..13], &local[13..15]))?;
    let civil = civil::from_datetime(DateTime::from_parts(date, time)).ok_or("it is too far in time")?;
    let civil = civil.clamp(civil::ORIGIN, civil::HORIZON);
    Ok(if is_utc { Moment::Utc(civil) } else { Moment::Local(civil) })
}

pub(super) fn utc_text(at: i64) -> String {
    format!("{}Z", local_text(at))
}

pub(super) fn local_text(civil: i64) -> String {
    civil::to_datetime(civil).strftime("%Y%m%dT%H%M%S").to_string()
}
