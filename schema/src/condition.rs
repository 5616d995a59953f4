//! `if`: a JMESPath expression, bare or in `${…}`, judged for truth.

use crate::{fault::Fault, run::StepFailure, template::Scope};

/// A parsed condition.
#[derive(Debug, Clone)]
pub struct Condition {
    // helper B: private fields
}

impl Condition {
    /// # Errors
    /// The expression is no JMESPath, or compares with a double-quoted text. `path` is where it stands.
    pub fn parse(text: &str, path: &str) -> Result<Self, Fault> {
        let _ = (text, path);
        todo!("helper B")
    }

    /// Whether the value is truthy: anything but `false`, `null`, `""`, `[]`, `{}`.
    ///
    /// # Errors
    /// `template`: a number was ordered against something else, or a function refused its arguments.
    pub fn holds(&self, scope: &Scope) -> Result<bool, StepFailure> {
        let _ = scope;
        todo!("helper B")
    }
}
