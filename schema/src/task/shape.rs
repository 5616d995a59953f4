//! What is judged of a definition before any field is read: size, depth, and texts that cannot be stored.

use serde_json::Value;

use crate::{
    fault::{FaultCode, Faults, child},
    limits::Limits,
};

/// Judges the whole value. After a fault of depth or size nothing else may walk it.
pub(super) fn judge(definition: &Value, limits: &Limits) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let mut bytes = 0_usize;
    // Depth first without recursion: how deep it is, is the question.
    let mut open = vec![(definition, 0_usize)];
    while let Some((value, depth)) = open.pop() {
        if depth > limits.json_depth {
            faults.add("$", FaultCode::Limit, format!("it is nested more than {} deep", limits.json_depth));
            return Err(faults);
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(fields) => {
                bytes += fields.keys().map(String::len).sum::<usize>();
                open.extend(fields.values().map(|field| (field, depth + 1)));
            }
            Value::String(text) => bytes += text.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) => bytes += 1,
        }
    }
    if bytes > limits.definition_bytes {
        let message = format!("it has {bytes} bytes of text; at most {} are allowed", limits.definition_bytes);
        faults.add("$", FaultCode::Limit, message);
        return Err(faults);
    }
    find_nul(definition, "$", &mut faults);
    faults.or(())
}

/// PostgreSQL keeps no NUL.
fn find_nul(value: &Value, path: &str, faults: &mut Faults) {
    match value {
        Value::String(text) if text.contains('\0') => {
            faults.add(path, FaultCode::InvalidValue, "a text must not contain the character NUL");
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                find_nul(item, &format!("{path}[{n}]"), faults);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                if key.contains('\0') {
                    faults.add(child(path, key), FaultCode::InvalidValue, "a key must not contain the character NUL");
                }
                find_nul(field, &child(path, key), faults);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
