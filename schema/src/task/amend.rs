//! What `update_task` makes of a stored definition.

use serde_json::{Map, Value, json};

use crate::{
    fault::{Fault, FaultCode, Faults, child, nearest},
    fields::kind_of,
};

use super::{
    TaskSpec,
    definition::{flat, needs_wrapper},
    original,
};

/// Fields that a definition cannot be without.
const REQUIRED: [&str; 3] = ["title", "schedule_kind", "pipeline"];

/// Fields that say when a task is due: after a change of one, delays and intervals count anew.
const SCHEDULE: [&str; 4] = ["schedule_kind", "schedule_expr", "timezone", "starts_at"];

const OPTIONAL: [&str; 30] = [
    "description",
    "schedule_expr",
    "timezone",
    "event_filter",
    "starts_at",
    "ends_at",
    "max_runs",
    "jitter",
    "misfire",
    "misfire_limit",
    "misfire_grace",
    "overlap",
    "overlap_ignores_waiting",
    "queue_limit",
    "concurrency_key",
    "concurrency_limit",
    "priority",
    "dedupe_key",
    "dedupe_window",
    "max_runs_per_day",
    "max_cost_per_month",
    "max_tokens_per_run",
    "run_timeout",
    "pause_after_failures",
    "escalate_after",
    "escalate_to",
    "retry",
    "params",
    "on_failure",
    "max_retries",
];

pub(super) fn amend(
    stored: &TaskSpec,
    changes: &Map<String, Value>,
    clear: &[String],
    steps: &Map<String, Value>,
) -> Result<Value, Faults> {
    let mut faults = Faults::default();
    let mut fields = flat(stored);
    let original = needs_wrapper(stored);

    for (n, name) in clear.iter().enumerate() {
        match judge_clear(name, &format!("$.clear[{n}]")) {
            Ok(()) => drop(fields.shift_remove(if name == "max_retries" { "retry" } else { name })),
            Err(fault) => faults.push(fault),
        }
    }
    let dedupe_gone = clear.iter().any(|name| name == "dedupe_key") && !clear.iter().any(|n| n == "dedupe_window");
    if dedupe_gone && !changes.contains_key("dedupe_key") {
        fields.shift_remove("dedupe_window");
    }
    change(&mut fields, changes);
    let moved = |name: &str| changes.contains_key(name) || clear.iter().any(|cleared| cleared == name);
    if SCHEDULE.iter().any(|name| moved(name)) && !changes.contains_key("anchored_at") {
        fields.shift_remove("anchored_at");
    }
    replace_steps(&mut fields, steps, &mut faults);
    let wrapped = original && !changes.contains_key("payload") && !changes.contains_key("pipeline");
    faults.or(Value::Object(if wrapped { original::wrap(fields) } else { fields }))
}

fn judge_clear(name: &str, path: &str) -> Result<(), Fault> {
    if OPTIONAL.contains(&name) {
        return Ok(());
    }
    if REQUIRED.contains(&name) {
        let message = format!("`{name}` cannot be cleared: a task needs it; give another in `changes`");
        return Err(Fault::new(path, FaultCode::MissingField, message));
    }
    let fault = Fault::new(
        path,
        FaultCode::UnknownField,
        format!("there is no field `{name}` to clear; there are {}", OPTIONAL.join(", ")),
    );
    Err(match nearest(name, OPTIONAL) {
        Some(near) => fault.suggest(near),
        None => fault,
    })
}

fn change(fields: &mut Map<String, Value>, changes: &Map<String, Value>) {
    let kind = changes.get("schedule_kind").and_then(Value::as_str);
    if kind.is_some_and(|kind| fields.get("schedule_kind").and_then(Value::as_str) != Some(kind)) {
        // What another kind of schedule said means nothing to this one.
        for name in ["schedule_expr", "event_filter"] {
            fields.shift_remove(name);
        }
    }
    if changes.contains_key("payload") {
        for name in ["params", "pipeline"] {
            fields.shift_remove(name);
        }
    }
    for (name, value) in changes {
        match (name.as_str(), value) {
            ("max_retries", Value::Number(retries)) if !changes.contains_key("retry") => {
                let attempts = retries.as_u64().map_or(Value::Null, |retries| json!(retries.saturating_add(1)));
                into_retry(fields, "max_attempts", attempts);
            }
            ("backoff_strategy", backoff) if !changes.contains_key("retry") => {
                into_retry(fields, "backoff", backoff.clone());
            }
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
}

fn into_retry(fields: &mut Map<String, Value>, name: &str, value: Value) {
    let retry = fields.entry("retry").or_insert_with(|| json!({}));
    retry[name] = value;
}

fn replace_steps(fields: &mut Map<String, Value>, steps: &Map<String, Value>, faults: &mut Faults) {
    for (id, step) in steps {
        let path = child("$.steps", id);
        let Value::Object(step) = step else {
            faults.add(path, FaultCode::WrongType, format!("a step is an object, not {}", kind_of(step)));
            continue;
        };
        let mut step = step.clone();
        step.entry("id").or_insert_with(|| Value::from(id.as_str()));
        let ids: Vec<String> = all_steps(fields).filter_map(|it| it.get("id")?.as_str().map(str::to_owned)).collect();
        if let Some(found) = all_steps(fields).find(|it| it.get("id").and_then(Value::as_str) == Some(id)) {
            *found = Value::Object(step);
            continue;
        }
        let message = format!("there is no step `{id}`; the steps are {}", ids.join(", "));
        let fault = Fault::new(path, FaultCode::UnknownReference, message);
        faults.push(match nearest(id, ids.iter().map(String::as_str)) {
            Some(near) => fault.suggest(near),
            None => fault,
        });
    }
}

/// Every step of the definition, members of groups instead of the groups.
fn all_steps(fields: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    fields
        .iter_mut()
        .filter(|(name, _)| matches!(name.as_str(), "pipeline" | "on_failure"))
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
        .flat_map(|element| {
            if element.get("parallel").is_some_and(Value::is_array) {
                return element["parallel"]
                    .as_array_mut()
                    .map(|members| members.iter_mut().collect())
                    .unwrap_or_default();
            }
            vec![element]
        })
}
