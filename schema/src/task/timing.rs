//! When a task is due: the fields of its schedule, read, zoned, and judged against the present.

use std::time::Duration;

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime},
    tz::TimeZone,
};

use crate::{
    fault::{Fault, FaultCode},
    fields::Fields,
    schedule::{GaveUp, Schedule, ScheduleKind, ScheduleSource, find_zone},
    time::{Zone, short, tomorrow, with_offset},
};

use super::{Acceptance, TaskSpec, ZoneSource};

/// The schedule of a definition and what bounds it.
pub(super) struct Timing {
    pub(super) kind: ScheduleKind,
    /// `None` after a fault.
    pub(super) schedule: Option<Schedule>,
    pub(super) zone: Zone,
    pub(super) zone_source: ZoneSource,
    pub(super) anchor: Timestamp,
    pub(super) starts_at: Option<Timestamp>,
    pub(super) ends_at: Option<Timestamp>,
    pub(super) event_filter: Option<String>,
}

pub(super) fn read(fields: &mut Fields<'_, '_>, against: Acceptance<'_>, warnings: &mut Vec<String>) -> Timing {
    let found = fields.faults.as_slice().len();
    let kind = kind(fields);
    let (zone, zone_source) = zone(fields, against);
    // A zone that is wrong is one fault: it must not make a second, that there is none.
    let usable = zone.clone().or_else(|| fields.has("timezone").then(Zone::utc));
    let mut read = |name| instant(fields, name, usable.as_ref(), against.now);
    let (starts_at, ends_at, anchored_at) = (read("starts_at"), read("ends_at"), read("anchored_at"));
    let anchor = anchored_at.or(starts_at).unwrap_or(against.now);
    let anchor = Timestamp::from_second(anchor.as_second()).unwrap_or(anchor);
    let event_filter = fields.text("event_filter").map(str::to_owned);
    if let (Some(_), Some(kind)) = (&event_filter, kind.filter(|kind| *kind != ScheduleKind::Event)) {
        fields.fault("event_filter", FaultCode::InvalidValue, format!("a {kind} schedule has no events to filter"));
    }
    let expr = expression(fields, kind);
    let schedule = kind.zip(expr).and_then(|(kind, expr)| {
        let source = ScheduleSource { kind, expr, zone: usable.as_ref(), anchor };
        Schedule::parse(source, against.limits).map_err(|faults| fields.faults.extend(faults)).ok()
    });
    let (zone, zone_source) = used(schedule.as_ref(), usable, zone_source);
    judge_bounds(fields, starts_at, ends_at, against.now, &zone);
    let timing = Timing {
        kind: kind.unwrap_or(ScheduleKind::Manual),
        schedule,
        zone,
        zone_source,
        anchor,
        starts_at,
        ends_at,
        event_filter,
    };
    if fields.faults.as_slice().len() == found {
        judge_first(fields, &timing, against.now);
        if starts_at.is_some_and(|at| at < against.now)
            && anchored_at.is_none()
            && timing.kind != ScheduleKind::Interval
        {
            warnings.push("$.starts_at: it has gone by, so it holds nothing back".to_owned());
        }
    }
    timing
}

fn kind(fields: &mut Fields<'_, '_>) -> Option<ScheduleKind> {
    fields.missing("schedule_kind", "write cron, rrule, once, interval, event or manual");
    // The original's word for an event.
    if fields.get("schedule_kind").and_then(serde_json::Value::as_str) == Some("condition") {
        return Some(ScheduleKind::Event);
    }
    fields.choice("schedule_kind", ScheduleKind::ALL, ScheduleKind::as_str)
}

fn expression<'a>(fields: &mut Fields<'a, '_>, kind: Option<ScheduleKind>) -> Option<&'a str> {
    let what = match kind {
        Some(ScheduleKind::Manual) => return Some(fields.text("schedule_expr").unwrap_or_default()),
        Some(ScheduleKind::Cron) => "five fields, such as `30 8 * * MON-FRI`",
        Some(ScheduleKind::Rrule) => "an RFC 5545 rule, such as `FREQ=DAILY;BYHOUR=8;BYMINUTE=0`",
        Some(ScheduleKind::Once) => "an instant, such as `2027-01-31T09:00`, or a delay, such as `+20m`",
        Some(ScheduleKind::Interval) => "a duration, such as `15m`",
        Some(ScheduleKind::Event) => "the topic to listen to, such as `user.email.*`",
        None => return fields.text("schedule_expr").and(None),
    };
    fields.missing("schedule_expr", what);
    fields.text("schedule_expr")
}

fn zone(fields: &mut Fields<'_, '_>, against: Acceptance<'_>) -> (Option<Zone>, ZoneSource) {
    if let Some(name) = fields.text("timezone") {
        match find_zone(name) {
            Ok(zone) => return (Some(zone), ZoneSource::Task),
            Err(fault) => fields.faults.push(Fault { path: fields.at("timezone"), ..fault }),
        }
        return (None, ZoneSource::Task);
    }
    match against.default_zone {
        Some((zone, source)) => (Some(zone.clone()), source),
        None => (None, ZoneSource::NotNeeded),
    }
}

/// The zone that counts in the end: a rule or an instant may name its own.
fn used(schedule: Option<&Schedule>, zone: Option<Zone>, source: ZoneSource) -> (Zone, ZoneSource) {
    let own = schedule
        .filter(|schedule| matches!(schedule.kind(), ScheduleKind::Rrule | ScheduleKind::Once))
        .map(Schedule::zone);
    match (own, zone) {
        (Some(own), Some(zone)) if *own == zone => (zone, source),
        (Some(own), None) if *own == Zone::utc() => (Zone::utc(), source),
        (Some(own), _) => (own.clone(), ZoneSource::Task),
        (None, zone) => (zone.unwrap_or_else(Zone::utc), source),
    }
}

/// An ISO 8601 instant; a civil time is read in the task's zone.
fn instant(fields: &mut Fields<'_, '_>, name: &'static str, zone: Option<&Zone>, now: Timestamp) -> Option<Timestamp> {
    let text = fields.text(name)?.trim();
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let Ok(civil) = text.parse::<DateTime>() else {
        let (with_offset, civil) = tomorrow(now, zone.unwrap_or(&Zone::utc()));
        let message = format!("`{text}` is no instant; write one such as `{civil}` or `{with_offset}`");
        fields.fault(name, FaultCode::BadInstant, message);
        return None;
    };
    let Some(zone) = zone else {
        let message =
            format!("`{text}` has no offset and the task no timezone; add `timezone`, or an offset such as `+02:00`");
        fields.fault(name, FaultCode::TimezoneRequired, message);
        return None;
    };
    let rules: TimeZone = zone.rules().clone();
    let at = rules.to_ambiguous_timestamp(civil).compatible();
    if at.is_err() {
        fields.fault(name, FaultCode::BadInstant, format!("`{text}` is outside the calendar"));
    }
    at.ok()
}

fn judge_bounds(
    fields: &mut Fields<'_, '_>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    now: Timestamp,
    zone: &Zone,
) {
    let Some(ends_at) = ends_at else { return };
    if ends_at <= now {
        let message = format!("`ends_at` {} has gone by: it is now {}", with_offset(ends_at, zone), present(now, zone));
        fields.fault("ends_at", FaultCode::InThePast, message);
    } else if starts_at.is_some_and(|starts_at| ends_at <= starts_at) {
        fields.fault("ends_at", FaultCode::InvalidValue, "`ends_at` must be later than `starts_at`");
    }
}

/// The present instant, whole seconds, with offset: what a model needs to do better.
fn present(now: Timestamp, zone: &Zone) -> String {
    with_offset(Timestamp::from_second(now.as_second()).unwrap_or(now), zone)
}

/// Refuses a schedule without an occurrence to come.
fn judge_first(fields: &mut Fields<'_, '_>, timing: &Timing, now: Timestamp) {
    let Some(schedule) = &timing.schedule else { return };
    if matches!(timing.kind, ScheduleKind::Event | ScheduleKind::Manual) {
        return;
    }
    let now_text = present(now, &timing.zone);
    // An occurrence at `starts_at` itself counts.
    let before_start = timing.starts_at.and_then(|at| at.checked_sub(Duration::from_nanos(1)).ok());
    match schedule.next_after(before_start.map_or(now, |at| at.max(now))) {
        Ok(Some(first)) => {
            if let Some(ends_at) = timing.ends_at.filter(|ends_at| first >= *ends_at) {
                let message = format!(
                    "it never fires: the first occurrence is {}, and `ends_at` is {}",
                    with_offset(first, &timing.zone),
                    with_offset(ends_at, &timing.zone)
                );
                fields.fault("ends_at", FaultCode::NeverFires, message);
            }
        }
        Ok(None) if timing.kind == ScheduleKind::Once => {
            // What comes after the first instant of all is the only one there is, or is that first one.
            let at = schedule.next_after(Timestamp::MIN).ok().flatten().unwrap_or(Timestamp::MIN);
            fields.faults.push(gone(fields.at("schedule_expr"), at, now, &timing.zone));
        }
        Ok(None) => {
            let message = format!("it never fires: no occurrence is left after {now_text}");
            fields.fault("schedule_expr", FaultCode::NeverFires, message);
        }
        Err(GaveUp { steps }) => {
            let message = format!("it never fires: no occurrence was found within {steps} steps after {now_text}");
            fields.fault("schedule_expr", FaultCode::NeverFires, message);
        }
    }
}

/// The fault of a `once` instant that has gone by. It names the instants that may have been meant: the same time of day
/// to come, and the same date to come; where only the day or only the year was mistaken, one to put in its place.
fn gone(path: String, at: Timestamp, now: Timestamp, zone: &Zone) -> Fault {
    let rules = zone.rules();
    let (then, present) = (rules.to_datetime(at), rules.to_datetime(now));
    let to_come = |date: Date| {
        let at = rules.to_ambiguous_timestamp(date.to_datetime(then.time())).compatible().ok()?;
        (at > now).then(|| with_offset(at, zone))
    };
    let days = [present.date(), present.date().saturating_add(1.day())];
    let years = present.year()..=present.year().saturating_add(8);
    let time = days.into_iter().find_map(to_come);
    let date = years.filter_map(|year| Date::new(year, then.month(), then.day()).ok()).find_map(to_come);
    let message = format!(
        "`{}` has gone by: it is now {}; name a later instant",
        with_offset(at, zone),
        self::present(now, zone)
    );
    let (Some(time), Some(date)) = (time, date) else { return Fault::new(path, FaultCode::InThePast, message) };
    let hour = then.strftime("%H:%M");
    if now.duration_since(at).unsigned_abs() < A_WEEK || time == date {
        let message = format!("{message}: {hour} comes next at `{time}`");
        return Fault::new(path, FaultCode::InThePast, message).suggest(time);
    }
    let day = then.strftime("%-d %B");
    let message = format!("{message}: {hour} comes next at `{time}`, {day} at `{date}`");
    Fault::new(path, FaultCode::InThePast, message)
}

const A_WEEK: Duration = Duration::from_hours(7 * 24);

const DAY: Duration = Duration::from_hours(24);

/// Occurrences looked at when the least gap is asked for.
const SAMPLE: usize = 20;

/// Refuses a schedule whose occurrences come faster than `least`, which `costly` steps ask for.
pub(super) fn judge_interval(fields: &mut Fields<'_, '_>, timing: &Timing, against: Acceptance<'_>, costly: &str) {
    let least = against.limits.min_costly_interval;
    if let Some(gap) = least_gap(timing, against).filter(|gap| *gap < least) {
        let message =
            format!("it fires every {}, and a task that uses `{costly}` at most every {}", short(gap), short(least));
        fields.fault("schedule_expr", FaultCode::Limit, message);
    }
}

/// The least time between two occurrences that come next; `None` where there are not two.
fn least_gap(timing: &Timing, against: Acceptance<'_>) -> Option<Duration> {
    let upcoming = timing.schedule.as_ref()?.upcoming(against.now, timing.ends_at, SAMPLE).ok()?;
    upcoming.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at).unsigned_abs()).min()
}

/// Says that a `dedupe_key`, which is the same for every occurrence of a clock, leaves out some of them.
pub(super) fn warn_of_duplicates(timing: &Timing, policies: &TaskSpec, against: Acceptance<'_>) -> Option<String> {
    policies.dedupe_key.as_ref()?;
    let (window, gap) = (policies.dedupe_window(), least_gap(timing, against)?);
    // A day is an hour shorter where the clock goes forward.
    let is_shorter = timing.kind != ScheduleKind::Interval && gap >= DAY;
    let gap = gap.saturating_sub(Duration::from_hours(u64::from(is_shorter)));
    (window > gap).then(|| {
        format!(
            "$.dedupe_window: occurrences are as little as {} apart and have the same `dedupe_key`, so for {} after \
             a run the others are skipped as duplicates",
            short(gap),
            short(window)
        )
    })
}
