//! Anthropic's Messages.

use ordinaut_schema::operator::Model;
use serde_json::{Value, json};

use super::{
    answer::{Said, Usage},
    prompt::Prompt,
};

const VERSION: &str = "2023-06-01";

pub(super) fn headers(key: Option<&str>) -> Vec<(&'static str, String)> {
    let version = ("anthropic-version", VERSION.to_owned());
    key.map(|key| ("x-api-key", key.to_owned())).into_iter().chain([version]).collect()
}

pub(super) fn body(model: &Model, prompt: &Prompt) -> Value {
    let messages: Vec<_> =
        prompt.turns.iter().map(|(role, text)| json!({ "role": role.as_str(), "content": text })).collect();
    let mut body = json!({ "model": model.model, "max_tokens": prompt.max_tokens, "messages": messages });
    if let Some(system) = &prompt.system {
        body["system"] = json!(system);
    }
    if let Some(schema) = &prompt.strict_schema {
        body["output_config"] = json!({ "format": { "type": "json_schema", "schema": schema } });
    }
    body
}

/// Nothing where it is no such answer.
pub(super) fn read(told: &Value) -> Option<Said> {
    let blocks = told.get("content")?.as_array()?;
    let text: String = blocks
        .iter()
        .filter(|block| block.get("type").is_some_and(|kind| kind == "text"))
        .filter_map(|block| block.get("text")?.as_str())
        .collect();
    let stopped = told.get("stop_reason").and_then(Value::as_str).unwrap_or_default();
    let tokens = |name: &str| told.pointer(&format!("/usage/{name}")).and_then(Value::as_u64);
    // Tokens that came out of a cache, or went into one, were tokens of the prompt as well.
    let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"].into_iter().filter_map(tokens).sum::<u64>();
    Some(Said {
        refusal: (stopped == "refusal").then(|| text.chars().take(200).collect()),
        text,
        model: told.get("model").and_then(Value::as_str).map(str::to_owned),
        truncated: stopped == "max_tokens",
        usage: Usage { input: tokens("input_tokens").map(|it| it + cached), output: tokens("output_tokens") },
    })
}
