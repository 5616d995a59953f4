//! `data.transform` and `data.assert`: JMESPath, nothing else. Computed by the engine, on the scope of their step.

use ordinaut_schema::{
    run::{ErrorKind, StepFailure},
    template::{self, Scope},
};
use serde_json::Value;

/// Computes a pure step from its rendered input.
pub fn perform(uses: &str, input: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    match uses {
        "data.transform" => transform(input, scope),
        "data.assert" => assert(input, scope),
        other => Err(StepFailure::new(ErrorKind::ClientError, format!("there is no action `{other}`"))),
    }
}

/// `expression` over `input`, or over everything that templates may name.
fn transform(input: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    match (input.get("expression"), input.get("input")) {
        (Some(Value::String(expression)), Some(root)) => template::search(expression, root),
        (Some(Value::String(expression)), None) => template::evaluate(expression, scope),
        // A template that was the whole expression has been rendered to its value already.
        (Some(value), _) => Ok(value.clone()),
        (None, Some(value)) => Ok(value.clone()),
        (None, None) => Ok(input.clone()),
    }
}

fn assert(input: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    let given = ["that", "condition", "expression"].iter().find_map(|name| input.get(*name));
    let value = match (given, input.get("input")) {
        (Some(Value::String(expression)), Some(root)) => template::search(expression, root)?,
        (Some(Value::String(expression)), None) => template::evaluate(expression, scope)?,
        (Some(value), _) => value.clone(),
        (None, _) => {
            return Err(StepFailure::new(ErrorKind::ClientError, "data.assert needs `that`: what must hold"));
        }
    };
    if is_truthy(&value) {
        return Ok(value);
    }
    let message = match input.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => format!("the assertion does not hold: it is {value}"),
    };
    // Judged on pinned values: another try gives the same answer.
    Err(StepFailure::new(ErrorKind::ClientError, message))
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(it) => *it,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(_) => true,
    }
}
