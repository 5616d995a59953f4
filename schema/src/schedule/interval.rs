//! A fixed length of real time, again and again: `anchor + n × length`, without drift.

use jiff::Timestamp;

use super::{EXPR, civil};
use crate::{
    fault::{Fault, FaultCode},
    limits::Limits,
    time,
};

#[derive(Debug, Clone)]
pub(crate) struct Interval {
    /// Whole seconds, so that occurrences have keys that people can read.
    anchor: i64,
    seconds: i64,
    normalised: String,
}

impl Interval {
    pub(crate) fn parse(text: &str, anchor: Timestamp, limits: &Limits) -> Result<Self, Fault> {
        let bad = |message: String| Fault::new(EXPR, FaultCode::BadInterval, message);
        let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
        if trimmed.is_empty() {
            return Err(bad("the interval is empty; write `90s`, `15m`, `1h30m`, `2d` or ISO 8601 `PT15M`".to_owned()));
        }
        let length = time::parse_duration(trimmed).map_err(|why| {
            let fault = bad(why);
            if trimmed.bytes().all(|b| b.is_ascii_digit()) { fault.suggest(format!("{trimmed}s")) } else { fault }
        })?;
        if length.is_zero() {
            return Err(bad(format!(
                "`{trimmed}` is no time at all; an interval is at least {}",
                time::short(limits.min_interval)
            )));
        }
        if length < limits.min_interval {
            let least = time::short(limits.min_interval);
            return Err(Fault::new(
                EXPR,
                FaultCode::Limit,
                format!("`{trimmed}` is below the least interval, {least}"),
            )
            .suggest(least));
        }
        if length.subsec_nanos() != 0 {
            return Err(bad(format!("`{trimmed}`: an interval is a whole number of seconds")));
        }
        let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
        let anchor = civil::seconds(anchor);
        if anchor.saturating_add(seconds) >= civil::HORIZON {
            return Err(Fault::new(
                EXPR,
                FaultCode::NeverFires,
                format!("`{trimmed}` is so long that it never comes round"),
            ));
        }
        Ok(Self { anchor, seconds, normalised: time::short(length) })
    }

    /// The anchor itself is an occurrence: it comes when the anchor is `starts_at`, and has passed when it is creation.
    pub(crate) fn next_after(&self, after: i64) -> Option<i64> {
        if after < self.anchor {
            return Some(self.anchor);
        }
        let gone = (after - self.anchor) / self.seconds;
        Some(self.anchor + (gone + 1) * self.seconds).filter(|at| *at < civil::HORIZON)
    }

    pub(crate) fn seconds(&self) -> i64 {
        self.seconds
    }

    pub(crate) fn normalised(&self) -> &str {
        &self.normalised
    }

    pub(crate) fn describe(&self) -> String {
        let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
        if let Some((unit, name)) = units.into_iter().find(|(unit, _)| self.seconds % unit == 0) {
            let count = self.seconds / unit;
            return if count == 1 { format!("Every {name}") } else { format!("Every {count} {name}s") }
                + &format!(", counted from {}", civil::timestamp(self.anchor));
        }
        unreachable!("every number is a multiple of 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_never_drifts() {
        let anchor: Timestamp = "2026-01-01T00:00:07.9Z".parse().unwrap();
        let interval = Interval::parse("90s", anchor, &Limits::DEFAULT).unwrap();
        let late = civil::seconds("2036-01-01T00:00:00Z".parse().unwrap());
        let next = interval.next_after(late).unwrap();
        assert!(next > late && next <= late + 90);
        assert_eq!((next - civil::seconds(anchor)) % 90, 0);
        assert_eq!(interval.next_after(civil::seconds(anchor) - 1), Some(civil::seconds(anchor)));
    }

    #[test]
    fn lengths_that_mean_nothing_are_refused() {
        for text in
            ["", "P", "PT", "PT0S", "PT-5M", "PT5", "PT1H30", "P1H", "0.2s", "1.5s", "P1M", "15", "-5m", "5m ago"]
        {
            assert!(Interval::parse(text, Timestamp::UNIX_EPOCH, &Limits::DEFAULT).is_err(), "{text}");
        }
    }
}
