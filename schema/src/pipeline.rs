//! Steps: parsed, checked against what they name, and laid out as the engine walks them.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{retry::Retry, run::text_enum, time::duration_text};

/// One element of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Element {
    Parallel(Parallel),
    Step(Step),
}

/// Steps that run side by side; groups do not nest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parallel {
    pub id: String,
    pub parallel: Vec<Step>,
}

/// One step, defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub id: String,
    pub uses: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub with: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_as: Option<String>,
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreach: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u16>,
    #[serde(default, with = "duration_text::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// JSON Schema 2020-12 of the whole output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
    #[serde(default)]
    pub on_error: OnError,
    /// Overrides what the action says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
}

text_enum! {
    /// What a failed step does to its run.
    OnError {
        Fail = "fail",
        Continue = "continue",
    }
}

impl Default for OnError {
    fn default() -> Self {
        Self::Fail
    }
}

impl Step {
    /// The default of `timeout`, per call.
    pub const TIMEOUT: Duration = Duration::from_secs(60);

    /// Every name under which `steps.…` finds its output.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.save_as.as_deref().into_iter().chain([self.id.as_str()])
    }
}

/// Outputs by name, as later steps see them: `save_as` first, the id unless a `save_as` took it.
pub type Outputs = BTreeMap<String, Value>;
