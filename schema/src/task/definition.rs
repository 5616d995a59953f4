//! A spec as the person who wrote it would write it: defaults left out.

use serde_json::{Map, Value};

use crate::pipeline;

use super::{TaskSpec, original};

/// Fields that are there even when they say what is the default.
const ALWAYS: [&str; 5] = ["title", "schedule_kind", "schedule_expr", "timezone", "pipeline"];

/// The definition without the original's wrapper.
pub(super) fn flat(spec: &TaskSpec) -> Map<String, Value> {
    let defaults = TaskSpec { anchored_at: spec.anchored_at, ..TaskSpec::bare(spec.schedule_kind) }.to_stored();
    let Value::Object(mut fields) = spec.to_stored() else { unreachable!("a spec is stored as an object") };
    let anchored_by_start = spec.starts_at.is_some_and(|at| at == spec.anchored_at);
    fields.retain(|key, value| {
        key == "anchored_at" && !anchored_by_start
            || ALWAYS.contains(&key.as_str())
            || (key != "anchored_at" && defaults.get(key) != Some(value))
    });
    for list in ["pipeline", "on_failure"] {
        for element in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            strip(element);
            element.get_mut("parallel").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
        }
    }
    fields
}

fn strip(step: &mut Value) {
    let Value::Object(step) = step else { return };
    step.retain(|key, value| match key.as_str() {
        "on_error" => value != "fail",
        "with" => value.as_object().is_none_or(|with| !with.is_empty()),
        _ => true,
    });
}

/// Whether only the original's form may hold it: an id has `-`.
pub(super) fn needs_wrapper(spec: &TaskSpec) -> bool {
    let steps = pipeline::steps(&spec.pipeline).chain(&spec.on_failure);
    let elements = spec.pipeline.iter().map(pipeline::Element::id);
    steps.flat_map(pipeline::Step::names).chain(elements).any(|name| name.contains('-'))
}

pub(super) fn definition(spec: &TaskSpec) -> Value {
    let fields = flat(spec);
    Value::Object(if needs_wrapper(spec) { original::wrap(fields) } else { fields })
}
