//! `${…}`: JMESPath over a [`Scope`], rendered once into a step's input.
//!
//! A string that is one template keeps the value's JSON type; otherwise values are interpolated. What a step
//! returned is never read as a template again: rendering walks the definition, never its results.

use serde_json::{Map, Value};

use crate::run::StepFailure;

/// What expressions may name, fixed for one step.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    pub params: Value,
    /// Outputs by `save_as` and by id.
    pub steps: Map<String, Value>,
    pub event: Value,
    /// RFC 3339 in the task's zone.
    pub now: String,
    /// `id`, `scheduled_at`, `attempt`, `trigger`.
    pub run: Value,
    /// `id`, `title`.
    pub task: Value,
    /// `{run, steps}` of the last succeeded run, or `null`.
    pub previous: Value,
    /// In `on_failure`.
    pub error: Value,
    /// In `foreach`.
    pub item: Value,
    pub index: Value,
}

/// Renders every string of `value`.
///
/// `secrets.NAME` becomes a [`SECRET_MARK`]ed reference that only the sender of the call resolves.
///
/// # Errors
/// `template`, naming the path: `null` inside text, a number ordered against something else, a bad argument.
pub fn render(value: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    let _ = (value, scope);
    todo!("helper B")
}

/// Evaluates one expression (the text of a `foreach`, an `event_filter`, `data.transform`).
pub fn evaluate(expression: &str, scope: &Scope) -> Result<Value, StepFailure> {
    let _ = (expression, scope);
    todo!("helper B")
}

/// Evaluates one expression with `root` as the whole document (`data.transform` with `input`).
pub fn search(expression: &str, root: &Value) -> Result<Value, StepFailure> {
    let _ = (expression, root);
    todo!("helper B")
}

/// Opens a reference to a secret within rendered text; no definition may contain it.
pub const SECRET_MARK: char = '\u{e0001}';
