//! Definitions out of text: JSON, else YAML 1.2.
//!
//! No `yes`/`no` booleans, anchors, aliases, merge keys or duplicate keys, in either form.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use crate::{
    fault::{Fault, FaultCode, Faults},
    limits::Limits,
};

pub(super) fn read(text: &str, limits: &Limits) -> Result<Vec<Value>, Faults> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > limits.definition_bytes {
        return Err(Fault::new(
            "$",
            FaultCode::Limit,
            format!("the text has {} bytes; at most {} are read", text.len(), limits.definition_bytes),
        )
        .into());
    }
    if text.trim().is_empty() {
        return Err(syntax("there is no definition: the text is empty".to_owned(), None).into());
    }
    let documents = match serde_json::from_str::<Strict>(text) {
        Ok(Strict(value)) => vec![value],
        Err(json) => match yaml(text, limits) {
            Ok(documents) => documents,
            // What opens as JSON was meant as JSON.
            Err(_) if text.trim_start().starts_with('{') => {
                let message = format!("this is not JSON: {json}");
                return Err(syntax(message, None).into());
            }
            Err(fault) => return Err(fault.into()),
        },
    };
    let definitions: Vec<Value> = documents
        .into_iter()
        .flat_map(|document| match document {
            Value::Array(items) => items,
            other => vec![other],
        })
        .collect();
    if definitions.is_empty() {
        return Err(
            syntax("there is no definition: the text has only comments or an empty list".to_owned(), None).into()
        );
    }
    Ok(definitions)
}

fn syntax(message: String, suggestion: Option<String>) -> Fault {
    Fault { suggestion, ..Fault::new("$", FaultCode::Syntax, message) }
}

fn yaml(text: &str, limits: &Limits) -> Result<Vec<Value>, Fault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_anchors: 0,
            max_aliases: 0,
            max_depth: limits.json_depth,
        },
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options::<Value>(text, options).map_err(|error| explain(text, &error))
}

fn explain(text: &str, error: &serde_saphyr::Error) -> Fault {
    let error = error.without_snippet();
    let Some(location) = error.location() else {
        return syntax(format!("this is neither JSON nor YAML: {error}"), None);
    };
    let (line, column) = (location.line(), location.column());
    let written =
        usize::try_from(line).ok().and_then(|line| text.lines().nth(line.saturating_sub(1))).unwrap_or_default();
    if let Some((why, quoted)) = unquoted(written) {
        return syntax(format!("line {line}, column {column}: {why}"), Some(quoted));
    }
    let reason = match error {
        serde_saphyr::Error::MergeKeyNotAllowed { .. } => {
            "merge keys (`<<`) are not supported; write the fields out".to_owned()
        }
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("the key `{key}` stands twice"),
            None => "a key stands twice".to_owned(),
        },
        other => bare_reason(&other.to_string()),
    };
    syntax(format!("this is neither JSON nor YAML: {reason} (line {line}, column {column})"), None)
}

/// The parser's own words without the place, which is told once, by us.
fn bare_reason(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once(" at line ").map_or(line, |(reason, _)| reason).to_owned()
}

/// A value that opens with a sign that YAML keeps for itself, and the same value in quotes.
fn unquoted(line: &str) -> Option<(String, String)> {
    let item = line.trim_start().trim_start_matches("- ");
    let value = item.split_once(": ").map_or(item, |(_, value)| value).trim();
    let sign = value.chars().next().filter(|sign| matches!(sign, '*' | '@' | '&' | '`' | '%'))?;
    let why = match sign {
        '*' => "a value that starts with `*` must be quoted, or YAML reads it as an alias (aliases are not supported)",
        '&' => "anchors (`&`) are not supported; write the value out, or quote a text that starts with `&`",
        _ => "a value that starts with `@`, `%` or a backtick must be quoted in YAML",
    };
    Some((why.to_owned(), Value::from(value).to_string()))
}

/// A JSON value without duplicate keys, which `serde_json` would settle silently.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(Value::from(it))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(Value::from(it))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(Number::from_f64(it).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(Value::from(it))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
