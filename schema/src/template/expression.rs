//! One parsed expression.

use std::sync::Arc;

use serde_json::Value;

use crate::run::{ErrorKind, StepFailure};

use super::{
    Part, Reference, Scope,
    evaluator::{Data, Evaluator},
    fuel::Fuel,
    node::Node,
    parser, references, secrets,
    secrets::SecretUse,
    split::split,
};

/// A JMESPath expression, parsed.
#[derive(Debug, Clone)]
pub struct Expression {
    node: Arc<Node>,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{source_text}` is not an expression: {why} (at character {at})")]
pub struct ExpressionError {
    /// The expression, cut when it is long.
    pub source_text: String,
    /// Characters from 1.
    pub at: usize,
    pub why: String,
    /// What to write in its place.
    pub suggestion: Option<String>,
}

/// The same, while only the byte is known.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) at: usize,
    pub(super) why: String,
    pub(super) suggestion: Option<String>,
}

impl Unreadable {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Self {
        Self { at, why: why.into(), suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    fn within(self, text: &str) -> ExpressionError {
        let shown: String = text.chars().take(120).collect();
        ExpressionError {
            source_text: if shown.len() < text.len() { format!("{shown}…") } else { shown },
            at: text[..self.at].chars().count() + 1,
            why: self.why,
            suggestion: self.suggestion,
        }
    }
}

impl Expression {
    /// Reads what stands inside `${…}`.
    ///
    /// # Errors
    /// Where it stops being an expression, and why.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        parser::parse(text).map(|node| Self { node: Arc::new(node) }).map_err(|error| error.within(text))
    }

    /// Reads an expression that may stand bare or in one `${…}`.
    ///
    /// # Errors
    /// As [`Expression::parse`]; also a `${…}` with text around it.
    pub fn bare(text: &str) -> Result<Self, ExpressionError> {
        let text = text.trim();
        if !text.starts_with("${") {
            return Self::parse(text);
        }
        match split(text).as_deref() {
            Ok([Part::Template { source, .. }]) => Self::parse(source),
            Ok(_) => Err(Unreadable::new(0, "only a part of it is in `${…}`: put all of it in, or none").within(text)),
            Err(unclosed) => Err(Unreadable::new(0, unclosed.to_string()).within(text)),
        }
    }

    /// Its value over a scope.
    ///
    /// # Errors
    /// `template`: a number ordered against something else, an argument of the wrong type, too large a result.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, StepFailure> {
        self.evaluate_on(Data::Scope(scope), &Fuel::default())
            .map_err(|message| StepFailure::new(ErrorKind::Template, message))
    }

    /// Its value over any document.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn search(&self, root: &Value) -> Result<Value, StepFailure> {
        self.evaluate_on(Data::Value(root), &Fuel::default())
            .map_err(|message| StepFailure::new(ErrorKind::Template, message))
    }

    pub(super) fn evaluate_on(&self, root: Data<'_>, fuel: &Fuel) -> Result<Value, String> {
        Evaluator::new(root, fuel).value(&self.node)
    }

    /// The secrets it stands for, where it is one of the forms in which a secret may be named.
    pub fn secret_use(&self) -> Option<SecretUse<'_>> {
        secrets::find(&self.node)
    }

    /// Whether credentials are put together somewhere inside it.
    pub fn calls_basic_auth(&self) -> bool {
        secrets::calls_basic_auth(&self.node)
    }

    /// What it names in its scope, as far as that can be known without values.
    pub fn references(&self) -> Vec<Reference> {
        references::find(&self.node)
    }

    /// Whether it takes its scope as a whole, whatever is in it.
    pub fn takes_all(&self) -> bool {
        references::takes_all(&self.node)
    }
}
