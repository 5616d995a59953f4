//! Tasks and runs as answers show them: what comes next, what happened, in local time with offset.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ordinaut_schema::{
    id::RunId,
    limits::Limits,
    planning::Stretch,
    run::{RunState, SkipReason},
    schedule::{DstShift, Schedule, ScheduleKind, Upcoming},
    task::{TaskSpec, TaskState, ZoneSource},
    time::{Zone, with_offset},
};
use ordinaut_store::{runs::RunRecord, tasks::Standing};
use serde_json::{Map, Value, json};

use super::{call::whole_second, untrusted};

/// How far ahead and how many occurrences the runs per day are reckoned from.
const RATE_SAMPLE: usize = 200;

/// More runs a day than that are worth a warning.
const MANY_A_DAY: f64 = 100.0;

/// An instant with the zone's offset, whole seconds.
pub(super) fn local(at: Timestamp, zone: &Zone) -> String {
    with_offset(whole_second(at), zone)
}

/// An instant for people: `Mon 2026-11-23 08:30:00 +02:00`, said as RFC 3339 with its weekday.
fn weekday(at: Timestamp, zone: &Zone) -> String {
    format!("{} {}", zone.rules().to_datetime(at).strftime("%a"), local(at, zone))
}

/// What a stored task says of its schedule.
#[derive(Debug)]
pub(super) struct Timing {
    pub(super) zone: Zone,
    schedule: Option<Schedule>,
    ends_at: Option<Timestamp>,
    max_runs: Option<u32>,
}

impl Timing {
    pub(super) fn of(spec: &TaskSpec) -> Self {
        Self {
            zone: Zone::find(&spec.timezone).unwrap_or_else(Zone::utc),
            // A row of a newer version may not be readable; everything else about the task still is.
            schedule: spec.schedule(&Limits::DEFAULT).ok(),
            ends_at: spec.ends_at,
            max_runs: spec.max_runs,
        }
    }

    pub(super) fn sentence(&self) -> String {
        self.schedule.as_ref().map_or_else(|| "A schedule that this version cannot read".to_owned(), Schedule::describe)
    }

    /// The occurrences that will run, as far as can be known: pauses, snoozes and ends taken in.
    pub(super) fn next(&self, task: &Standing, count: usize) -> Vec<Next> {
        let (Some(schedule), Some(first)) = (&self.schedule, task.next_occurrence_at) else { return Vec::new() };
        let from = match (task.state, task.resume_at) {
            (TaskState::Active, _) => Timestamp::MIN,
            (TaskState::Paused, Some(resume_at)) => resume_at,
            (TaskState::Paused, None) | (TaskState::Ended | TaskState::Cancelled, _) => return Vec::new(),
        };
        let left = self.max_runs.map_or(u64::MAX, |max| u64::from(max).saturating_sub(task.runs_planned));
        let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        let before = first.checked_sub(std::time::Duration::from_nanos(1)).unwrap_or(first);
        let after = before.max(from.checked_sub(std::time::Duration::from_nanos(1)).unwrap_or(Timestamp::MIN));
        let skipped = task.skip_next as usize;
        let Ok(mut upcoming) = schedule.upcoming(after, self.ends_at, count.saturating_add(skipped)) else {
            return Vec::new();
        };
        let Some(until) = task.snoozed_until else {
            upcoming.drain(..skipped.min(upcoming.len()));
            return upcoming.into_iter().map(|it| Next::shown_in(&it, &self.zone)).collect();
        };
        // The first occurrence waits for the end of the snooze and those between are skipped; occurrences to skip are
        // counted from the first one all the same.
        let mut next: Vec<Next> = Vec::new();
        if let Some(first) = upcoming.first().filter(|it| skipped == 0 && it.at <= until) {
            next.push(Next { due_at: (first.at < until).then_some(until), ..Next::shown_in(first, &self.zone) });
        }
        let last_skipped = upcoming.iter().take(skipped).next_back().map_or(after, |it| it.at);
        let rest =
            schedule.upcoming(until.max(after).max(last_skipped), self.ends_at, count.saturating_sub(next.len()));
        next.extend(rest.unwrap_or_default().into_iter().map(|it| Next::shown_in(&it, &self.zone)));
        next
    }

    /// The first of the occurrences that `skip` passes over.
    pub(super) fn skipped(&self, task: &Standing, count: usize) -> Vec<Next> {
        let count = count.min(task.skip_next as usize);
        let (Some(schedule), Some(first)) = (&self.schedule, task.next_occurrence_at) else { return Vec::new() };
        let before = first.checked_sub(std::time::Duration::from_nanos(1)).unwrap_or(first);
        let upcoming = schedule.upcoming(before, self.ends_at, count).unwrap_or_default();
        upcoming.iter().map(|it| Next::shown_in(it, &self.zone)).collect()
    }

    /// Runs a day, reckoned from the occurrences after `now`; `None` where that says nothing.
    pub(super) fn runs_per_day(&self, spec: &TaskSpec, now: Timestamp) -> Option<f64> {
        let schedule = self.schedule.as_ref()?;
        if matches!(spec.schedule_kind, ScheduleKind::Once | ScheduleKind::Event | ScheduleKind::Manual) {
            return None;
        }
        let from = spec.starts_at.map_or(now, |start| start.max(now));
        let upcoming = schedule.upcoming(from, spec.ends_at, RATE_SAMPLE).ok()?;
        let (first, last) = (upcoming.first()?, upcoming.last()?);
        let days = last.at.duration_since(first.at).as_secs_f64() / 86_400.0;
        let gaps = u32::try_from(upcoming.len() - 1).unwrap_or(u32::MAX);
        (gaps > 0 && days > 0.0).then(|| (f64::from(gaps) / days * 100.0).round() / 100.0)
    }
}

/// An occurrence to come.
#[derive(Debug, Clone)]
pub(super) struct Next {
    at: Timestamp,
    pub(super) local: String,
    dst: Option<DstShift>,
    /// Later than itself, while snoozed.
    due_at: Option<Timestamp>,
}

impl Next {
    /// The occurrence in that zone, whatever the schedule's own is.
    pub(super) fn shown_in(upcoming: &Upcoming, zone: &Zone) -> Self {
        Self { at: upcoming.at, local: with_offset(upcoming.at, zone), dst: upcoming.dst, due_at: None }
    }

    pub(super) fn json(&self, zone: &Zone) -> Value {
        let mut fields =
            Map::from_iter([("local".to_owned(), json!(self.local)), ("utc".to_owned(), json!(self.at.to_string()))]);
        if let Some(dst) = self.dst {
            fields.insert("dst".to_owned(), json!(dst));
            fields.insert("warning".to_owned(), json!(dst_warning(dst)));
        }
        if let Some(due_at) = self.due_at {
            fields.insert("snoozed_until".to_owned(), json!(local(due_at, zone)));
        }
        Value::Object(fields)
    }

    pub(super) fn line(&self, zone: &Zone) -> String {
        let mut text = format!("{} ({})", weekday(self.at, zone), self.at);
        if let Some(dst) = self.dst {
            text.push_str(", ");
            text.push_str(dst_warning(dst));
        }
        if let Some(due_at) = self.due_at {
            text.push_str(", snoozed until ");
            text.push_str(&local(due_at, zone));
        }
        text
    }
}

const fn dst_warning(dst: DstShift) -> &'static str {
    match dst {
        DstShift::Gap => "that local time does not exist on that day (clocks go forward): moved forward by the gap",
        DstShift::Fold => "that local time comes twice on that day (clocks go back): the first one counts",
    }
}

/// Why a zone was used.
pub(super) const fn because(source: ZoneSource) -> &'static str {
    match source {
        ZoneSource::Task => "the definition names it",
        ZoneSource::Agent => "it is this agent's zone",
        ZoneSource::Machine => "it is this machine's zone",
        ZoneSource::Configuration => "it is the configured default, ORDINAUT_TIMEZONE",
        ZoneSource::Person => "the person said so when asked",
        ZoneSource::NotNeeded => "the schedule needs none",
    }
}

/// The warning about a schedule that fires very often.
pub(super) fn many_a_day(rate: Option<f64>) -> Option<String> {
    let rate = rate.filter(|rate| *rate > MANY_A_DAY)?;
    Some(format!("It will run about {rate:.0} times a day. If that is not meant, change the schedule."))
}

/// What a task is at the moment.
pub(super) fn standing(task: &Standing, zone: &Zone) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        ("id".to_owned(), json!(task.id)),
        ("title".to_owned(), json!(task.title)),
        ("state".to_owned(), json!(task.state)),
        ("revision".to_owned(), json!(task.revision)),
    ]);
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("paused_because", task.paused_because.as_deref().map(|why| json!(untrusted::text(why))));
    put("resume_at", task.resume_at.map(|at| json!(local(at, zone))));
    put("snoozed_until", task.snoozed_until.map(|at| json!(local(at, zone))));
    put("skip_next", (task.skip_next > 0).then(|| json!(task.skip_next)));
    put("failures_in_row", (task.failures_in_row > 0).then(|| json!(task.failures_in_row)));
    fields
}

/// What stands in the way of a task, on one line; empty for an active one.
pub(super) fn standing_line(task: &Standing, zone: &Zone) -> String {
    let mut parts = Vec::new();
    match task.state {
        TaskState::Active => {}
        TaskState::Paused => {
            let until =
                task.resume_at.map_or_else(|| "until resumed".to_owned(), |at| format!("until {}", local(at, zone)));
            let why =
                task.paused_because.as_deref().map_or_else(String::new, |why| format!(" ({})", untrusted::text(why)));
            parts.push(format!("Paused {until}{why}: occurrences pass as skipped."));
        }
        TaskState::Ended => parts.push("Ended: no occurrence is left.".to_owned()),
        TaskState::Cancelled => parts.push("Cancelled for good; its history is kept.".to_owned()),
    }
    if let Some(until) = task.snoozed_until {
        parts.push(format!("Snoozed until {}.", local(until, zone)));
    }
    if task.skip_next > 0 {
        parts.push(format!("The next {} will be skipped.", plural(u64::from(task.skip_next), "occurrence")));
    }
    parts.join(" ")
}

/// A run in a list: what happened, without foreign text but for its error.
pub(super) fn run_summary(run: &RunRecord, zone: &Zone) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        ("id".to_owned(), json!(run.id)),
        ("task".to_owned(), json!({ "id": run.task, "title": run.task_title })),
        ("state".to_owned(), json!(run.state)),
        ("trigger".to_owned(), json!(run.trigger)),
        ("scheduled_at".to_owned(), json!(local(run.occurrence_at, zone))),
    ]);
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("skip_reason", run.skip_reason.map(|reason| json!(reason)));
    put("meaning", run.skip_reason.map(|reason| json!(skip_meaning(reason))));
    put("covers", run.stretch.map(|(to, count)| json!({ "occurrences": count, "through": local(to, zone) })));
    put("started_at", run.started_at.map(|at| json!(local(at, zone))));
    put("finished_at", run.finished_at.map(|at| json!(local(at, zone))));
    put("wakes_at", run.wake_at.map(|at| json!(local(at, zone))));
    put("waiting_for", run.waiting.as_ref().map(waiting));
    put("attempts", (run.attempts > 1).then(|| json!(run.attempts)));
    put("crashes", (run.crashes > 0).then(|| json!(run.crashes)));
    put("retry_of", run.retry_of.map(|id| json!(id)));
    put("cancel_asked_at", run.cancel_asked_at.map(|at| json!(local(at, zone))));
    if let Some(error) = &run.error {
        put("error_kind", Some(json!(error.kind)));
        put("error_step", (!error.step.is_empty()).then(|| json!(error.step)));
        put("untrusted_error", Some(json!(untrusted::text(&error.message))));
    }
    fields
}

/// A run on one line.
pub(super) fn run_line(run: &RunRecord, zone: &Zone) -> String {
    let reason = run.skip_reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    let stretch = run.stretch.filter(|(_, count)| *count > 1);
    let stretch =
        stretch.map_or_else(String::new, |(to, count)| format!(", {count} occurrences through {}", local(to, zone)));
    let error = run.error.as_ref().map_or_else(String::new, |error| {
        let at = if error.step.is_empty() { String::new() } else { format!(" at step {}", error.step) };
        format!("; {}{at}", error.kind)
    });
    let wakes = match (&run.waiting, run.wake_at) {
        (Some(waiting), _) => waiting_line(waiting),
        (None, Some(at)) => format!("; tries again at {}", local(at, zone)),
        (None, None) => String::new(),
    };
    let at = weekday(run.occurrence_at, zone);
    format!("- {} \"{}\" for {at}: {}{reason}{stretch}{error}{wakes}", run.id, run.task_title, run.state)
}

/// What a parked run waits for, without what its step shows a person.
fn waiting(waiting: &Value) -> Value {
    let known = ["waiting_for", "approval", "run", "until"];
    known.into_iter().filter_map(|name| Some((name.to_owned(), waiting.get(name)?.clone()))).collect()
}

fn waiting_line(waiting: &Value) -> String {
    let word = |name: &str| waiting.get(name).and_then(Value::as_str).unwrap_or_default();
    match word("waiting_for") {
        "approval" => format!("; waits for a person to decide approval {} until {}", word("approval"), word("until")),
        "run" => format!("; waits for run {}", word("run")),
        _ => format!("; waits until {}", word("until")),
    }
}

/// How many occurrences the health of a task is told from.
const HEALTH: u64 = 20;

/// The outcomes of the latest occurrences, those of the open stretch included: `Of the last 20 occurrences: 17
/// succeeded, 3 skipped: overlap.` A run that was retried counts once, as its latest retry ended.
pub(super) fn health(runs: &[RunRecord], open: Option<&Stretch>) -> String {
    let mut counts: Vec<(String, u64)> = Vec::new();
    let mut left = HEALTH;
    let mut count = |outcome: String, occurrences: u64| {
        let occurrences = occurrences.min(left);
        left -= occurrences;
        match counts.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += occurrences,
            None if occurrences > 0 => counts.push((outcome, occurrences)),
            None => {}
        }
    };
    if let Some(open) = open {
        count(format!("skipped: {}", open.reason), u64::from(open.count));
    }
    let mut retried: BTreeMap<RunId, String> = BTreeMap::new();
    for run in runs {
        let outcome = retried.remove(&run.id).unwrap_or_else(|| match (run.state, run.skip_reason) {
            (RunState::Skipped, Some(reason)) => format!("skipped: {reason}"),
            (state, _) => state.to_string(),
        });
        match run.retry_of {
            Some(former) => drop(retried.entry(former).or_insert(outcome)),
            None => count(outcome, run.stretch.map_or(1, |(_, count)| u64::from(count.max(1)))),
        }
    }
    if counts.is_empty() {
        return "It has not run yet.".to_owned();
    }
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let parts: Vec<_> = counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    format!("Of the last {}: {}.", plural(all, "occurrence"), parts.join(", "))
}

/// How many ids one answer names.
const IDS: usize = 100;

/// The ids that an answer names, and how many it leaves out.
pub(super) fn first<T>(ids: &[T]) -> (&[T], usize) {
    let shown = &ids[..ids.len().min(IDS)];
    (shown, ids.len() - shown.len())
}

pub(super) fn plural(count: u64, word: &str) -> String {
    if count == 1 { format!("{count} {word}") } else { format!("{count} {word}s") }
}

/// Why an occurrence did not run, in a sentence.
pub(super) const fn skip_meaning(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Misfire => "it was noticed too late, and the task's misfire policy passes it over",
        SkipReason::Overlap => "the run before was not over yet",
        SkipReason::QueueFull => "the task's queue was full",
        SkipReason::Paused => "the task was paused",
        SkipReason::Snoozed => "the task was snoozed",
        SkipReason::Duplicate => "a run with the same dedupe_key was there within its window",
        SkipReason::Budget => "a budget (max_runs_per_day, max_cost_per_month) was used up",
    }
}
