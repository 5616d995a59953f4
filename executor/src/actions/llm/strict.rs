//! Which JSON Schemas an endpoint can hold a model to.

use serde_json::Value;

/// What every endpoint that offers strict schemas knows.
const KNOWN: [&str; 12] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "description",
    "title",
    "$ref",
    "$defs",
];

/// An object whose objects are closed and name all their fields, without a keyword that an endpoint may refuse. Others
/// are asked for in words, and judged here all the same.
pub(super) fn is_strict(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object") && is_strict_part(schema)
}

fn is_strict_part(schema: &Value) -> bool {
    let Value::Object(schema) = schema else { return false };
    if !schema.keys().all(|keyword| KNOWN.contains(&keyword.as_str())) {
        return false;
    }
    let each = |value: &Value| value.as_object().is_some_and(|parts| parts.values().all(is_strict_part));
    let is_object = schema.get("properties").is_some() || schema.get("type").is_some_and(names_object);
    if is_object {
        let empty = serde_json::Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
        let all_required = properties.keys().all(|name| required.iter().any(|it| it.as_str() == Some(name)));
        let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        if !all_required || !is_closed {
            return false;
        }
    }
    schema.get("properties").is_none_or(each)
        && schema.get("$defs").is_none_or(each)
        && schema.get("items").is_none_or(is_strict_part)
        && schema.get("anyOf").is_none_or(|any| any.as_array().is_some_and(|any| any.iter().all(is_strict_part)))
}

fn names_object(kind: &Value) -> bool {
    kind == "object" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "object"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_closed_objects_without_refused_keywords_are_strict() {
        let text = json!({"type": "string"});
        let closed = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        assert!(is_strict(&closed(json!({"a": text}), json!(["a"]))));
        assert!(is_strict(&closed(json!({"a": {"type": "array", "items": text}}), json!(["a"]))));
        for loose in [
            json!({"type": "array", "items": text}),
            json!({"type": "object", "properties": {"a": text}, "required": ["a"]}),
            closed(json!({"a": text}), json!([])),
            closed(json!({"a": {"type": "string", "minLength": 3}}), json!(["a"])),
            closed(json!({"a": {"type": "object", "properties": {"b": text}}}), json!(["a"])),
        ] {
            assert!(!is_strict(&loose), "{loose}");
        }
    }
}
