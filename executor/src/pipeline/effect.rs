//! What a repeat of a step's call does.

use ordinaut_schema::{
    action::{Effect, built_in, data::is_pure},
    pipeline::Step,
};
use serde_json::Value;

use crate::actions::ActionRegistry;

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn effect_of(step: Value, input: &Value) -> Effect {
        effect(&serde_json::from_value(step).unwrap(), input, &ActionRegistry::default())
    }

    #[test]
    fn what_may_be_repeated_is_what_the_actions_promise_and_nothing_else() {
        let request =
            |method: &str| effect_of(json!({ "id": "a", "uses": "http.request" }), &json!({ "method": method }));
        for method in ["GET", "head", "PUT", "DELETE"] {
            assert_eq!(request(method), Effect::Idempotent, "{method}");
        }
        for method in ["POST", "PATCH", "${params.method}"] {
            assert_eq!(request(method), Effect::Once, "{method}");
        }
        let of = |uses: &str| effect_of(json!({ "id": "a", "uses": uses }), &json!({}));
        for uses in [
            "http.get",
            "http.head",
            "http.put",
            "http.delete",
            "llm.generate",
            "inbox.post",
            "event.publish",
            "task.run",
            "notify.send",
            "approval.request",
            "wait.for",
            "wait.until",
        ] {
            assert_eq!(of(uses), Effect::Idempotent, "{uses}");
        }
        for uses in ["http.post", "http.patch", "shell.exec", "github.create_issue", "unknown"] {
            assert_eq!(of(uses), Effect::Once, "{uses}");
        }
        assert_eq!((of("data.transform"), of("data.assert")), (Effect::Pure, Effect::Pure));
    }

    #[test]
    fn a_step_may_say_otherwise_of_all_but_what_is_computed() {
        let said =
            |uses: &str, word: bool| effect_of(json!({ "id": "a", "uses": uses, "idempotent": word }), &json!({}));
        assert_eq!((said("http.post", true), said("http.get", false)), (Effect::Idempotent, Effect::Once));
        assert_eq!(said("data.assert", false), Effect::Pure);
    }
}
