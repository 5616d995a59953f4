//! What a repeat of a step's call does.

use ordinaut_schema::{
    action::{Effect, built_in},
    pipeline::Step,
};
use serde_json::Value;

use crate::actions::ActionRegistry;

/// Steps of this family are computed by the engine itself, from pinned inputs.
pub(crate) fn is_pure(uses: &str) -> bool {
    uses.starts_with("data.")
}

/// The step's own word first, then the method, the descriptor, what the tool declares; else a repeat may do harm.
pub(crate) fn effect(step: &Step, input: &Value, registry: &ActionRegistry) -> Effect {
    if is_pure(&step.uses) {
        return Effect::Pure;
    }
    if let Some(idempotent) = step.idempotent {
        return if idempotent { Effect::Idempotent } else { Effect::Once };
    }
    if step.uses == "http.request" {
        let method = input.get("method").and_then(Value::as_str).unwrap_or("GET").to_ascii_uppercase();
        let repeatable = matches!(method.as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE");
        return if repeatable { Effect::Idempotent } else { Effect::Once };
    }
    built_in()
        .iter()
        .find(|descriptor| descriptor.name == step.uses)
        .map(|descriptor| descriptor.effect)
        .or_else(|| registry.find(&step.uses).and_then(|action| action.effect(&step.uses)))
        .unwrap_or(Effect::Once)
}
