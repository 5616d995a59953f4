//! What fuzzing begins with: the rows of the calendar oracles under `tests/time`, as inputs of the targets.

use std::{fs, path::Path};

use jiff::{Timestamp, civil::DateTime};
use serde_json::Value;

use super::targets::{ORIGIN, SPAN, ZONES};

/// Each with the target it is for.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    for name in ["cron_oracle", "cron_tzdata_current", "cron_wrap_policy"] {
        seeds.extend(rows(name).iter().map(|row| {
            let zone = Some(text(row, "tz"));
            ("cron", input(zone, after(row), text(row, "expr")))
        }));
    }
    for name in ["rrule_oracle", "rfc5545_examples"] {
        seeds.extend(rows(name).iter().map(|row| ("rrule", input(None, after(row), &lines(row)))));
    }
    for name in ["invalid_inputs", "adversarial"] {
        seeds.extend(rows(name).iter().map(|row| {
            let put = |zone, text: &str| input(zone, after(row), text);
            let text = text(row, "input");
            // The letters choose the kind, as `targets::instants` reads them.
            match self::text(row, "kind") {
                "cron" => ("cron", put(Some("UTC"), text)),
                "rrule" => ("rrule", put(None, text)),
                "instant" => ("instants", put(None, &format!("l{text}"))),
                "interval" => ("instants", put(None, &format!("i{text}"))),
                _ => ("instants", put(None, &format!("o{text}"))),
            }
        }));
    }
    seeds
}

/// The input that reads as these.
fn input(zone: Option<&str>, at: Timestamp, text: &str) -> Vec<u8> {
    let number = |name: &str| {
        let known = ZONES.iter().position(|it| *it == name);
        known.unwrap_or_else(|| name.bytes().map(usize::from).sum::<usize>() % ZONES.len())
    };
    let zone = zone.map_or(128, |name| u8::try_from(number(name)).expect("32 zones"));
    let second = (at.as_second() - ORIGIN).clamp(0, SPAN - 1).to_be_bytes();
    [&[zone], &second[3..], text.as_bytes()].concat()
}

fn rows(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in the workspace");
    let path = path.join(format!("schema/tests/time/{name}.jsonl"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("{row} has no {field}"))
}

fn after(row: &Value) -> Timestamp {
    row["after"].as_str().unwrap_or("2026-11-23T11:00:00Z").parse().expect("an instant")
}

fn lines(row: &Value) -> String {
    let list = |field: &str| row[field].as_array().into_iter().flatten().map(|it| it.as_str().expect("a text"));
    let compact = |civil: &str| civil.parse::<DateTime>().expect("a civil time").strftime("%Y%m%dT%H%M%S").to_string();
    let mut lines = vec![format!("DTSTART;TZID={}:{}", text(row, "tz"), compact(text(row, "dtstart")))];
    lines.extend(list("rrules").map(|rule| format!("RRULE:{rule}")));
    lines.extend(list("rdates").map(|date| format!("RDATE:{}", compact(date))));
    lines.extend(list("exdates").map(|date| format!("EXDATE:{}", compact(date))));
    lines.join("\n")
}
