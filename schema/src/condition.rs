//! `if`: a JMESPath expression, bare or in `${…}`, judged for truth.

use crate::{
    fault::{Fault, FaultCode},
    run::StepFailure,
    template::{Expression, ExpressionError, Scope, is_truthy},
};

/// A parsed condition.
#[derive(Debug, Clone)]
pub struct Condition {
    expression: Expression,
}

impl Condition {
    /// # Errors
    /// The expression is no JMESPath, or compares with a double-quoted text. `path` is where it stands.
    pub fn parse(text: &str, path: &str) -> Result<Self, Fault> {
        Expression::bare(text).map(|expression| Self { expression }).map_err(|error| fault(path, &error))
    }

    /// Whether the value is truthy: anything but `false`, `null`, `""`, `[]`, `{}`.
    ///
    /// # Errors
    /// `template`: a number was ordered against something else, or a function refused its arguments.
    pub fn holds(&self, scope: &Scope) -> Result<bool, StepFailure> {
        self.expression.evaluate(scope).map(|value| is_truthy(&value))
    }
}

/// An expression's error as a fault.
pub(crate) fn fault(path: &str, error: &ExpressionError) -> Fault {
    let fault = Fault::new(path, FaultCode::BadExpression, error.to_string());
    match &error.suggestion {
        Some(suggestion) => fault.suggest(suggestion),
        None => fault,
    }
}
