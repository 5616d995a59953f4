//! What evaluating may cost, so that no expression makes more than a few mebibytes or runs for long.

use std::cell::Cell;

use serde_json::Value;

/// What rendering one input may cost: bytes made and nodes walked.
#[derive(Debug)]
pub(crate) struct Fuel {
    left: Cell<usize>,
}

/// The default of [`Fuel`]: twice the journal of a run.
const FUEL: usize = 8 * 1024 * 1024;
/// How deep a result may be: what `serde_json` reads back.
pub(super) const MAX_DEPTH: usize = 100;
/// What a value costs beside its text.
pub(super) const VALUE_COST: usize = 16;

impl Default for Fuel {
    fn default() -> Self {
        Self { left: Cell::new(FUEL) }
    }
}

impl Fuel {
    /// Pays `cost`.
    pub(crate) fn spend(&self, cost: usize) -> Result<(), String> {
        self.hold(cost)?;
        self.left.set(self.left.get() - cost);
        Ok(())
    }

    /// What was paid so far.
    pub(crate) fn spent(&self) -> usize {
        FUEL - self.left.get()
    }

    /// Whether `cost` could be paid.
    pub(crate) fn hold(&self, cost: usize) -> Result<(), String> {
        if cost > self.left.get() {
            return Err(format!("it makes more than {} MiB of values; ask for less at once", FUEL / 1024 / 1024));
        }
        Ok(())
    }
}

/// What a value costs.
pub(super) fn size(value: &Value) -> usize {
    VALUE_COST
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size).sum(),
            Value::Object(fields) => fields.iter().map(|(key, field)| key.len() + size(field)).sum(),
        }
}

pub(super) fn is_deeper_than(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|item| is_deeper_than(item, limit - 1)),
        Value::Object(fields) => limit == 0 || fields.values().any(|field| is_deeper_than(field, limit - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
