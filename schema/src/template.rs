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
//! - `secrets` reads the few forms in which a secret may be named; its value is never in any scope
//! - `partial` renders as much as is known before a run
//! - `evaluator`, `order` and `functions` find its value, on a `fuel` that bounds time and memory

mod evaluator;
mod expression;
mod fuel;
mod functions;
mod lexer;
mod node;
mod order;
mod parser;
mod partial;
mod references;
mod secrets;
mod split;

use serde_json::{Map, Value};

use crate::{
    run::{ErrorKind, StepFailure},
    secret::{self, mark},
};

pub use expression::{Expression, ExpressionError};
pub(crate) use fuel::Fuel;
pub(crate) use functions::base64;
pub use partial::Certainty;
pub(crate) use partial::Partial;
pub use references::Reference;
pub(crate) use secrets::MISPLACED;
pub use secrets::SecretUse;
pub use split::{Part, has_template, split};

use evaluator::Data;

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

/// Renders every string of `value`; keys are left as they are. No secret may be named.
///
/// # Errors
/// `template`, naming the path: `null` inside text, a number ordered against something else, a bad argument.
pub fn render(value: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    Render { scope, fuel: &Fuel::default(), secrets: false }.value(value, "with")
}

/// As [`render`], for the `with` of an `http.*` step: secrets become [`mark`]s in the fields that may hold them.
///
/// # Errors
/// As [`render`].
pub fn render_request(with: &Value, scope: &Scope) -> Result<Value, StepFailure> {
    let Value::Object(fields) = with else { return render(with, scope) };
    let fuel = Fuel::default();
    let rendered = fields.iter().map(|(name, field)| {
        let render = Render { scope, fuel: &fuel, secrets: secret::FIELDS.contains(&name.as_str()) };
        Ok((mark::clean_text(name.clone()), render.value(field, &crate::fault::child("with", name))?))
    });
    rendered.collect::<Result<_, _>>().map(Value::Object)
}

/// One rendering. What it makes holds no [`mark`] but those it made itself.
#[derive(Clone, Copy)]
struct Render<'a> {
    scope: &'a Scope,
    fuel: &'a Fuel,
    /// Whether secrets may be named here.
    secrets: bool,
}

impl Render<'_> {
    fn value(self, value: &Value, path: &str) -> Result<Value, StepFailure> {
        match value {
            Value::String(text) => self.text(text, path),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(n, item)| self.value(item, &format!("{path}[{n}]")))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, field)| {
                    Ok((mark::clean_text(key.clone()), self.value(field, &crate::fault::child(path, key))?))
                })
                .collect::<Result<_, _>>()
                .map(Value::Object),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        }
    }

    fn text(self, text: &str, path: &str) -> Result<Value, StepFailure> {
        let failed = |message: String| StepFailure::new(ErrorKind::Template, format!("`{path}`: {message}"));
        let parts = split(text).map_err(|error| failed(error.to_string()))?;
        if let [Part::Template { source, .. }] = parts.as_slice() {
            return self.template(source).map_err(failed);
        }
        let mut rendered = String::new();
        for part in parts {
            match part {
                Part::Text(text) => rendered.push_str(&mark::clean_text(text)),
                Part::Template { source, .. } => match self.template(source).map_err(failed)? {
                    Value::Null => return Err(failed(null_in_text(source))),
                    value => rendered.push_str(&as_text(value)),
                },
            }
            self.fuel.hold(rendered.len()).map_err(failed)?;
        }
        Ok(Value::String(rendered))
    }

    /// The value of one template, clean but for the mark of a secret that it names itself.
    fn template(self, source: &str) -> Result<Value, String> {
        let expression = Expression::parse(source).map_err(|error| error.to_string())?;
        if let Some(used) = expression.secret_use() {
            return if self.secrets {
                used.mark(Data::Scope(self.scope), self.fuel).map(Value::String)
            } else {
                Err(secrets::MISPLACED.to_owned())
            };
        }
        let mut value = expression.evaluate_on(Data::Scope(self.scope), self.fuel)?;
        mark::clean(&mut value);
        Ok(value)
    }
}

fn null_in_text(source: &str) -> String {
    format!(
        "`{source}` is null, which cannot stand inside text; write `${{default({source}, '')}}` if nothing is meant"
    )
}

/// A value as it stands inside text.
fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Evaluates one expression, bare or in `${…}` (the text of a `foreach`, an `event_filter`).
///
/// # Errors
/// `template`: no JMESPath, or a value that it cannot work with.
pub fn evaluate(expression: &str, scope: &Scope) -> Result<Value, StepFailure> {
    evaluate_on(expression, scope, &Fuel::default())
}

/// As [`evaluate`], on fuel that others share.
pub(crate) fn evaluate_on(expression: &str, scope: &Scope, fuel: &Fuel) -> Result<Value, StepFailure> {
    find(expression, Data::Scope(scope), fuel)
}

/// Evaluates one expression with `root` as the whole document (`data.transform` with `input`).
///
/// # Errors
/// `template`: no JMESPath, or a value that it cannot work with.
pub fn search(expression: &str, root: &Value) -> Result<Value, StepFailure> {
    search_on(expression, root, &Fuel::default())
}

/// As [`search`], on fuel that others share.
pub(crate) fn search_on(expression: &str, root: &Value, fuel: &Fuel) -> Result<Value, StepFailure> {
    find(expression, Data::Value(root), fuel)
}

fn find(expression: &str, root: Data<'_>, fuel: &Fuel) -> Result<Value, StepFailure> {
    Expression::bare(expression)
        .map_err(|error| error.to_string())
        .and_then(|parsed| parsed.evaluate_on(root, fuel))
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
