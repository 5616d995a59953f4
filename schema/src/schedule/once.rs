//! One instant: written with an offset, as civil time in a zone, or as a delay from the anchor.
//!
//! Whatever was written, an instant is what is stored. The grammar is our own and strict (RFC 3339, seconds
//! optional): a lenient one reads `2026-01-01` or `20260101T000000` and guesses what was meant.

use std::time::Duration;

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
};

use super::{DstShift, EXPR, ZONE, civil};
use crate::{
    fault::{Fault, FaultCode},
    time::{self, Zone},
};

#[derive(Debug, Clone)]
pub(crate) struct Once {
    pub(crate) at: Timestamp,
    /// How the civil time that was written was moved; unknown once only the instant is stored.
    pub(crate) shift: Option<DstShift>,
    /// The zone that a civil time was read in.
    pub(crate) zone: Option<Zone>,
    normalised: String,
}

fn bad(message: String) -> Fault {
    Fault::new(EXPR, FaultCode::BadInstant, message)
}

impl Once {
    pub(crate) fn parse(text: &str, zone: Option<&Zone>, anchor: Timestamp) -> Result<Self, Fault> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        if let Some(delay) = text.strip_prefix('+').filter(|rest| !rest.contains(['-', ':'])) {
            let delay = time::parse_duration(delay)
                .map_err(|_| bad(format!("`{text}` is not a delay; write `+20m` or `+1h30m`")))?;
            return Self::delayed(text, anchor, delay);
        }
        let (civil, nanoseconds, offset) = parse_instant(text, &form(anchor, zone))?;
        let (second, shift, zone) = match (offset, zone) {
            (Some(offset), _) => (civil - offset, None, None),
            (None, Some(zone)) => {
                let (second, shift) = civil::resolve(zone, civil);
                (second, shift, Some(zone.clone()))
            }
            (None, None) => {
                let message = format!(
                    "`{text}` has no offset and no zone is known: set `timezone` to an IANA name such as `Europe/Chisinau`, or write an offset, such as `{text}Z`"
                );
                return Err(Fault::new(ZONE, FaultCode::TimezoneRequired, message));
            }
        };
        let at = Timestamp::new(second, nanoseconds).map_err(|_| bad(format!("`{text}` is too far in time")))?;
        Ok(Self { at, shift, zone, normalised: at.to_string() })
    }

    fn delayed(text: &str, anchor: Timestamp, delay: Duration) -> Result<Self, Fault> {
        let at = anchor.checked_add(delay).ok().filter(|at| civil::seconds(*at) < civil::HORIZON);
        let at = at.ok_or_else(|| bad(format!("`{text}` is too far in time")))?;
        // Databases keep microseconds; what is stored must read back as the same instant.
        let at = Timestamp::from_millisecond(at.as_millisecond())
            .map_err(|_| bad(format!("`{text}` is too far in time")))?;
        Ok(Self { at, shift: None, zone: None, normalised: at.to_string() })
    }

    pub(crate) fn normalised(&self) -> &str {
        &self.normalised
    }

    pub(crate) fn describe(&self, zone: &Zone) -> String {
        let local = zone.rules().to_datetime(self.at);
        format!("Once, on {}, {}", local.strftime("%A, %-d %B %Y at %H:%M:%S"), zone.name()).replace(":00, ", ", ")
    }
}

/// What to write instead, with instants that are still to come.
fn form(anchor: Timestamp, zone: Option<&Zone>) -> String {
    let (instant, civil) = time::tomorrow(anchor, zone.unwrap_or(&Zone::utc()));
    format!("write an instant with offset, `{instant}`, a civil time, `{civil}`, or a delay, `+20m`")
}

/// Civil seconds, nanoseconds (whole milliseconds), and the offset if there is one.
fn parse_instant(text: &str, form: &str) -> Result<(i64, i32, Option<i64>), Fault> {
    let wrong = |why: &str| bad(format!("`{text}` is not an instant: {why}; {form}"));
    if text.is_empty() {
        return Err(bad(format!("the instant is empty; {form}")));
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        return Err(wrong(&format!("the character `{}` cannot stand in one", odd.escape_default())));
    }
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c.to_ascii_uppercase() }).collect();
    if shape == "0000-00-00" {
        return Err(wrong("a date without a time").suggest(format!("{text}T00:00")));
    }
    if let Some(day) = shape.strip_prefix("0000-00-00 ") {
        let fault = wrong("between date and time stands a `T`");
        return Err(if day.starts_with("00:00") { fault.suggest(text.replacen(' ', "T", 1)) } else { fault });
    }
    if !shape.starts_with("0000-00-00T00:00") {
        return Err(wrong("it is not in the form of RFC 3339"));
    }
    let number = |from: usize, len: usize| text[from..from + len].parse::<i16>().unwrap_or(-1);
    let small = |from: usize| i8::try_from(number(from, 2)).unwrap_or(-1);
    let (mut rest, mut second) = (&text[16..], 0);
    if shape[16..].starts_with(":00") {
        second = small(17);
        rest = &text[19..];
    }
    let mut milliseconds = 0;
    if let Some(fraction) = rest.strip_prefix('.').filter(|_| shape[16..].starts_with(":00.")) {
        let digits = fraction.len() - fraction.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 || digits > 9 {
            return Err(wrong("a fraction of a second has 1 to 9 digits"));
        }
        milliseconds = format!("{:0<3}", &fraction[..digits])[..3].parse().unwrap_or(0);
        rest = &fraction[digits..];
    }
    let offset = match rest {
        "" => None,
        rest => {
            let why = || wrong(&format!("`{rest}` is not an offset such as `Z` or `+02:00`"));
            Some(parse_offset(rest).ok_or_else(why)?)
        }
    };
    let date = Date::new(number(0, 4), small(5), small(8))
        .ok()
        .filter(|date| date.year() >= 1)
        .ok_or_else(|| wrong(&format!("there is no date {}", &text[..10])))?;
    if second == 60 {
        return Err(wrong("leap seconds are not kept; second 60 is the next minute"));
    }
    let time = Time::new(small(11), small(14), second, 0).map_err(|_| wrong("there is no such time of day"))?;
    let civil = civil::from_datetime(DateTime::from_parts(date, time)).filter(|civil| *civil < civil::HORIZON);
    Ok((civil.ok_or_else(|| wrong("it is too far in time"))?, milliseconds * 1_000_000, offset))
}

/// Seconds east of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let part = |text: &str, most: i64| {
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|value| plain && *value <= most)
    };
    Some(sign * (part(hours, 23)? * 3600 + part(minutes, 59)? * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(text: &str) -> Result<Once, Fault> {
        let zone = Zone::find("Europe/Chisinau").unwrap();
        Once::parse(text, Some(&zone), "2026-11-23T06:00:00.4321Z".parse().unwrap())
    }

    #[test]
    fn an_instant_a_civil_time_and_a_delay_become_an_instant() {
        for (text, at) in [
            ("2026-11-23T08:30:00+02:00", "2026-11-23T06:30:00Z"),
            ("2026-11-23T08:30", "2026-11-23T06:30:00Z"),
            ("2026-07-01T08:30:00", "2026-07-01T05:30:00Z"),
            ("2026-11-23T06:30:00.25z", "2026-11-23T06:30:00.25Z"),
            ("+20m", "2026-11-23T06:20:00.432Z"),
            ("+1h30m", "2026-11-23T07:30:00.432Z"),
        ] {
            let once = once(text).unwrap();
            assert_eq!(once.normalised(), at, "{text}");
            assert_eq!(super::Once::parse(at, None, Timestamp::UNIX_EPOCH).unwrap().at, once.at);
        }
    }

    #[test]
    fn a_civil_time_in_a_gap_says_that_it_was_shifted() {
        let once = once("2026-03-29T03:30").unwrap();
        assert_eq!((once.shift, once.normalised()), (Some(DstShift::Gap), "2026-03-29T01:30:00Z"));
    }

    #[test]
    fn the_examples_of_a_refusal_are_still_to_come() {
        let message = once("tomorrow").unwrap_err().message;
        assert!(message.contains("`2026-11-24T08:30:00+02:00`") && message.contains("`2026-11-24T08:30`"), "{message}");
    }

    #[test]
    fn what_is_nearly_an_instant_is_refused_with_what_would_be_one() {
        assert_eq!(once("2026-01-01").unwrap_err().suggestion.as_deref(), Some("2026-01-01T00:00"));
        assert_eq!(once("2026-01-01 08:30").unwrap_err().suggestion.as_deref(), Some("2026-01-01T08:30"));
        assert!(once("2025-02-29T00:00:00Z").unwrap_err().message.contains("no date 2025-02-29"));
    }
}
