//! Whether two definitions are the same one, asked twice.
//!
//! Acceptance fills some things in from the clock: what an interval or a rule without `DTSTART` counts from, and the
//! instant that a delay (`+20m`) ends at. A client that repeats a request after a lost answer has them filled in
//! anew; that must not make another definition of it. Everything else counts.

use jiff::{Timestamp, Zoned, tz::TimeZone};
use ordinaut_schema::{schedule::ScheduleKind, task::TaskSpec, time::Zone};

/// Whether `a` and `b` differ in nothing but what was filled in from the clock when each was accepted.
pub(super) fn same_definition(a: &TaskSpec, b: &TaskSpec) -> bool {
    unclocked(a) == unclocked(b)
}

/// The spec with what the clock filled in taken out again.
fn unclocked(spec: &TaskSpec) -> TaskSpec {
    let mut spec = spec.clone();
    let anchor = spec.anchored_at;
    spec.anchored_at = Timestamp::UNIX_EPOCH;
    match spec.schedule_kind {
        // The end of a delay is kept to the millisecond, and delays are whole seconds: it then has the very
        // milliseconds of the instant of acceptance. Instants that people give have none.
        ScheduleKind::Once => {
            if let Ok(at) = spec.schedule_expr.parse::<Timestamp>()
                && at.subsec_millisecond() == anchor.subsec_millisecond()
                && at.subsec_millisecond() != 0
            {
                spec.schedule_expr = format!("+{}s", at.as_second() - anchor.as_second());
            }
        }
        ScheduleKind::Rrule => {
            let zone = Zone::find(&spec.timezone).map_or(TimeZone::UTC, |zone| zone.rules().clone());
            let defaulted = anchor.to_zoned(zone);
            let kept: Vec<_> = spec.schedule_expr.lines().filter(|line| !starts_at(line, &defaulted)).collect();
            spec.schedule_expr = kept.join("\n");
        }
        ScheduleKind::Cron | ScheduleKind::Interval | ScheduleKind::Event | ScheduleKind::Manual => {}
    }
    spec
}

/// Whether a line of a rule is the `DTSTART` that acceptance at `instant` fills in: that instant, to the second.
fn starts_at(line: &str, instant: &Zoned) -> bool {
    let Some((name, value)) = line.split_once(':') else { return false };
    if !name.split(';').next().is_some_and(|name| name.eq_ignore_ascii_case("DTSTART")) {
        return false;
    }
    let local = instant.strftime("%Y%m%dT%H%M%S").to_string();
    let utc = instant.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string();
    value.trim() == local || value.trim() == utc
}
