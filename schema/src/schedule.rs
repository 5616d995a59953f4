//! When a task is due: one type for every kind of schedule, and one question, [`Schedule::next_after`].
//!
//! A schedule is parsed once, from kind, text, zone and anchor, and always to the same value: what is stored is
//! [`Schedule::normalised`], and parsing that again gives the same schedule. It never looks at a clock.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::{event::TopicPattern, fault::Fault, limits::Limits, run::text_enum, time::Zone};

text_enum! {
    /// `schedule_kind`.
    ScheduleKind {
        Cron = "cron",
        Rrule = "rrule",
        Once = "once",
        Interval = "interval",
        Event = "event",
        Manual = "manual",
    }
}

/// The raw text of a schedule and what it is read against.
#[derive(Debug, Clone, Copy)]
pub struct ScheduleSource<'a> {
    pub kind: ScheduleKind,
    /// `schedule_expr`; empty for `manual`.
    pub expr: &'a str,
    /// The zone of civil times; `None` when nobody named one, which some kinds refuse.
    pub zone: Option<&'a Zone>,
    /// The instant a rule without `DTSTART`, a delay (`+20m`) and an interval count from: `starts_at`, else the
    /// instant of acceptance. Stored with the task and never changed by parsing again.
    pub anchor: Timestamp,
}

/// A schedule that is valid and may fire.
#[derive(Debug, Clone)]
pub struct Schedule {
    // helper A: private fields
}

/// A rule was searched as far as its budget allows without finding an occurrence or an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the search for the next occurrence gave up after {steps} steps")]
pub struct GaveUp {
    pub steps: u32,
}

impl Schedule {
    /// Parses and normalises.
    ///
    /// # Errors
    /// Faults with paths `$.schedule_expr` and `$.timezone`. That a `once` instant has passed is not judged here:
    /// ask [`Schedule::next_after`] with the present instant.
    pub fn parse(source: ScheduleSource<'_>, limits: &Limits) -> Result<Self, Vec<Fault>> {
        let _ = (source, limits);
        todo!("helper A")
    }

    pub fn kind(&self) -> ScheduleKind {
        todo!("helper A")
    }

    /// The zone it is read in; UTC for kinds without one.
    pub fn zone(&self) -> &Zone {
        todo!("helper A")
    }

    /// The first occurrence strictly after `after`; `None` when there is none, and always for `event` and `manual`.
    ///
    /// Costs the same whatever the age of the rule.
    pub fn next_after(&self, after: Timestamp) -> Result<Option<Timestamp>, GaveUp> {
        let _ = after;
        todo!("helper A")
    }

    /// The text that is stored and echoed: parsing it again with the same zone and anchor gives this schedule.
    pub fn normalised(&self) -> &str {
        todo!("helper A")
    }

    /// One plain English sentence, exact: `Every weekday at 08:30, Europe/Chisinau`.
    pub fn describe(&self) -> String {
        todo!("helper A")
    }

    /// What an `event` schedule listens to.
    pub fn topic(&self) -> Option<&TopicPattern> {
        todo!("helper A")
    }

    /// How a DST change moved `occurrence`, if one did.
    pub fn shift_at(&self, occurrence: Timestamp) -> Option<DstShift> {
        let _ = occurrence;
        todo!("helper A")
    }
}

/// How daylight saving moved an occurrence from where the clock on the wall would have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DstShift {
    /// The civil time does not exist that day; shifted forward by the gap.
    Gap,
    /// The civil time exists twice that day; the first pass was taken.
    Fold,
}

/// One line of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upcoming {
    pub at: Timestamp,
    /// RFC 3339 with the zone's offset.
    pub local: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<DstShift>,
}

impl Schedule {
    /// Up to `count` occurrences after `after` and before `until`, with their DST shifts.
    pub fn upcoming(&self, after: Timestamp, until: Option<Timestamp>, count: usize) -> Result<Vec<Upcoming>, GaveUp> {
        let _ = (after, until, count);
        todo!("helper A")
    }
}

text_enum! {
    /// What to do with occurrences noticed late.
    Misfire {
        /// One run for the latest of them; the earlier ones are skipped.
        RunLatest = "run_latest",
        Skip = "skip",
        /// One run each, up to `misfire_limit`.
        RunAll = "run_all",
    }
}

text_enum! {
    /// What to do when the last run is not over yet.
    Overlap {
        Skip = "skip",
        Queue = "queue",
        Allow = "allow",
        CancelRunning = "cancel_running",
    }
}

impl Overlap {
    /// The default: clocks repeat, so a late run yields to the next occurrence; events and requests do not.
    pub const fn default_for(kind: ScheduleKind) -> Self {
        match kind {
            ScheduleKind::Cron | ScheduleKind::Rrule | ScheduleKind::Once | ScheduleKind::Interval => Self::Skip,
            ScheduleKind::Event | ScheduleKind::Manual => Self::Queue,
        }
    }
}

/// The jitter of one run: derived from its id, so it never moves; below `bound` and at most half the gap.
pub fn jitter_offset(run: crate::id::RunId, bound: Duration, gap: Option<Duration>) -> Duration {
    let bound = gap.map_or(bound, |gap| bound.min(gap / 2));
    let bytes = run.uuid().into_bytes();
    let digest = u64::from_be_bytes([0, bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]]);
    let share = u128::from(digest) * bound.as_nanos() >> 56;
    Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
}
