//! A value that fits a JSON Schema, made up: what a step that never ran may return.

use serde_json::{Map, Value, json};

use crate::pipeline::misfits;

/// A schema that asks for more than this is not made up from.
const MOST_PARTS: usize = 500;
const MOST_DEPTH: usize = 20;
const MOST_ITEMS: u64 = 3;
const MOST_CHARS: u64 = 200;

/// The schema's own examples where it has some, else the least that fits; nothing where that cannot be told.
pub(super) fn sample(schema: &Value) -> Option<Value> {
    let made = Maker { root: schema, parts: 0 }.value(schema, 0)?;
    // Of a schema that takes anything, nothing is known.
    if made.is_null() {
        return None;
    }
    matches!(misfits(schema, &made), Ok(None)).then_some(made)
}

struct Maker<'a> {
    root: &'a Value,
    parts: usize,
}

impl<'a> Maker<'a> {
    fn value(&mut self, schema: &'a Value, depth: usize) -> Option<Value> {
        self.parts += 1;
        if self.parts > MOST_PARTS || depth > MOST_DEPTH {
            return None;
        }
        let fields = match schema {
            Value::Bool(true) => return Some(Value::Null),
            Value::Object(fields) => fields,
            _ => return None,
        };
        if let Some(given) = given(fields) {
            return Some(given.clone());
        }
        if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))?;
            return self.value(target, depth + 1);
        }
        if let Some(choices) = ["oneOf", "anyOf"].iter().find_map(|name| fields.get(*name)?.as_array()) {
            return choices.iter().find_map(|choice| self.value(choice, depth + 1));
        }
        let own = self.typed(fields, depth)?;
        let Some(all) = fields.get("allOf").and_then(Value::as_array) else { return Some(own) };
        all.iter().try_fold(own, |made, part| Some(merged(made, self.value(part, depth + 1)?)))
    }

    fn typed(&mut self, fields: &'a Map<String, Value>, depth: usize) -> Option<Value> {
        let kind = match fields.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null")?,
            _ if fields.contains_key("properties") || fields.contains_key("required") => "object",
            _ if fields.contains_key("items") => "array",
            _ => "null",
        };
        match kind {
            "object" => self.object(fields, depth),
            "array" => self.array(fields, depth),
            "string" => Some(text(fields)),
            "integer" | "number" => Some(number(fields)),
            "boolean" => Some(json!(true)),
            _ => Some(Value::Null),
        }
    }

    fn object(&mut self, fields: &'a Map<String, Value>, depth: usize) -> Option<Value> {
        let mut made = Map::new();
        for (name, schema) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            made.insert(name.clone(), self.value(schema, depth + 1)?);
        }
        for name in fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            made.entry(name).or_insert(Value::Null);
        }
        Some(Value::Object(made))
    }

    /// One item, or as many as there have to be.
    fn array(&mut self, fields: &'a Map<String, Value>, depth: usize) -> Option<Value> {
        let bound = |name: &str| fields.get(name).and_then(Value::as_u64);
        let count = bound("minItems").unwrap_or(1).max(1).min(bound("maxItems").unwrap_or(MOST_ITEMS));
        let Some(schema) = fields.get("items") else { return Some(json!([])) };
        (0..count.min(MOST_ITEMS)).map(|_| self.value(schema, depth + 1)).collect::<Option<_>>().map(Value::Array)
    }
}

/// What the schema itself says a value is, or may be.
fn given(fields: &Map<String, Value>) -> Option<&Value> {
    let first = |name: &str| fields.get(name)?.as_array()?.first();
    first("examples").or_else(|| fields.get("default")).or_else(|| fields.get("const")).or_else(|| first("enum"))
}

fn merged(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut fields), Value::Object(more)) => {
            fields.extend(more);
            Value::Object(fields)
        }
        (one, Value::Null) => one,
        (_, other) => other,
    }
}

fn text(fields: &Map<String, Value>) -> Value {
    let format = fields.get("format").and_then(Value::as_str).unwrap_or_default();
    let bound = |name: &str| fields.get(name).and_then(Value::as_u64);
    let text = match format {
        "date-time" => "2027-01-31T09:00:00Z",
        "date" => "2027-01-31",
        "time" => "09:00:00Z",
        "uri" => "https://example.com/",
        "email" => "someone@example.com",
        "uuid" => "00000000-0000-4000-8000-000000000000",
        _ => "sample",
    };
    let least = usize::try_from(bound("minLength").unwrap_or(0).min(MOST_CHARS)).unwrap_or_default();
    let most = usize::try_from(bound("maxLength").unwrap_or(MOST_CHARS)).unwrap_or(usize::MAX);
    let padded = text.chars().chain(std::iter::repeat('x')).take(text.len().max(least).min(most));
    Value::String(padded.collect())
}

fn number(fields: &Map<String, Value>) -> Value {
    let bound = |name: &str| fields.get(name).filter(|bound| bound.is_number());
    match (bound("minimum"), bound("exclusiveMinimum"), bound("maximum")) {
        (Some(least), _, _) if least.as_f64() > Some(0.0) => least.clone(),
        (_, Some(least), _) if least.as_f64() >= Some(0.0) => least
            .as_i64()
            .map_or_else(|| json!(least.as_f64().unwrap_or_default() + 1.0), |least| json!(least.saturating_add(1))),
        (_, _, Some(most)) if most.as_f64() < Some(0.0) => most.clone(),
        _ => json!(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_what_the_schema_says_first_and_else_the_least_that_fits() {
        for (schema, made) in [
            (json!({"type": "number", "examples": [21.5], "default": 1}), json!(21.5)),
            (json!({"type": "string", "default": "x", "enum": ["y", "x"]}), json!("x")),
            (json!({"const": 7}), json!(7)),
            (json!({"enum": ["ok", "bad"]}), json!("ok")),
            (json!({"type": "integer", "minimum": 3}), json!(3)),
            (json!({"type": "integer", "exclusiveMinimum": 0}), json!(1)),
            (json!({"type": ["null", "string"], "minLength": 8}), json!("samplexx")),
            (json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}), json!([true, true])),
            (
                json!({"required": ["a"], "properties": {"b": {"$ref": "#/$defs/t"}}, "$defs": {"t": {"type": "number"}}}),
                json!({"b": 0, "a": null}),
            ),
            (
                json!({"type": "object", "allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}),
                json!({"a": 1, "b": 2}),
            ),
        ] {
            assert_eq!(sample(&schema), Some(made), "{schema}");
        }
    }

    #[test]
    fn nothing_is_made_up_that_does_not_fit_or_has_no_end() {
        for schema in [
            json!({"type": "string", "pattern": "^[0-9]+$"}),
            json!({"type": "array", "items": {"type": "number"}, "minItems": 1_000_000_000}),
            json!({"type": "string", "minLength": 1_000_000_000}),
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}}),
            json!(false),
            json!(true),
            json!({"description": "anything"}),
        ] {
            assert_eq!(sample(&schema), None, "{schema}");
        }
    }
}
