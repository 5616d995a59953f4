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
    let told = match misfits(expect, output) {
        Ok(None) => return Ok(()),
        Ok(Some(misfits)) => format!("the output does not fit `expect`: {misfits}"),
        Err(why) => format!("`expect` is no JSON Schema: {why}"),
    };
    Err(StepFailure::new(ErrorKind::InvalidOutput, told))
}

/// What of `value` does not fit a JSON Schema, the first few faults of it; nothing when it fits.
///
/// # Errors
/// It is no JSON Schema.
pub fn misfits(schema: &Value, value: &Value) -> Result<Option<String>, String> {
    let validator = compile(schema)?;
    let mut faults = validator.iter_errors(value).map(|error| {
        let text: String = error.to_string().chars().take(300).collect();
        format!(
            "{}: {text}",
            if error.instance_path().as_str().is_empty() { "/" } else { error.instance_path().as_str() }
        )
    });
    let shown: Vec<_> = faults.by_ref().take(SHOWN).collect();
    if shown.is_empty() {
        return Ok(None);
    }
    let more = faults.count();
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    Ok(Some(format!("{}{rest}", shown.join("; "))))
}
