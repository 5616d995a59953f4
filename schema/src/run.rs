//! The states of a run, what an attempt may conclude, and what is kept of each step.

use std::time::Duration;

use jiff::Timestamp;

use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! text_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant),*
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),*
                }
            }

            /// `None` if the text names no variant.
            pub fn from_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use text_enum;

text_enum! {
    /// Where a run is. `due_work` holds the first four, history the rest.
    RunState {
        /// Its concurrency key or its task is full.
        Blocked = "blocked",
        /// For a future instant: a retry, a wait, an approval.
        Waiting = "waiting",
        Pending = "pending",
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
        Skipped = "skipped",
        /// It killed its executor too often.
        Quarantined = "quarantined",
    }
}

impl RunState {
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Blocked | Self::Waiting | Self::Pending | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped | Self::Quarantined => true,
        }
    }
}

text_enum! {
    /// What made a run.
    Trigger {
        Schedule = "schedule",
        Event = "event",
        Manual = "manual",
        Step = "step",
        Retry = "retry",
    }
}

text_enum! {
    /// Why an occurrence did not run.
    SkipReason {
        Misfire = "misfire",
        Overlap = "overlap",
        QueueFull = "queue_full",
        Paused = "paused",
        Snoozed = "snoozed",
        Duplicate = "duplicate",
        Budget = "budget",
    }
}

text_enum! {
    /// The kinds of failure a step can have.
    ErrorKind {
        Timeout = "timeout",
        Connection = "connection",
        RateLimited = "rate_limited",
        ServerError = "server_error",
        ClientError = "client_error",
        ToolError = "tool_error",
        InvalidOutput = "invalid_output",
        Template = "template",
        Denied = "denied",
        /// The call may have had its effect; nobody knows. Never retried by itself.
        OutcomeUnknown = "outcome_unknown",
        Cancelled = "cancelled",
    }
}

impl ErrorKind {
    /// Whether another call may fare better. `tool_error` and `invalid_output` may: remote tools flicker.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Timeout
            | Self::Connection
            | Self::RateLimited
            | Self::ServerError
            | Self::ToolError
            | Self::InvalidOutput => true,
            Self::ClientError | Self::Template | Self::Denied | Self::OutcomeUnknown | Self::Cancelled => false,
        }
    }

    /// Whether `retry.errors` may name it. Repeating an unknown outcome is a decision for a person.
    pub const fn may_retry(self) -> bool {
        !matches!(self, Self::OutcomeUnknown | Self::Cancelled)
    }
}

/// Why a step, and with it perhaps a run, failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StepFailure {
    pub kind: ErrorKind,
    pub message: String,
    /// The id of the step; empty where the run itself failed (`run_timeout`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// What a remote side asked for (`Retry-After`).
    #[serde(default, with = "crate::time::duration_text::option", skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// The request may have left and nobody knows what became of it: a call that is not idempotent must not
    /// be repeated by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sent: bool,
}

impl StepFailure {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), step: String::new(), retry_after: None, sent: false }
    }

    /// Says whether the request may have left before this happened.
    #[must_use]
    pub fn sent(mut self, sent: bool) -> Self {
        self.sent = sent;
        self
    }

    #[must_use]
    pub fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    #[must_use]
    pub fn at_step(mut self, step: &str) -> Self {
        step.clone_into(&mut self.step);
        self
    }
}

text_enum! {
    /// How a step ended.
    StepState {
        /// Its call may be out; in the journal only.
        Started = "started",
        Succeeded = "succeeded",
        /// Its condition was falsy.
        Skipped = "skipped",
        /// Failed, and `on_error: continue` let the run go on.
        Continued = "continued",
        Failed = "failed",
    }
}

/// One line of a run's timeline: a step, or one item of a `foreach`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's id.
    pub step: String,
    /// The index within a `foreach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    pub uses: String,
    pub state: StepState,
    /// Calls made.
    pub calls: u32,
    /// Rendered, secrets as references.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepFailure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl StepRecord {
    /// Its call was made and came to nothing yet: what it waits for stands where its output will.
    pub fn is_parked(&self) -> bool {
        self.state == StepState::Started && self.error.is_none() && !self.output.is_null()
    }
}

/// What an attempt decided about its run. The store writes this and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Succeeded {
        /// The output of the last step that ran.
        output: Value,
    },
    Failed {
        error: StepFailure,
    },
    /// A cancel was asked and seen.
    Cancelled {
        reason: String,
    },
    /// Another attempt, later; holds no slot until then. Spends one failure.
    RetryAfter {
        delay: Duration,
        error: StepFailure,
    },
    /// A step waits for an instant or an answer: another attempt then, or when somebody wakes the run. Nothing is counted.
    Parked {
        until: Timestamp,
    },
    /// Given back untouched (drain, pause gate); nothing is counted.
    Released,
}
