//! `ordinaut next --jsonl`: one request a line, one answer a line, in order.
//!
//! A request is cron (`expr`, `tz`, `after`), rrule (`dtstart`, `tz`, `rrules`, `rdates`, `exdates`, `after`), or
//! something to judge (`kind`, `input`); fields beside these are ignored. What cannot be understood is an answer with
//! `ok: false`, never the end of the stream.

use std::io::{self, BufRead, Read as _, Write};

use jiff::{Timestamp, civil::DateTime};
use ordinaut_schema::{
    fault::Fault,
    limits::Limits,
    schedule::{Schedule, ScheduleKind, ScheduleSource, find_zone},
    time::Zone,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest line that is read; the rest of a longer one is skipped.
const MAX_LINE: u64 = 1024 * 1024;

/// How many occurrences an answer has, at most.
const COUNT: usize = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    id: Value,
    expr: Option<String>,
    dtstart: Option<String>,
    tz: Option<String>,
    rrules: Vec<String>,
    rdates: Vec<String>,
    exdates: Vec<String>,
    kind: Option<String>,
    input: Option<String>,
    after: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct Answer {
    id: Value,
    ok: bool,
    next: Vec<String>,
    error: Option<String>,
}

/// Answers until the input ends. `now` stands in where a request has no `after`.
pub(super) fn answer_all(mut input: impl BufRead, out: &mut impl Write, now: Timestamp) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let too_long = line.len() as u64 == MAX_LINE && line.last() != Some(&b'\n');
        if too_long {
            skip_line(&mut input)?;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = if too_long { refused(Value::Null, "the line is longer than 1 MiB") } else { answer(&line, now) };
        serde_json::to_writer(&mut *out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        input.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn refused(id: Value, error: impl Into<String>) -> Answer {
    Answer { id, ok: false, next: Vec::new(), error: Some(error.into()) }
}

fn answer(line: &[u8], now: Timestamp) -> Answer {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            let id = serde_json::from_slice::<Value>(line).ok().map(|value| value["id"].clone());
            return refused(id.unwrap_or_default(), format!("not a request: {error}"));
        }
    };
    let id = request.id.clone();
    match judge(&request, now) {
        Ok(next) => Answer { id, ok: true, next, error: None },
        Err(error) => refused(id, error),
    }
}

fn judge(request: &Request, now: Timestamp) -> Result<Vec<String>, String> {
    let zone = request.tz.as_deref().map(find_zone).transpose().map_err(|fault| fault.to_string())?;
    let after = request.after.unwrap_or(now);
    let parse = |kind: ScheduleKind, expr: &str, zone: Option<&Zone>| {
        Schedule::parse(ScheduleSource { kind, expr, zone, anchor: now }, &Limits::DEFAULT)
            .map_err(|faults| told(&faults))
    };
    if let Some(expr) = &request.expr {
        return next(&parse(ScheduleKind::Cron, expr, zone.as_ref())?, after);
    }
    if !request.rrules.is_empty() || request.dtstart.is_some() {
        return next(&parse(ScheduleKind::Rrule, &rule_text(request)?, zone.as_ref())?, after);
    }
    let (Some(kind), Some(input)) = (request.kind.as_deref(), request.input.as_deref()) else {
        return Err(
            "not a request: it has neither `expr`, nor `dtstart` and `rrules`, nor `kind` and `input`".to_owned()
        );
    };
    match kind {
        // Whether an expression is valid does not depend on the zone.
        "cron" => next(&parse(ScheduleKind::Cron, input, Some(&zone.unwrap_or_else(Zone::utc)))?, after),
        "rrule" => next(&parse(ScheduleKind::Rrule, input, zone.as_ref())?, after),
        "interval" => next(&parse(ScheduleKind::Interval, input, zone.as_ref())?, after),
        "timezone" => find_zone(input).map(|_| Vec::new()).map_err(|fault| fault.to_string()),
        "instant" | "once" => {
            let schedule = parse(ScheduleKind::Once, input, zone.as_ref())?;
            // Judged by itself, an instant is shown even when it has passed.
            next(&schedule, request.after.unwrap_or(Timestamp::MIN))
        }
        kind => Err(format!("`{kind}` is not a kind; there are cron, rrule, timezone, instant and interval")),
    }
}

fn told(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The lines of a recurrence set that came in pieces.
fn rule_text(request: &Request) -> Result<String, String> {
    let mut lines = Vec::new();
    if let Some(start) = &request.dtstart {
        lines.push(format!("DTSTART:{}", compact(start)?));
    }
    lines.extend(request.rrules.iter().map(
        |rule| {
            if rule.contains(':') { rule.clone() } else { format!("RRULE:{rule}") }
        },
    ));
    for (name, dates) in [("RDATE", &request.rdates), ("EXDATE", &request.exdates)] {
        for date in dates {
            lines.push(format!("{name}:{}", compact(date)?));
        }
    }
    Ok(lines.join("\n"))
}

/// `2026-11-23T08:30:00` as RFC 5545 writes it; what is written so already stays.
fn compact(text: &str) -> Result<String, String> {
    if !text.contains(['-', ':']) {
        return Ok(text.to_owned());
    }
    let (local, suffix) = text.strip_suffix('Z').map_or((text, ""), |local| (local, "Z"));
    let local: DateTime = local.parse().map_err(|_| format!("`{text}` is not a date and time"))?;
    Ok(format!("{}{suffix}", local.strftime("%Y%m%dT%H%M%S")))
}

fn next(schedule: &Schedule, after: Timestamp) -> Result<Vec<String>, String> {
    let upcoming = schedule.upcoming(after, None, COUNT).map_err(|gave_up| gave_up.to_string())?;
    Ok(upcoming.iter().map(|it| it.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answers(requests: &str) -> Vec<Value> {
        let mut out = Vec::new();
        answer_all(requests.as_bytes(), &mut out, "2026-11-23T06:00:00Z".parse().unwrap()).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_form_of_request_is_answered_in_order() {
        let answers = answers(
            r#"{"id":"a","expr":"30 8 * * *","tz":"Europe/Chisinau","after":"2026-11-23T06:30:00Z","class":"ignored"}
{"id":"b","dtstart":"2026-11-23T08:30:00","tz":"Europe/Chisinau","rrules":["FREQ=DAILY;COUNT=2"],"rdates":[],"exdates":["2026-11-24T08:30:00"],"after":"2026-11-22T00:00:00Z"}

{"id":3,"kind":"timezone","input":"Europe/Chisinau"}
{"id":"d","kind":"rrule","input":"RRULE:FREQ=DAILY"}
{"id":"e","kind":"instant","input":"2020-01-01T00:00:00Z"}
nonsense
{"id":"f","kind":"interval","input":"PT0S"}
"#,
        );
        assert_eq!(answers[0]["next"][0], "2026-11-24T06:30:00Z");
        assert_eq!(answers[0]["next"].as_array().unwrap().len(), 5);
        assert_eq!(answers[1], json!({"id": "b", "ok": true, "next": ["2026-11-23T06:30:00Z"], "error": null}));
        assert_eq!(answers[2], json!({"id": 3, "ok": true, "next": [], "error": null}));
        assert!(answers[3]["error"].as_str().unwrap().contains("no DTSTART"), "{}", answers[3]);
        assert_eq!(answers[4]["next"][0], "2020-01-01T00:00:00Z");
        assert_eq!((&answers[5]["ok"], &answers[5]["id"]), (&json!(false), &Value::Null));
        assert_eq!((&answers[6]["ok"], &answers[6]["id"]), (&json!(false), &json!("f")));
    }
}
