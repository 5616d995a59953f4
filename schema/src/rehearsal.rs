//! A dry run: what the steps of a task would do, shown without doing it.
//!
//! [`rehearse`] walks the pipeline as the engine does, over what is known before a run: `now`, `params`, the task,
//! `previous`. Nothing is called, no secret is opened, and nothing is made up in silence: a template that reads what is
//! not known yet is left as it was written, and what reads a sample says so. The output of a step that cannot be known is,
//! in this order: what a `data.*` step computes from what is known; what the step returned in the task's last run that
//! succeeded; a value made from its `expect`; nothing.
//!
//! A verdict is given only on what is known. A condition that reads a sample [`depends`](Verdict::Depends), and a call
//! that fails with a sample is not said to fail.
//!
//! - `walk` goes from step to step, `call` rehearses one call, `seen` is what later steps see of earlier ones
//! - `outward` says what a call would be; `sample` makes values from schemas; `show` bounds and masks what is shown

mod call;
mod outward;
mod sample;
mod seen;
mod show;
mod walk;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{action::Catalogue, id::TaskId, limits::Limits, run::StepRecord, task::TaskSpec};

pub use show::{InputFrom, Item, Rehearsed, SampleOf, Verdict};

/// What is known before the run.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    pub now: Timestamp,
    /// None while the task is not kept.
    pub task: Option<TaskId>,
    /// Set over the task's own.
    pub params: Option<&'a Map<String, Value>>,
    /// A sample of what starts the task.
    pub event: Option<&'a Value>,
    /// `{run, steps}` of the last succeeded run, or `null`.
    pub previous: &'a Value,
    /// The steps of that run.
    pub last: &'a [StepRecord],
    pub catalogue: &'a Catalogue,
    pub limits: &'a Limits,
    /// The most that is shown, as bytes of JSON.
    pub most_bytes: usize,
}

/// What a run would do, as far as can be known.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rehearsal {
    /// In the order of the pipeline.
    pub calls: Vec<Rehearsed>,
    /// Those of `on_failure`: made only if the run fails.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<Rehearsed>,
    /// What is not shown, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// The step that is sure to end the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails_at: Option<String>,
}

impl Rehearsal {
    /// The fields of its JSON.
    ///
    /// # Panics
    /// Never: it has text keys and plain values.
    pub fn to_fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            other => unreachable!("a rehearsal is an object, not {other:?}"),
        }
    }

    /// All that is shown; `true` with those that are made only if the run fails.
    pub fn all(&self) -> impl Iterator<Item = (bool, &Rehearsed)> {
        let handlers = self.on_failure.iter().map(|call| (true, call));
        self.calls.iter().map(|call| (false, call)).chain(handlers)
    }
}

/// Rehearses a task.
pub fn rehearse(spec: &TaskSpec, given: &Given<'_>) -> Rehearsal {
    walk::Walk::new(spec, given).finish()
}
