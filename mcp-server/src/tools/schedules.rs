//! `preview_schedule`: what is coming, before anything is stored; it needs no service.

use jiff::Timestamp;
use ordinaut_schema::{
    fault::Faults,
    limits::Limits,
    schedule::{Schedule, ScheduleKind, ScheduleSource, find_zone, newer_zone_name},
    task::ZoneSource,
    time::Zone,
};
use serde_json::{Value, json};

use crate::{
    error::{Refusal, ToolError},
    principal::Scope,
};

use super::{
    Adding, Kind, Spec, add_tool,
    answer::Answer,
    call::Call,
    outputs::{self, always},
    schema::{arguments, count, text, word},
    show::{Next, because},
    zones::{self, Unusable},
};

/// How many occurrences are shown unless it says otherwise, and at most.
const SHOWN: u32 = 5;
const MOST: u32 = 50;

pub(super) fn add(group: &mut Adding<'_>) {
    add_tool(group, spec(), preview_schedule);
}

fn spec() -> Spec {
    let kinds: Vec<&str> = ScheduleKind::ALL.iter().map(|kind| kind.as_str()).collect();
    Spec {
        name: "preview_schedule",
        title: "Preview a schedule",
        description: "Checks a schedule without storing anything: its normalised form, a plain sentence, the next occurrences in local time and UTC, and which of them a clock change moves.",
        scope: Scope::TaskRead,
        kind: Kind::Reads,
        input: arguments(
            &["schedule_kind"],
            [
                ("schedule_kind", word("How schedule_expr is read", &kinds)),
                (
                    "schedule_expr",
                    text(
                        "cron: five fields. rrule: RFC 5545. once: ISO time or +20m. interval: 15m. event: a topic",
                        "30 8 * * MON-FRI",
                    ),
                ),
                ("timezone", text("IANA zone", "Europe/Chisinau")),
                ("count", count("How many occurrences", (1, MOST), SHOWN)),
                ("after", text("Occurrences after this instant instead of now", "2027-03-01T00:00")),
            ],
        ),
        output: outputs::answer([
            always("schedule", outputs::schedule()),
            always("occurrences", outputs::list("What would run", outputs::occurrence())),
            outputs::warnings(),
        ]),
    }
}

async fn preview_schedule(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let kinds = given.choices("schedule_kind", ScheduleKind::ALL, ScheduleKind::as_str);
    if kinds.is_empty() {
        given.missing("schedule_kind", "cron, rrule, once, interval, event or manual");
    }
    let expr = given.text("schedule_expr").unwrap_or_default();
    let timezone = given.text("timezone");
    let count = given.count("count", 1..=MOST).unwrap_or(SHOWN) as usize;
    let after = given.instant("after");
    given.finish("preview_schedule")?;
    let kind = *kinds.first().expect("a call without a kind was refused");

    let desk = call.desk_if_up().await;
    let default_zone = desk.map_or_else(|| call.machine_zone(), |desk| desk.default_zone);
    let now = call.clock().moment().now;
    let (zone, source) = match timezone {
        Some(name) => (Some(find_zone(&name).map_err(|fault| refused(fault.into(), None))?), ZoneSource::Task),
        None => default_zone.map_or((None, ZoneSource::NotNeeded), |(zone, source)| (Some(zone), source)),
    };
    let read_after = |zone: Option<&Zone>| {
        let read_in = zone.cloned().unwrap_or_else(Zone::utc);
        after.as_ref().map_or(Ok(now), |after| after.read(&read_in, now))
    };
    // What is no instant is none in any zone: no person is asked for its sake.
    read_after(zone.as_ref())?;
    // Counted from the whole second, as acceptance does.
    let anchor = super::call::whole_second(now);
    let judge = |said: Option<&Zone>| {
        let source = ScheduleSource { kind, expr: &expr, zone: said, anchor };
        Schedule::parse(source, &Limits::DEFAULT).map_err(|faults| faults.into_iter().collect())
    };
    let (schedule, said) =
        match zones::judged(&call, "This schedule", judge(zone.as_ref()), |said| judge(Some(said))).await {
            Ok(judged) => judged,
            Err(Unusable::Asking(form)) => return Ok(form),
            Err(Unusable::Faulty { faults, zone }) => return Err(refused(faults, zone)),
        };
    let (zone, source) = said.map_or((zone, source), |said| (Some(said), ZoneSource::Person));
    let after = read_after(zone.as_ref())?;
    Ok(shown(&schedule, &zone_used(&schedule, zone, source), after, count))
}

/// The zone that counts in the end, and why: a rule or an instant may name its own.
fn zone_used(schedule: &Schedule, zone: Option<Zone>, source: ZoneSource) -> (Zone, ZoneSource) {
    match (schedule.kind(), zone) {
        (ScheduleKind::Rrule | ScheduleKind::Once, Some(zone)) if *schedule.zone() != zone => {
            (schedule.zone().clone(), ZoneSource::Task)
        }
        (_, Some(zone)) => (zone, source),
        (_, None) => (schedule.zone().clone(), ZoneSource::NotNeeded),
    }
}

fn shown(schedule: &Schedule, (zone, source): &(Zone, ZoneSource), after: Timestamp, count: usize) -> Answer {
    let mut warnings = Vec::new();
    let upcoming = schedule.upcoming(after, None, count).unwrap_or_else(|gave_up| {
        warnings.push(format!("{gave_up}: a task would be refused with it."));
        Vec::new()
    });
    let has_clock = !matches!(schedule.kind(), ScheduleKind::Event | ScheduleKind::Manual);
    if upcoming.is_empty() && has_clock && warnings.is_empty() {
        warnings.push("No occurrence is left: a task would be refused with it.".to_owned());
    }
    if let Some(newer) = newer_zone_name(zone) {
        warnings.push(format!("{} is an old name of {newer}; both mean the same.", zone.name()));
    }
    // Interval, event and manual schedules are instants alone; they are shown in the zone all the same.
    let next: Vec<Next> = upcoming.iter().map(|upcoming| Next::shown_in(upcoming, zone)).collect();
    Answer::new()
        .with(
            "schedule",
            json!({
                "kind": schedule.kind(),
                "expr": schedule.normalised(),
                "sentence": schedule.describe(),
                "timezone": zone.name(),
                "timezone_source": source,
                "timezone_because": because(*source),
            }),
        )
        .with("occurrences", next.iter().map(|next| next.json(zone)).collect::<Vec<Value>>())
        .line(format!("{}.", schedule.describe()))
        .line(format!("schedule_expr: {}", schedule.normalised()))
        .line(format!("Zone {}: {}.", zone.name(), because(*source)))
        .lines(next.iter().map(|next| format!("- {}", next.line(zone))))
        .warn(&warnings)
}

fn refused(faults: Faults, zone: Option<String>) -> ToolError {
    let next = zone.map_or_else(
        || "Mend it and call again.".to_owned(),
        |zone| format!("{zone} Mend it and call again with `timezone`."),
    );
    Refusal::new("invalid_schedule", "the schedule cannot be used", next).with_faults(faults).into()
}
