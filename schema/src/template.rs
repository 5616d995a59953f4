//! `${…}`: JMESPath over a [`Scope`], rendered once into a step's input.
//!
//! A string that is one template keeps the value's JSON type; otherwise values are interpolated. What a step
//! returned is never read as a template again: rendering walks the definition, never its results.
//!
//! The dialect is JMESPath with what SPEC section 4 adds: bare literals, `now+24h`, our own functions, `$` for the
//! whole scope inside a filter, and errors where JMESPath would answer a silent `null`. That is why lexer, parser
//! and evaluator are ours: the `jmespath` crate recurses without a bound on hostile input, orders a number with a
//! text to `null`, and reads `!a.b` as `(!a).b`. It is kept as the oracle of the tests.
//!
//! - `split` finds the templates in a text; `lexer` and `parser` read one; `references` tells what it names
//! - `evaluator`, `order` and `functions` find its value, on a `fuel` that bounds time and memory

mod evaluator;
mod expression;
mod fuel;
mod functions;
mod lexer;
mod node;
mod order;
mod parser;
mod references;
mod split;

use serde_json::{Map, Value};

use crate::run::{ErrorKind, StepFailure};

pub use expression::{Expression, ExpressionError};
pub use references::Reference;
pub use split::{Part, has_template, split};

use evaluator::Data;
use fuel::Fuel;

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

impl Scope {
    /// The names that an expression may start with.
    pub const NAMES: [&str; 10] =
        ["params", "steps", "event", "now", "run", "task", "previous", "error", "item", "index"];
}

/// Renders every string of `value`; keys are left as they are.
///
/// # Errors
/// `template`, naming the path: `null` inside text, a number ordered against something else, a bad argument.
pub fn render(value: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    let fuel = Fuel::default();
    render_at(value, scope, &fuel, "with")
}

fn render_at(value: &Value, scope: &Scope, fuel: &Fuel, path: &str) -> Result<Value, StepFailure> {
    match value {
        Value::String(text) => render_text(text, scope, fuel, path),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, item)| render_at(item, scope, fuel, &format!("{path}[{n}]")))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| Ok((key.clone(), render_at(field, scope, fuel, &crate::fault::child(path, key))?)))
            .collect::<Result<_, _>>()
            .map(Value::Object),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
    }
}

fn render_text(text: &str, scope: &Scope, fuel: &Fuel, path: &str) -> Result<Value, StepFailure> {
    let failed = |message: String| StepFailure::new(ErrorKind::Template, format!("`{path}`: {message}"));
    let parts = split(text).map_err(|error| failed(error.to_string()))?;
    if let [Part::Template { source, .. }] = parts.as_slice() {
        let expression = Expression::parse(source).map_err(|error| failed(error.to_string()))?;
        return expression.evaluate_on(Data::Scope(scope), fuel).map_err(failed);
    }
    let mut rendered = String::new();
    for part in parts {
        match part {
            Part::Text(text) => rendered.push_str(&text),
            Part::Template { source, .. } => {
                let expression = Expression::parse(source).map_err(|error| failed(error.to_string()))?;
                match expression.evaluate_on(Data::Scope(scope), fuel).map_err(failed)? {
                    Value::Null => {
                        return Err(failed(format!(
                            "`{source}` is null, which cannot stand inside text; \
                             write `${{default({source}, '')}}` if nothing is meant"
                        )));
                    }
                    Value::String(text) => rendered.push_str(&text),
                    other => rendered.push_str(&other.to_string()),
                }
            }
        }
        fuel.hold(rendered.len()).map_err(failed)?;
    }
    Ok(Value::String(rendered))
}

/// Evaluates one expression, bare or in `${…}` (the text of a `foreach`, an `event_filter`).
///
/// # Errors
/// `template`: no JMESPath, or a value that it cannot work with.
pub fn evaluate(expression: &str, scope: &Scope) -> Result<Value, StepFailure> {
    Expression::bare(expression)
        .map_err(|error| error.to_string())
        .and_then(|parsed| parsed.evaluate_on(Data::Scope(scope), &Fuel::default()))
        .map_err(|message| StepFailure::new(ErrorKind::Template, message))
}

/// Evaluates one expression with `root` as the whole document (`data.transform` with `input`).
///
/// # Errors
/// `template`: no JMESPath, or a value that it cannot work with.
pub fn search(expression: &str, root: &Value) -> Result<Value, StepFailure> {
    Expression::bare(expression)
        .map_err(|error| error.to_string())
        .and_then(|parsed| parsed.evaluate_on(Data::Value(root), &Fuel::default()))
        .map_err(|message| StepFailure::new(ErrorKind::Template, message))
}

/// Whether a condition holds: anything but `false`, `null`, `""`, `[]`, `{}`.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}
