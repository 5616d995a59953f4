//! When a task is due: one type for every kind of schedule, and one question, [`Schedule::next_after`].
//!
//! A schedule is parsed once, from kind, text, zone and anchor, and always to the same value: what is stored is
//! [`Schedule::normalised`], and parsing that again gives the same schedule. It never looks at a clock.

mod civil;
mod cron;
mod english;
mod interval;
mod once;
mod rrule;
mod zones;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    event::TopicPattern,
    fault::{Fault, FaultCode},
    limits::Limits,
    run::text_enum,
    time::{self, Zone},
};
use cron::Cron;
use interval::Interval;
use once::Once;
use rrule::RuleSet;

/// Where the faults of a schedule lie.
const EXPR: &str = "$.schedule_expr";
const ZONE: &str = "$.timezone";

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
    zone: Zone,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Cron(Box<Cron>),
    Rrule(Box<RuleSet>),
    Once(Once),
    Interval(Interval),
    Event(TopicPattern),
    Manual,
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
        let ScheduleSource { kind, expr, zone, anchor } = source;
        let alone = |fault: Fault| vec![fault];
        let utc = Zone::utc;
        let (zone, form) = match kind {
            ScheduleKind::Cron => {
                let cron = Cron::parse(expr, limits)?;
                let Some(zone) = zone else {
                    let message = "a cron expression names times of the wall clock and no zone is known: set `timezone` to an IANA name, such as `Europe/Chisinau`";
                    return Err(vec![Fault::new(ZONE, FaultCode::TimezoneRequired, message)]);
                };
                (zone.clone(), Form::Cron(Box::new(cron)))
            }
            ScheduleKind::Rrule => {
                let set = RuleSet::parse(expr, zone, anchor, limits)?;
                (set.zone().clone(), Form::Rrule(Box::new(set)))
            }
            ScheduleKind::Once => {
                let once = Once::parse(expr, zone, anchor).map_err(alone)?;
                (once.zone.clone().or_else(|| zone.cloned()).unwrap_or_else(utc), Form::Once(once))
            }
            ScheduleKind::Interval => (utc(), Form::Interval(Interval::parse(expr, anchor, limits).map_err(alone)?)),
            ScheduleKind::Event => {
                let topic =
                    TopicPattern::parse(expr).map_err(|fault| vec![Fault { path: EXPR.to_owned(), ..fault }])?;
                (utc(), Form::Event(topic))
            }
            ScheduleKind::Manual if expr.trim().is_empty() => (utc(), Form::Manual),
            ScheduleKind::Manual => {
                let message = format!("schedule_kind `manual` has no schedule_expr, and this one is `{expr}`; drop it");
                return Err(vec![Fault::new(EXPR, FaultCode::InvalidValue, message)]);
            }
        };
        Ok(Self { zone, form })
    }

    pub fn kind(&self) -> ScheduleKind {
        match &self.form {
            Form::Cron(_) => ScheduleKind::Cron,
            Form::Rrule(_) => ScheduleKind::Rrule,
            Form::Once(_) => ScheduleKind::Once,
            Form::Interval(_) => ScheduleKind::Interval,
            Form::Event(_) => ScheduleKind::Event,
            Form::Manual => ScheduleKind::Manual,
        }
    }

    /// The zone it is read in; UTC for kinds without one.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first occurrence strictly after `after`; `None` when there is none, and always for `event` and `manual`.
    ///
    /// Costs the same whatever the age of the rule.
    pub fn next_after(&self, after: Timestamp) -> Result<Option<Timestamp>, GaveUp> {
        let second = civil::seconds(after).max(civil::ORIGIN - 1);
        let next = match &self.form {
            Form::Once(once) => return Ok(Some(once.at).filter(|at| *at > after)),
            // Searching from beyond the last instant of all would find it again.
            _ if second >= civil::HORIZON => None,
            Form::Cron(cron) => cron.next_after(&self.zone, second)?,
            Form::Rrule(set) => set.next_after(second)?,
            Form::Interval(interval) => interval.next_after(second),
            Form::Event(_) | Form::Manual => None,
        };
        Ok(next.filter(|at| *at < civil::HORIZON).map(civil::timestamp))
    }

    /// The text that is stored and echoed: parsing it again with the same zone and anchor gives this schedule.
    pub fn normalised(&self) -> &str {
        match &self.form {
            Form::Cron(cron) => cron.normalised(),
            Form::Rrule(set) => set.normalised(),
            Form::Once(once) => once.normalised(),
            Form::Interval(interval) => interval.normalised(),
            Form::Event(topic) => topic.as_str(),
            Form::Manual => "",
        }
    }

    /// One plain English sentence, exact: `Every weekday at 08:30, Europe/Chisinau`.
    pub fn describe(&self) -> String {
        match &self.form {
            Form::Cron(cron) => format!("{}, {}", cron.describe(), self.zone.name()),
            Form::Rrule(set) => format!("{}, {}", set.describe(), self.zone.name()),
            Form::Once(once) => once.describe(&self.zone),
            Form::Interval(interval) => interval.describe(),
            Form::Event(topic) => format!("On every event `{}`", topic.as_str()),
            Form::Manual => "Only when asked".to_owned(),
        }
    }

    /// What an `event` schedule listens to.
    pub fn topic(&self) -> Option<&TopicPattern> {
        match &self.form {
            Form::Event(topic) => Some(topic),
            _ => None,
        }
    }

    /// How a DST change moved `occurrence`, if one did.
    pub fn shift_at(&self, occurrence: Timestamp) -> Option<DstShift> {
        let second = civil::seconds(occurrence);
        match &self.form {
            // A search that gives up here knows of no shift; it would have given up on the occurrence itself.
            Form::Cron(cron) => cron.shift_at(&self.zone, second).ok().flatten(),
            Form::Rrule(set) => set.shift_at(second).ok().flatten(),
            Form::Once(once) => once.shift,
            Form::Interval(_) | Form::Event(_) | Form::Manual => None,
        }
    }

    /// The length of an `interval`, for limits that depend on what the task does.
    pub fn interval(&self) -> Option<Duration> {
        match &self.form {
            Form::Interval(interval) => u64::try_from(interval.seconds()).ok().map(Duration::from_secs),
            _ => None,
        }
    }
}

/// Finds a zone by exactly its IANA name, in any case.
///
/// # Errors
/// `unknown_timezone` at `$.timezone`, with the nearest name where one is near.
pub fn find_zone(name: &str) -> Result<Zone, Fault> {
    zones::find(name, ZONE)
}

/// The name that the database prefers to an old one: `Asia/Calcutta` is now `Asia/Kolkata`.
pub fn newer_zone_name(zone: &Zone) -> Option<&str> {
    zones::newer_name(zone)
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
        let mut upcoming = Vec::new();
        let mut after = after;
        while upcoming.len() < count {
            let Some(at) = self.next_after(after)?.filter(|at| until.is_none_or(|until| *at < until)) else { break };
            upcoming.push(Upcoming { at, local: time::with_offset(at, &self.zone), dst: self.shift_at(at) });
            after = at;
        }
        Ok(upcoming)
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
    let share = (u128::from(digest) * bound.as_nanos()) >> 56;
    Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
}
