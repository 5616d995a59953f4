//! Rendering before the run: what is known is put in, what is not known yet stays as it was written.
//!
//! The caller says of each name how far it is known. A template that reads nothing but what is known gives what the run
//! will see, failures included. One that reads a sample gives what the sample says, unless that is `null` or no value at
//! all: a sample says nothing of what it does not hold. Marks of secrets are made as in every rendering.

use serde_json::Value;

use crate::{
    fault::child,
    run::{ErrorKind, StepFailure},
    secret::{self, mark},
};

use super::{
    Expression, Fuel, Part, Reference, Render, Scope, as_text, evaluator::Data, is_truthy, null_in_text, split,
};

/// How far a value is known before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    Known,
    /// Made up, or taken from an earlier run.
    Sample,
    Unknown,
}

/// A scope of which not everything is known.
#[derive(Clone, Copy)]
pub(crate) struct Partial<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) fuel: &'a Fuel,
    pub(crate) certainty: &'a dyn Fn(&Reference) -> Certainty,
}

impl Partial<'_> {
    /// The input that a step's `with` makes, as far as it is known.
    pub(crate) fn input(self, uses: &str, with: &Value) -> Result<(Value, Certainty), StepFailure> {
        match with {
            Value::Object(fields) if uses.starts_with("http.") => {
                let mut worst = Certainty::Known;
                let rendered = fields.iter().map(|(name, field)| {
                    let secrets = secret::FIELDS.contains(&name.as_str());
                    let field = self.value(field, &child("with", name), secrets, &mut worst)?;
                    Ok((mark::clean_text(name.clone()), field))
                });
                Ok((Value::Object(rendered.collect::<Result<_, StepFailure>>()?), worst))
            }
            _ => {
                let mut worst = Certainty::Known;
                Ok((self.value(with, "with", false, &mut worst)?, worst))
            }
        }
    }

    /// The value of an expression, bare or in `${…}`; `None` where it is not known.
    pub(crate) fn expression(self, text: &str) -> Result<(Option<Value>, Certainty), StepFailure> {
        let failed = |message: String| StepFailure::new(ErrorKind::Template, message);
        let expression = Expression::bare(text).map_err(|error| failed(error.to_string()))?;
        let certainty = self.certainty(&expression);
        let value = match certainty {
            Certainty::Unknown => return Ok((None, certainty)),
            Certainty::Sample => expression.evaluate_on(Data::Scope(self.scope), self.fuel).ok(),
            Certainty::Known => Some(expression.evaluate_on(Data::Scope(self.scope), self.fuel).map_err(failed)?),
        };
        Ok((value, certainty))
    }

    /// How far what an expression reads is known.
    pub(crate) fn certainty_of(self, text: &str) -> Certainty {
        Expression::bare(text).map_or(Certainty::Known, |expression| self.certainty(&expression))
    }

    /// Whether a condition holds; `None` where that is not known.
    pub(crate) fn condition(self, text: &str) -> Result<(Option<bool>, Certainty), StepFailure> {
        let (value, certainty) = self.expression(text)?;
        Ok((value.as_ref().map(is_truthy), certainty))
    }

    fn value(self, value: &Value, path: &str, secrets: bool, worst: &mut Certainty) -> Result<Value, StepFailure> {
        match value {
            Value::String(text) => self.text(text, path, secrets, worst),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(n, item)| self.value(item, &format!("{path}[{n}]"), secrets, worst))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, field)| {
                    let field = self.value(field, &child(path, key), secrets, worst)?;
                    Ok((mark::clean_text(key.clone()), field))
                })
                .collect::<Result<_, _>>()
                .map(Value::Object),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        }
    }

    fn text(self, text: &str, path: &str, secrets: bool, worst: &mut Certainty) -> Result<Value, StepFailure> {
        let failed = |message: String| StepFailure::new(ErrorKind::Template, format!("`{path}`: {message}"));
        let parts = split(text).map_err(|error| failed(error.to_string()))?;
        if let [Part::Template { source, .. }] = parts.as_slice() {
            let value = self.template(source, secrets, false, worst).map_err(failed)?;
            return Ok(value.unwrap_or_else(|| Value::String(as_written(source))));
        }
        let mut rendered = String::new();
        for part in parts {
            match part {
                Part::Text(text) => rendered.push_str(&mark::clean_text(text)),
                Part::Template { source, .. } => {
                    let value = self.template(source, secrets, true, worst).map_err(failed)?;
                    rendered.push_str(&value.map_or_else(|| as_written(source), as_text));
                }
            }
            self.fuel.hold(rendered.len()).map_err(failed)?;
        }
        Ok(Value::String(rendered))
    }

    /// The value of one template; `None` where it stays as it was written.
    fn template(
        self,
        source: &str,
        secrets: bool,
        in_text: bool,
        worst: &mut Certainty,
    ) -> Result<Option<Value>, String> {
        let expression = Expression::parse(source).map_err(|error| error.to_string())?;
        let certainty = self.certainty(&expression);
        let render = Render { scope: self.scope, fuel: self.fuel, secrets };
        let value = match certainty {
            Certainty::Unknown => None,
            Certainty::Sample => render.template(source).ok().filter(|value| !value.is_null()),
            Certainty::Known => match render.template(source)? {
                Value::Null if in_text => return Err(null_in_text(source)),
                value => Some(value),
            },
        };
        *worst = (*worst).max(if value.is_some() { certainty } else { Certainty::Unknown });
        Ok(value)
    }

    fn certainty(self, expression: &Expression) -> Certainty {
        let references = match expression.secret_use() {
            Some(used) => used.references(),
            // The id of the run is in it.
            None if expression.takes_all() => return Certainty::Unknown,
            None => expression.references(),
        };
        references.iter().map(self.certainty).max().unwrap_or(Certainty::Known)
    }
}

fn as_written(source: &str) -> String {
    mark::clean_text(format!("${{{source}}}"))
}
