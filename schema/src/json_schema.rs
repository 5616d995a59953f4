//! JSON Schemas that come from strangers, compiled so that judging with them is bounded.
//!
//! A schema may not refer to itself or to other documents, nor grow past a bound when its references are written
//! out: twenty lines of `$ref` can ask for 2^40 comparisons, seen to hang the validator. Patterns are matched in
//! linear time, and are few and small.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

/// How many parts a schema may have, references written out.
const MAX_PARTS: usize = 20_000;
const MAX_PATTERNS: usize = 100;
/// What one compiled pattern may take.
const PATTERN_BYTES: usize = 256 * 1024;

/// Keywords whose values are data, not schemas.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

/// Compiles a schema; `draft` is the one that counts, whatever the schema says.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn compile(schema: &Value, draft: Option<Draft>) -> Result<Validator, String> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err("a JSON Schema is an object".to_owned());
    }
    let mut bounds = Bounds { root: schema, parts: 0, patterns: 0, open: Vec::new() };
    bounds.walk(schema)?;
    let options = match draft {
        Some(draft) => jsonschema::options().with_draft(draft),
        None => jsonschema::options(),
    };
    options
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES))
        .build(schema)
        .map_err(|error| {
            let text: String = error.to_string().chars().take(300).collect();
            let at = error.instance_path().as_str();
            if at.is_empty() { text } else { format!("{text} (at `{at}`)") }
        })
}

struct Bounds<'a> {
    root: &'a Value,
    parts: usize,
    patterns: usize,
    /// The references being written out: one that comes again refers to itself.
    open: Vec<&'a str>,
}

impl<'a> Bounds<'a> {
    fn walk(&mut self, part: &'a Value) -> Result<(), String> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(format!("it has more than {MAX_PARTS} parts, references written out"));
        }
        match part {
            Value::Array(items) => items.iter().try_for_each(|item| self.walk(item)),
            Value::Object(fields) => self.object(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn object(&mut self, fields: &'a Map<String, Value>) -> Result<(), String> {
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) => self.reference(target)?,
                // Reached through the references to them.
                ("$defs" | "definitions", Value::Object(_)) => {}
                (key, _) if DATA.contains(&key) => {}
                ("pattern", Value::String(_)) => self.patterns += 1,
                ("patternProperties", Value::Object(patterns)) => {
                    self.patterns += patterns.len();
                    self.walk(value)?;
                }
                _ => self.walk(value)?,
            }
        }
        if self.patterns > MAX_PATTERNS {
            return Err(format!("it has more than {MAX_PATTERNS} patterns, references written out"));
        }
        Ok(())
    }

    fn reference(&mut self, target: &'a str) -> Result<(), String> {
        let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(found) = found else {
            return Err(format!("`$ref` {target} points at nothing in it; references are written `#/$defs/name`"));
        };
        if self.open.contains(&target) || target == "#" {
            return Err(format!("`$ref` {target} refers to itself; write out as many levels as are needed"));
        }
        self.open.push(target);
        self.walk(found)?;
        self.open.pop();
        Ok(())
    }
}
