//! The words that input schemas are written in: flat, small, every field with a description and an example.

use serde_json::{Map, Value, json};

/// The schema of a tool's arguments: fields in the order in which they are explained, the needed ones named.
pub(super) fn arguments(needed: &[&str], fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let properties: Map<String, Value> = fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

fn field(kind: &str, description: &str, example: impl Into<Value>) -> Value {
    json!({ "type": kind, "description": description, "examples": [example.into()] })
}

pub(super) fn text(description: &str, example: &str) -> Value {
    field("string", description, example)
}

pub(super) fn flag(description: &str) -> Value {
    field("boolean", description, true)
}

pub(super) fn count(description: &str, range: (u32, u32), example: u32) -> Value {
    let mut schema = field("integer", description, example);
    schema["minimum"] = range.0.into();
    schema["maximum"] = range.1.into();
    schema
}

/// A number above 0.
pub(super) fn number(description: &str, example: u32) -> Value {
    let mut schema = field("number", description, example);
    schema["exclusiveMinimum"] = 0.into();
    schema
}

pub(super) fn object(description: &str, example: Value) -> Value {
    field("object", description, example)
}

pub(super) fn list(of: &str, description: &str, example: Value) -> Value {
    let mut schema = field("array", description, example);
    schema["items"] = json!({ "type": of });
    schema
}

/// One of a few words.
pub(super) fn word(description: &str, words: &[&str]) -> Value {
    let mut schema = field("string", description, words[0]);
    schema["enum"] = json!(words);
    schema
}

/// Several of a few words.
pub(super) fn words(description: &str, words: &[&str]) -> Value {
    let mut schema = field("array", description, json!([words[0]]));
    schema["items"] = json!({ "type": "string", "enum": words });
    schema
}

/// The argument that names a task.
pub(super) fn task() -> (&'static str, Value) {
    ("task", text("The task's id or title", "Morning briefing"))
}

/// The argument that names a run.
pub(super) fn run() -> (&'static str, Value) {
    ("run", text("The run's id (list_runs, run_now)", "019ab2c4-5d00-8000-8f1e-2a6b7c8d9e0f"))
}

/// The arguments by which lists page.
pub(super) fn page() -> [(&'static str, Value); 2] {
    [
        ("cursor", text("next_cursor of the page before", "c019ab2c45d00")),
        ("limit", count("How many at most", (1, 100), 20)),
    ]
}

/// The argument under which asking twice asks once.
pub(super) fn request_id() -> (&'static str, Value) {
    ("request_id", text("Your own id for this request: the same id again does it once and answers the same", "req-42"))
}
