//! Definitions written for the original Ordinaut, read as ours (SPEC section 4, last paragraph).
//!
//! The one place that knows its names: the `payload` wrapper, `orchestrator.request_approval`, `llm.<other>`,
//! `timeout_seconds` of a step. `created_by`, `dedupe_window_seconds` and the kind `condition` are plain fields and
//! words, read where their like is.

use serde_json::{Map, Value};

use crate::{
    fault::{FaultCode, Faults},
    fields::kind_of,
};

/// A definition in our form.
pub(super) struct Adapted {
    pub(super) fields: Map<String, Value>,
    /// Where `params` and `pipeline` stood: `$`, or `$.payload`.
    pub(super) body: &'static str,
}

impl Adapted {
    /// Whether it came in the original's form, whose ids may have `-`.
    pub(super) fn is_original(&self) -> bool {
        self.body != "$"
    }
}

pub(super) fn adapt(definition: &Map<String, Value>, faults: &mut Faults) -> Adapted {
    let mut fields = definition.clone();
    let mut body = "$";
    match fields.shift_remove("payload") {
        Some(Value::Object(payload)) => {
            body = "$.payload";
            for (key, value) in payload {
                if !matches!(key.as_str(), "params" | "pipeline" | "on_failure") {
                    faults.add(
                        format!("$.payload.{key}"),
                        FaultCode::UnknownField,
                        format!("`payload` has `params` and `pipeline`, no `{key}`"),
                    );
                } else if fields.get(&key).is_some_and(|value| !value.is_null()) {
                    faults.add(
                        format!("$.{key}"),
                        FaultCode::InvalidValue,
                        format!("`{key}` stands here and in `payload`; keep one"),
                    );
                } else {
                    fields.insert(key, value);
                }
            }
        }
        Some(Value::Null) | None => {}
        Some(other) => faults.add(
            "$.payload",
            FaultCode::WrongType,
            format!("`payload` must be an object with `params` and `pipeline`, not {}", kind_of(&other)),
        ),
    }
    for list in ["pipeline", "on_failure"] {
        if let Some(Value::Array(items)) = fields.get_mut(list) {
            for item in items {
                adapt_step(item);
                if let Some(Value::Array(members)) = item.get_mut("parallel") {
                    members.iter_mut().for_each(adapt_step);
                }
            }
        }
    }
    Adapted { fields, body }
}

fn adapt_step(step: &mut Value) {
    let Value::Object(step) = step else { return };
    if let (Some(seconds), false) = (step.get("timeout_seconds").cloned(), step.contains_key("timeout")) {
        step.shift_remove("timeout_seconds");
        step.insert("timeout".to_owned(), seconds);
    }
    let uses = step.get("uses").and_then(Value::as_str).unwrap_or_default().to_owned();
    if uses == "orchestrator.request_approval" {
        step.insert("uses".to_owned(), Value::from("approval.request"));
    } else if let Some(instruction) = uses.strip_prefix("llm.").filter(|name| *name != "generate" && !name.is_empty()) {
        let mut with = match step.shift_remove("with") {
            Some(Value::Object(context)) => context,
            other => other.map(|context| ("context".to_owned(), context)).into_iter().collect(),
        };
        with.entry("instruction").or_insert_with(|| Value::from(instruction.replace(['_', '-'], " ")));
        step.insert("uses".to_owned(), Value::from("llm.generate"));
        step.insert("with".to_owned(), Value::Object(with));
    }
}

/// Puts `params` and `pipeline` back into a `payload`: ids with `-` are allowed there only.
pub(super) fn wrap(mut definition: Map<String, Value>) -> Map<String, Value> {
    let payload: Map<_, _> = ["params", "pipeline"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), definition.shift_remove(key)?)))
        .collect();
    definition.insert("payload".to_owned(), Value::Object(payload));
    definition
}
