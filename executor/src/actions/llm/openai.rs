//! Chat completions, as OpenAI and the many servers that follow it speak them.

use ordinaut_schema::operator::Model;
use serde_json::{Value, json};

use super::{
    answer::{Said, Usage},
    prompt::Prompt,
};

/// OpenAI's own newer models know this name of the limit only, and others know the older one only.
const OWN_HOST: &str = "api.openai.com";

pub(super) fn headers(key: Option<&str>) -> Vec<(&'static str, String)> {
    key.map(|key| ("Authorization", format!("Bearer {key}"))).into_iter().collect()
}

pub(super) fn body(model: &Model, prompt: &Prompt) -> Value {
    let system = prompt.system.iter().map(|text| json!({ "role": "system", "content": text }));
    let turns = prompt.turns.iter().map(|(role, text)| json!({ "role": role.as_str(), "content": text }));
    let mut body = json!({ "model": model.model, "messages": system.chain(turns).collect::<Vec<_>>() });
    let limit = if model.base_url.host_str() == Some(OWN_HOST) { "max_completion_tokens" } else { "max_tokens" };
    body[limit] = json!(prompt.max_tokens);
    if let Some(schema) = prompt.schema.as_ref().filter(|_| model.strict) {
        let strict = prompt.strict_schema.is_some();
        body["response_format"] = json!({
            "type": "json_schema",
            "json_schema": { "name": "answer", "schema": schema, "strict": strict },
        });
    }
    body
}

/// Nothing where it is no such answer.
pub(super) fn read(told: &Value) -> Option<Said> {
    let choice = told.pointer("/choices/0")?;
    let message = choice.get("message")?;
    let stopped = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default();
    let refusal = message.get("refusal").and_then(Value::as_str).map(|why| why.chars().take(200).collect());
    let tokens = |name: &str| told.pointer(&format!("/usage/{name}")).and_then(Value::as_u64);
    Some(Said {
        text: message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned(),
        model: told.get("model").and_then(Value::as_str).map(str::to_owned),
        truncated: stopped == "length",
        refusal: refusal.or_else(|| (stopped == "content_filter").then(|| "its content filter".to_owned())),
        usage: Usage { input: tokens("prompt_tokens"), output: tokens("completion_tokens") },
    })
}
