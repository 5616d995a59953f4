//! `expect`: the JSON Schema (2020-12) that a step's whole output must satisfy.
//!
//! Schemas come from callers, hence the bounds of [`json_schema`](crate::json_schema).

use jsonschema::{Draft, Validator};
use serde_json::Value;

use crate::{
    json_schema,
    run::{ErrorKind, StepFailure},
};

/// How many of an output's faults a failure names.
const SHOWN: usize = 3;

pub(super) fn compile(schema: &Value) -> Result<Validator, String> {
    json_schema::compile(schema, Some(Draft::Draft202012))
}

/// Judges what a step returned.
///
/// # Errors
/// `invalid_output`, naming what does not fit.
pub fn judge_output(expect: &Value, output: &Value) -> Result<(), StepFailure> {
    let invalid = |message: String| Err(StepFailure::new(ErrorKind::InvalidOutput, message));
    let validator = match compile(expect) {
        Ok(validator) => validator,
        Err(why) => return invalid(format!("`expect` is no JSON Schema: {why}")),
    };
    let mut faults = validator.iter_errors(output).map(|error| {
        let text: String = error.to_string().chars().take(300).collect();
        format!(
            "{}: {text}",
            if error.instance_path().as_str().is_empty() { "/" } else { error.instance_path().as_str() }
        )
    });
    let shown: Vec<_> = faults.by_ref().take(SHOWN).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let more = faults.count();
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    invalid(format!("the output does not fit `expect`: {}{rest}", shown.join("; ")))
}
