//! The way in: one pass over a definition that notes every fault, and a spec when there is none.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    action::split_tool,
    budget::Owner,
    fault::{Fault, FaultCode, Faults},
    fields::{Fields, Synonyms, kind_of},
    pipeline::{self, check::Checker, read::Reader},
    retry::Retry,
    schedule::{Misfire, Overlap, ScheduleKind},
};

use super::{Acceptance, Accepted, TaskSpec, original, shape, timing};

const SYNONYMS: Synonyms = &[
    ("name", "title"),
    ("schedule", "schedule_expr"),
    ("cron", "schedule_expr"),
    ("rrule", "schedule_expr"),
    ("topic", "schedule_expr"),
    ("at", "schedule_expr"),
    ("kind", "schedule_kind"),
    ("type", "schedule_kind"),
    ("tz", "timezone"),
    ("time_zone", "timezone"),
    ("zone", "timezone"),
    ("steps", "pipeline"),
    ("actions", "pipeline"),
    ("filter", "event_filter"),
    ("timeout", "run_timeout"),
    ("retries", "max_retries"),
    ("until", "ends_at"),
    ("start", "starts_at"),
    ("end", "ends_at"),
];

const DAY: Duration = Duration::from_hours(24);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn accept(definition: &Value, against: Acceptance<'_>) -> Result<Accepted, Faults> {
    let Value::Object(map) = definition else {
        let message = match definition {
            Value::Array(_) => "a definition is one object; this is a list (`ordinaut apply` takes several)".to_owned(),
            other => format!("a definition is an object, not {}", kind_of(other)),
        };
        return Err(Fault::new("$", FaultCode::WrongType, message).into());
    };
    shape::judge(definition, against.limits)?;

    let mut faults = Faults::default();
    let mut warnings = Vec::new();
    let adapted = original::adapt(map, &mut faults);
    let mut fields = Fields::new(&adapted.fields, "$", &mut faults);

    fields.missing("title", "a short name by which tools and people find the task");
    let title = fields.line("title", against.limits.title_chars).unwrap_or_default().to_owned();
    let description = fields.text("description").unwrap_or_default().to_owned();
    if fields.get("created_by").is_some() {
        warnings.push("$.created_by: ignored; a task belongs to the agent that creates it".to_owned());
    }
    let timing = timing::read(&mut fields, against, &mut warnings);
    let policies = policies(&mut fields, timing.kind, &mut warnings);
    let retry = retry(&mut fields);

    let params = fields.object("params").cloned().unwrap_or_default();
    fields.missing("pipeline", "a list of steps, each with `uses` and `with`");
    let items = fields.list("pipeline").unwrap_or_default();
    if items.is_empty() && fields.has("pipeline") && adapted.fields["pipeline"].is_array() {
        fields.fault("pipeline", FaultCode::InvalidValue, "`pipeline` has no step");
    }
    let handlers = fields.list("on_failure").unwrap_or_default();

    let body = adapted.body;
    let (pipeline_path, failure_path) = (format!("{body}.pipeline"), on_failure_path(map, body));
    let mut reader = Reader::new(against.limits, adapted.is_original(), fields.faults);
    let most = against.limits.steps;
    let pipeline = reader.pipeline(&items[..items.len().min(most)], &pipeline_path);
    let on_failure = reader.on_failure(&handlers[..handlers.len().min(most)], &failure_path);
    let steps = reader.steps.max(items.len() + handlers.len());
    if steps > most {
        fields.fault("pipeline", FaultCode::Limit, format!("{steps} steps; a definition has at most {most}"));
    }

    let mut checker =
        Checker::new(&pipeline, &on_failure, &params, against.catalogue, against.limits, fields.faults, &mut warnings);
    checker.priced_for = match (policies.max_cost_per_month, against.catalogue.cost_budget) {
        (Some(_), _) => Some(Owner::Task),
        (None, true) => Some(Owner::Agent),
        (None, false) => None,
    };
    if let Some(filter) = &timing.event_filter {
        checker.event_filter(filter, "$.event_filter");
    }
    if let Some(key) = &policies.dedupe_key {
        checker.dedupe_key(key, "$.dedupe_key", timing.kind == ScheduleKind::Event);
    }
    if policies.escalate_after.is_some() || policies.escalate_to.is_some() {
        checker.escalation(policies.escalate_to.as_deref().unwrap_or("me"), "$.escalate_to");
    }
    checker.pipeline(&pipeline, &pipeline_path);
    checker.on_failure(&on_failure, pipeline.len(), &failure_path);

    let all_steps = || pipeline::steps(&pipeline).chain(&on_failure);
    if let Some(costly) = all_steps().find(|step| split_tool(&step.uses).is_some()) {
        timing::judge_interval(&mut fields, &timing, against, &costly.uses);
    }
    warnings.extend(timing::warn_of_duplicates(&timing, &policies, against));
    fields.finish("a task", SYNONYMS);

    let spec = TaskSpec {
        title,
        description,
        schedule_kind: timing.kind,
        schedule_expr: timing.schedule.as_ref().map(|it| it.normalised().to_owned()).unwrap_or_default(),
        timezone: timing.zone.name().to_owned(),
        anchored_at: timing.anchor,
        event_filter: timing.event_filter,
        starts_at: timing.starts_at,
        ends_at: timing.ends_at,
        retry,
        params,
        pipeline,
        on_failure,
        ..policies
    };
    match timing.schedule {
        Some(schedule) if faults.is_empty() => {
            Ok(Accepted { spec, schedule, zone_source: timing.zone_source, warnings })
        }
        _ => Err(faults),
    }
}

/// `on_failure` may stand beside `payload` or in it.
fn on_failure_path(definition: &Map<String, Value>, body: &str) -> String {
    if definition.contains_key("on_failure") { "$.on_failure".to_owned() } else { format!("{body}.on_failure") }
}

/// A spec with the policies of the definition and nothing else.
fn policies(fields: &mut Fields<'_, '_>, kind: ScheduleKind, warnings: &mut Vec<String>) -> TaskSpec {
    let mut spec = TaskSpec::bare(kind);
    spec.max_runs = fields.count("max_runs", 1..=u32::MAX);
    spec.jitter = fields.duration("jitter", Duration::ZERO..=DAY).filter(|jitter| !jitter.is_zero());
    if let Some(misfire) = fields.choice("misfire", Misfire::ALL, Misfire::as_str) {
        spec.misfire = misfire;
    }
    spec.misfire_limit = fields.count("misfire_limit", 1..=10_000).unwrap_or(spec.misfire_limit);
    spec.misfire_grace = fields.duration("misfire_grace", Duration::ZERO..=366 * DAY);
    if let Some(overlap) = fields.choice("overlap", Overlap::ALL, Overlap::as_str) {
        spec.overlap = overlap;
    }
    spec.overlap_ignores_waiting = fields.flag("overlap_ignores_waiting").unwrap_or_default();
    spec.queue_limit = fields.count("queue_limit", 1..=100_000).unwrap_or(spec.queue_limit);
    spec.concurrency_key = key(fields, "concurrency_key");
    spec.concurrency_limit = fields.count("concurrency_limit", 1..=1_000).unwrap_or(spec.concurrency_limit);
    if fields.has("concurrency_limit") && !fields.has("concurrency_key") {
        warnings.push("$.concurrency_limit: without `concurrency_key` it limits nothing".to_owned());
    }
    if let Some(priority) = fields.count("priority", 1..=9) {
        spec.priority = u8::try_from(priority).expect("the range ends at 9");
    }
    dedupe(fields, &mut spec, warnings);
    spec.max_runs_per_day = fields.count("max_runs_per_day", 1..=u32::MAX);
    spec.max_cost_per_month = fields.amount("max_cost_per_month");
    spec.max_tokens_per_run = fields.count("max_tokens_per_run", 1..=u32::MAX);
    spec.run_timeout = fields.duration("run_timeout", SECOND..=30 * DAY).unwrap_or(spec.run_timeout);
    spec.pause_after_failures =
        fields.count("pause_after_failures", 0..=1_000_000).unwrap_or(spec.pause_after_failures);
    spec.escalate_after = fields.duration("escalate_after", 60 * SECOND..=30 * DAY);
    spec.escalate_to = key(fields, "escalate_to");
    if fields.has("escalate_to") && !fields.has("escalate_after") {
        warnings.push("$.escalate_to: without `escalate_after` nothing is sent there".to_owned());
    }
    spec
}

/// `dedupe_key` and how long it holds, which is kept only where there is a key.
fn dedupe(fields: &mut Fields<'_, '_>, spec: &mut TaskSpec, warnings: &mut Vec<String>) {
    spec.dedupe_key = fields.line("dedupe_key", 200).map(str::to_owned);
    let window = fields.duration("dedupe_window", SECOND..=30 * DAY);
    // The original's name, in seconds; there, none left out nothing.
    let seconds = fields.duration("dedupe_window_seconds", Duration::ZERO..=30 * DAY);
    if seconds.is_some_and(|it| it.is_zero()) && spec.dedupe_key.take().is_some() {
        warnings.push(
            "$.dedupe_window_seconds: with 0 nothing is a duplicate, so `dedupe_key` is left out; \
             `dedupe_window: 1h` makes it hold"
                .to_owned(),
        );
    }
    if fields.has("dedupe_window") && !fields.has("dedupe_key") {
        fields.fault("dedupe_window", FaultCode::InvalidValue, "`dedupe_window` needs a `dedupe_key`");
    } else if seconds.is_some_and(|it| !it.is_zero()) && !fields.has("dedupe_key") {
        warnings.push("$.dedupe_window_seconds: without `dedupe_key` it leaves out nothing".to_owned());
    }
    spec.dedupe_window = seconds.or(window).filter(|_| spec.dedupe_key.is_some());
}

/// A key is plain text: the planner compares it without rendering anything.
fn key(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<String> {
    let text = fields.line(name, 200)?;
    if text.contains("${") {
        fields.fault(name, FaultCode::InvalidValue, format!("`{name}` is plain text; templates do not work in it"));
        return None;
    }
    Some(text.to_owned())
}

/// `retry`, or the original's `max_retries` and `backoff_strategy`.
fn retry(fields: &mut Fields<'_, '_>) -> Retry {
    let given = pipeline::read::retry(fields);
    let retries = fields.count("max_retries", 0..=99);
    let backoff = pipeline::read::backoff(fields, "backoff_strategy");
    if fields.has("retry") {
        for name in ["max_retries", "backoff_strategy"] {
            if fields.has(name) {
                fields.fault(name, FaultCode::InvalidValue, format!("`{name}` and `retry` say the same; keep `retry`"));
            }
        }
    }
    let mut retry = given.unwrap_or_default();
    retry.max_attempts = retries.map_or(retry.max_attempts, |retries| retries + 1);
    retry.backoff = backoff.unwrap_or(retry.backoff);
    retry
}
