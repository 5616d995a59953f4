//! Steps: parsed, checked against what they name, and laid out as the engine walks them.
//!
//! - `read` makes steps of untrusted JSON; `check` judges what they name; `expect` judges outputs
//! - here: the types, and what the engine asks of a step

pub(crate) mod check;
mod expect;
pub(crate) mod read;

use std::{
    collections::{BTreeMap, HashSet},
    slice,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    action::{Catalogue, Effect},
    condition::Condition,
    fault::Fault,
    retry::Retry,
    run::text_enum,
    time::duration_text,
};

pub use expect::{judge_output, misfits};

/// One element of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "a pipeline is short, and nearly all of it is steps")]
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

#[expect(clippy::derivable_impls, reason = "the macro that writes the enum takes no default")]
impl Default for OnError {
    fn default() -> Self {
        Self::Fail
    }
}

impl Step {
    /// The default of `timeout`, per call.
    pub const TIMEOUT: Duration = Duration::from_mins(1);

    /// How long one call may take.
    pub fn limit(&self) -> Duration {
        self.timeout.unwrap_or(Self::TIMEOUT)
    }

    /// The retry policy of its calls: its own, else the task's.
    pub fn retry_or<'a>(&'a self, task: &'a Retry) -> &'a Retry {
        self.retry.as_ref().unwrap_or(task)
    }

    /// `if`, parsed.
    ///
    /// # Errors
    /// It is no expression: not in an accepted definition.
    pub fn parsed_condition(&self) -> Result<Option<Condition>, Fault> {
        self.condition.as_deref().map(|text| Condition::parse(text, "$.if")).transpose()
    }

    /// What a repeated call does; what is not known may do harm.
    pub fn effect(&self, catalogue: &Catalogue) -> Effect {
        let declared = catalogue.find(&self.uses).map_or(Effect::Once, |descriptor| descriptor.effect);
        let declared = if self.uses == "http.request" { self.effect_of_method() } else { declared };
        match (declared, self.idempotent) {
            (Effect::Pure, _) | (_, None) => declared,
            (_, Some(true)) => Effect::Idempotent,
            (_, Some(false)) => Effect::Once,
        }
    }

    fn effect_of_method(&self) -> Effect {
        let method = self.with.get("method").and_then(Value::as_str).unwrap_or_default();
        match method.trim().to_ascii_uppercase().as_str() {
            "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" => Effect::Idempotent,
            _ => Effect::Once,
        }
    }

    /// Every name under which `steps.…` finds its output.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.save_as.as_deref().into_iter().chain([self.id.as_str()])
    }
}

/// Outputs by name, as later steps see them: `save_as` first, the id unless a `save_as` took it.
pub type Outputs = BTreeMap<String, Value>;

impl Element {
    /// The step, or the members of the group.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Step(step) => slice::from_ref(step),
            Self::Parallel(group) => &group.parallel,
        }
    }

    pub fn id(&self) -> &str {
        match self {
            Self::Step(step) => &step.id,
            Self::Parallel(group) => &group.id,
        }
    }
}

/// Names that some step took with `save_as`: another step's id does not reach them.
pub fn taken_names(pipeline: &[Element]) -> HashSet<&str> {
    steps(pipeline).filter_map(|step| step.save_as.as_deref()).collect()
}

/// Every step in the order in which it is written, members of groups included.
pub fn steps(pipeline: &[Element]) -> impl Iterator<Item = &Step> {
    pipeline.iter().flat_map(Element::steps)
}
