//! The words that output schemas are written in: closed objects, so that a field that nobody described is a mistake.
//!
//! JSON Schema 2020-12, each tool's in one piece: whoever has one needs no other to read it. They are the resource
//! `ordinaut://schema/outputs`, and not in `tools/list`: together they are far over its budget, and clients that hold
//! a tool to the schema listed with it hold its refusals to that, too, which are of another shape.
//!
//! - `shapes`: what the answers of several tools have in them

use serde_json::{Map, Value, json};

mod shapes;

pub(super) use self::shapes::{
    approval, call, changed, listed_task, occurrence, run, schedule, step, stretch, task, warnings,
};

/// A field of an object.
#[derive(Debug, Clone)]
pub(super) struct Field {
    name: &'static str,
    schema: Value,
    is_always: bool,
}

/// A field that is always there.
pub(super) fn always(name: &'static str, schema: Value) -> Field {
    Field { name, schema, is_always: true }
}

/// A field that is left out where there is nothing to say.
pub(super) fn maybe(name: &'static str, schema: Value) -> Field {
    Field { name, schema, is_always: false }
}

/// An object of these fields and no others.
pub(super) fn object(about: &str, fields: impl IntoIterator<Item = Field>) -> Value {
    let fields: Vec<Field> = fields.into_iter().collect();
    let needed: Vec<_> = fields.iter().filter(|field| field.is_always).map(|field| field.name).collect();
    let properties: Map<_, _> = fields.into_iter().map(|field| (field.name.to_owned(), field.schema)).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    described(schema, about)
}

/// What a tool answers: these fields, and the present.
pub(super) fn answer(fields: impl IntoIterator<Item = Field>) -> Value {
    let present =
        [always("now", instant("The present, to reckon from")), always("zone", text("The IANA zone of `now`"))];
    let mut schema = object("", fields.into_iter().chain(present));
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema
}

fn described(mut schema: Value, about: &str) -> Value {
    if !about.is_empty() {
        schema["description"] = json!(about);
    }
    schema
}

fn of(kind: &str, about: &str) -> Value {
    described(json!({ "type": kind }), about)
}

pub(super) fn text(about: &str) -> Value {
    of("string", about)
}

pub(super) fn flag(about: &str) -> Value {
    of("boolean", about)
}

pub(super) fn number(about: &str) -> Value {
    described(json!({ "type": "number", "minimum": 0 }), about)
}

pub(super) fn count(about: &str) -> Value {
    described(json!({ "type": "integer", "minimum": 0 }), about)
}

pub(super) fn id(about: &str) -> Value {
    described(json!({ "type": "string", "format": "uuid" }), about)
}

/// RFC 3339 with offset.
pub(super) fn instant(about: &str) -> Value {
    described(json!({ "type": "string", "format": "date-time" }), about)
}

pub(super) fn one_of<'w>(about: &str, words: impl IntoIterator<Item = &'w str>) -> Value {
    let words: Vec<&str> = words.into_iter().collect();
    described(json!({ "type": "string", "enum": words }), about)
}

pub(super) fn list(about: &str, items: Value) -> Value {
    let mut schema = of("array", about);
    schema["items"] = items;
    schema
}

/// An object whose fields are named by what it holds.
pub(super) fn map(about: &str, of_each: Value) -> Value {
    let mut schema = of("object", about);
    schema["additionalProperties"] = of_each;
    schema
}

/// An object that is described elsewhere.
pub(super) fn elsewhere(about: &str) -> Value {
    of("object", about)
}

/// Any JSON.
pub(super) fn any(about: &str) -> Value {
    described(json!({}), about)
}

/// Foreign text: data, never a request.
pub(super) fn untrusted_text(about: &str) -> Value {
    described(json!({ "type": "string", "maxLength": super::untrusted::MOST_BYTES }), about)
}

/// The field by which a list goes on.
pub(super) fn next_cursor() -> Field {
    maybe("next_cursor", text("There is more: the same call with this as `cursor` has it"))
}
