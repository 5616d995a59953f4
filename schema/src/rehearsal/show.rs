//! How a rehearsed call is shown: secrets by their names, long values cut, and never more than a bound in all.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{run::text_enum, secret::mark, template::Certainty};

/// The most of one text.
const TEXT_BYTES: usize = 2 * 1024;
/// The most of one input.
const INPUT_BYTES: usize = 8 * 1024;
/// The most of a condition or a reason.
const REASON_BYTES: usize = 500;

text_enum! {
    /// How far what is shown is what the run will see.
    InputFrom {
        Known = "known",
        /// Some of it is a sample.
        Sample = "sample",
        /// Templates that read what is not known yet are left as they were written.
        PartlyUnknown = "partly_unknown",
    }
}

text_enum! {
    /// Where the output that later steps are rehearsed with comes from, where it is a sample.
    SampleOf {
        /// The task's last run that succeeded.
        LastRun = "last_run",
        /// Made from the step's `expect`.
        Expect = "expect",
        /// Computed from samples.
        Samples = "samples",
    }
}

impl From<Certainty> for InputFrom {
    fn from(certainty: Certainty) -> Self {
        match certainty {
            Certainty::Known => Self::Known,
            Certainty::Sample => Self::Sample,
            Certainty::Unknown => Self::PartlyUnknown,
        }
    }
}

/// What would become of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    WouldCall,
    /// Its `if` is known not to hold.
    WouldSkip {
        condition: String,
    },
    /// Its `if` reads what is not known yet.
    Depends {
        condition: String,
    },
    WouldFail {
        reason: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldCall => f.write_str("would be called"),
            Self::WouldSkip { condition } => write!(f, "would be skipped: `{condition}` does not hold"),
            Self::Depends { condition } => write!(f, "depends on `{condition}`"),
            Self::WouldFail { reason } => write!(f, "would fail: {reason}"),
        }
    }
}

/// One item of a `foreach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// From 0.
    pub index: usize,
    /// How many there are in all.
    pub of: usize,
}

/// One call that a run would make, or would not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rehearsed {
    pub step: String,
    pub uses: String,
    /// The `parallel` group that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What it would be outwardly: `POST https://api.example.com/orders`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// Of `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<InputFrom>,
    /// Whether a repeat does no harm.
    pub idempotent: bool,
    /// What later steps are rehearsed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleOf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Rehearsed {
    /// Whether it is sure to fail.
    pub fn fails(&self) -> bool {
        matches!(self.verdict, Verdict::WouldFail { .. })
    }

    /// The step, with its item: `send[0] of 12`.
    pub fn name(&self) -> String {
        self.item.map_or_else(|| self.step.clone(), |item| format!("{}[{}] of {}", self.step, item.index, item.of))
    }
}

/// An input as people see it.
pub(super) fn input(value: Value) -> Value {
    let shown = cut_texts(mark::shown(value));
    let text = shown.to_string();
    if text.len() <= INPUT_BYTES { shown } else { Value::String(cut(&text, TEXT_BYTES)) }
}

pub(super) fn reason(text: &str) -> String {
    cut(text, REASON_BYTES)
}

fn cut_texts(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(&text, TEXT_BYTES)),
        Value::Array(items) => items.into_iter().map(cut_texts).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, field)| (key, cut_texts(field))).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}… (cut: {} bytes in all)", &text[..text.floor_char_boundary(most)], text.len())
}
