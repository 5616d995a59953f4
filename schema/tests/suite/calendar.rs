//! The calendar oracle: every row of the corpora under `tests/time`, each decided by independent programs or a rule.

use jiff::{Timestamp, civil::DateTime};
use ordinaut_schema::{
    fault::Fault,
    limits::Limits,
    schedule::{Schedule, ScheduleKind, ScheduleSource, find_zone},
    time::Zone,
};
use serde_json::Value;

fn rows(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/time/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("{row} has no {field}"))
}

fn strings(row: &Value, field: &str) -> Vec<String> {
    row[field].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

fn parse(kind: ScheduleKind, expr: &str, zone: Option<&Zone>) -> Result<Schedule, Vec<Fault>> {
    Schedule::parse(ScheduleSource { kind, expr, zone, anchor: Timestamp::UNIX_EPOCH }, &Limits::DEFAULT)
}

/// What is wrong with the row, if anything; asked of the schedule as written, and as it would be stored.
fn check(row: &Value, schedule: Result<Schedule, Vec<Fault>>) -> Option<String> {
    let schedule = match schedule {
        Ok(schedule) => schedule,
        Err(faults) => return Some(format!("{row}\n  refused: {faults:?}")),
    };
    let stored = parse(schedule.kind(), schedule.normalised(), Some(schedule.zone()));
    check_next(row, &schedule).or_else(|| match stored {
        Ok(stored) => check_next(row, &stored),
        Err(faults) => Some(format!("{row}\n  as stored, refused: {faults:?}")),
    })
}

fn check_next(row: &Value, schedule: &Schedule) -> Option<String> {
    let wanted = strings(row, "next");
    let mut after: Timestamp = text(row, "after").parse().unwrap();
    let mut next = Vec::new();
    // Fewer than five: the set ends. The examples of the RFC list more, and say when that is all.
    let complete = row["complete"].as_bool() == Some(true);
    let count = wanted.len().max(5) + usize::from(complete);
    while next.len() < count {
        match schedule.next_after(after) {
            Ok(Some(at)) => {
                after = at;
                next.push(at.to_string());
            }
            Ok(None) => break,
            Err(gave_up) => return Some(format!("{row}\n  {gave_up}")),
        }
    }
    (next != wanted).then(|| format!("{row}\n  answered: {next:?}"))
}

fn report(wrong: &[String], of: usize) {
    assert!(
        wrong.is_empty(),
        "{} of {of} rows are wrong, such as\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
}

fn check_cron(name: &str) {
    let rows = rows(name);
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let zone = find_zone(text(row, "tz")).unwrap();
            check(row, parse(ScheduleKind::Cron, text(row, "expr"), Some(&zone)))
        })
        .collect();
    report(&wrong, rows.len());
}

fn compact(civil: &str) -> String {
    civil.parse::<DateTime>().unwrap().strftime("%Y%m%dT%H%M%S").to_string()
}

fn check_rrule(name: &str) {
    let rows = rows(name);
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let mut lines = vec![format!("DTSTART;TZID={}:{}", text(row, "tz"), compact(text(row, "dtstart")))];
            lines.extend(strings(row, "rrules").iter().map(|rule| format!("RRULE:{rule}")));
            lines.extend(strings(row, "rdates").iter().map(|date| format!("RDATE:{}", compact(date))));
            lines.extend(strings(row, "exdates").iter().map(|date| format!("EXDATE:{}", compact(date))));
            check(row, parse(ScheduleKind::Rrule, &lines.join("\n"), None))
        })
        .collect();
    report(&wrong, rows.len());
}

#[test]
fn cron_agrees_with_the_oracles() {
    check_cron("cron_oracle");
}

#[test]
fn cron_knows_the_current_zones() {
    check_cron("cron_tzdata_current");
}

#[test]
fn cron_ranges_may_wrap() {
    check_cron("cron_wrap_policy");
}

#[test]
fn rrule_agrees_with_the_oracles() {
    check_rrule("rrule_oracle");
}

#[test]
fn rrule_agrees_with_the_examples_of_rfc_5545() {
    check_rrule("rfc5545_examples");
}

fn judge(row: &Value) -> Result<Option<Schedule>, Vec<Fault>> {
    let input = text(row, "input");
    match text(row, "kind") {
        "timezone" => find_zone(input).map(|_| None).map_err(|fault| vec![fault]),
        "instant" => parse(ScheduleKind::Once, input, None).map(Some),
        "interval" => parse(ScheduleKind::Interval, input, None).map(Some),
        "cron" => parse(ScheduleKind::Cron, input, Some(&Zone::utc())).map(Some),
        "rrule" => parse(ScheduleKind::Rrule, input, None).map(Some),
        other => panic!("{other}"),
    }
}

#[test]
fn every_invalid_input_is_refused_with_the_offending_text() {
    let rows = rows("invalid_inputs");
    let accepted: Vec<String> = rows.iter().filter(|row| judge(row).is_ok()).map(ToString::to_string).collect();
    report(&accepted, rows.len());
    for row in &rows {
        let faults = judge(row).unwrap_err();
        assert!(faults.iter().all(|fault| fault.message.len() > 20), "{row}: {faults:?}");
    }
}

#[test]
fn hostile_inputs_are_refused_or_answered() {
    let after: Timestamp = "2026-11-23T11:00:00Z".parse().unwrap();
    for row in rows("adversarial") {
        let schedule = judge(&row);
        match text(&row, "expect") {
            "reject" => assert!(schedule.is_err(), "{row}"),
            "accept" => assert!(schedule.is_ok(), "{row}"),
            _ => {
                if let Ok(Some(schedule)) = schedule {
                    let next = schedule.next_after(after);
                    assert!(next.is_ok(), "{row}: {next:?}");
                    if let Some(wanted) = text(&row, "expect").strip_prefix("next 20") {
                        let next = next.unwrap().unwrap();
                        assert!(next.to_string().starts_with(&format!("20{wanted}")) || next > after, "{row}: {next}");
                    }
                }
            }
        }
    }
}
