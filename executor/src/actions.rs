//! Actions: what a step may do to the world, one file each behind one trait.
//!
//! An action gets rendered input and a limit, and answers with a value or a typed failure. Retries, time-outs,
//! the journal and the idempotency key are the engine's; an action never waits longer than it is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use ordinaut_schema::{
    action::Effect,
    budget::Budget,
    id::{AgentId, RunId, TaskId},
    run::{ErrorKind, StepFailure},
    time::Zone,
};
use ordinaut_store::StoreError;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub mod approval;
pub mod credentials;
pub mod event;
pub mod group;
pub mod http;
pub mod inbox;
pub mod llm;
pub mod mcp;
pub mod notify;
pub mod shell;
pub mod task;
mod tls;
pub mod wait;

/// What a call came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The step's output.
    Output(Value),
    /// Nothing yet. The run gives its slot back, and the call is made again with the same input under the same key, at
    /// `until` or as soon as somebody wakes the run.
    Parked {
        until: Timestamp,
        /// What it waits for, shown to people meanwhile: `{"waiting_for": "approval", …}`.
        waiting: Value,
    },
}

impl Answer {
    /// The output, unless there is none yet.
    pub fn output(self) -> Option<Value> {
        match self {
            Self::Output(output) => Some(output),
            Self::Parked { .. } => None,
        }
    }
}

impl From<Value> for Answer {
    fn from(output: Value) -> Self {
        Self::Output(output)
    }
}

/// One call of one step.
#[derive(Debug, Clone)]
pub struct StepCall {
    /// What the step `uses`.
    pub uses: String,
    /// Rendered `with`.
    pub input: Value,
    /// `<root run id>/<step>` or `<root run id>/<step>/<index>`: the same on every repeat of this call.
    pub idempotency_key: String,
    /// When this step was first called: the same on every repeat.
    pub started_at: Timestamp,
    /// How long the call may take; the engine enforces it, an action may pass it on.
    pub limit: Duration,
    pub agent: AgentId,
    pub task: TaskId,
    pub run: RunId,
    /// How deep in a chain of events and their tasks this run is.
    pub cause_depth: u16,
    /// The task's own budget, and the zone whose months it counts.
    pub budget: Budget,
    pub zone: Zone,
    /// Cancelled when the run is: a long call should tell its remote side.
    pub cancelled: CancellationToken,
}

/// Performs what a step `uses`. Limits, retries and the journal are the engine's.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// May be called again with the same `call.idempotency_key`: an attempt can die after the effect, and a parked
    /// call is made again until it has an output.
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure>;

    /// What a repeated call of `uses` does, where only the action knows (a tool that declares itself idempotent).
    fn effect(&self, uses: &str) -> Option<Effect> {
        let _ = uses;
        None
    }
}

/// Finds the action for what a step `uses`.
#[derive(Clone, Default)]
pub struct ActionRegistry {
    built_in: BTreeMap<&'static str, Arc<dyn Action>>,
    /// Serves every other `<server>.<tool>`.
    tools: Option<Arc<dyn Action>>,
}

impl std::fmt::Debug for ActionRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActionRegistry").field("built_in", &self.built_in.keys()).finish_non_exhaustive()
    }
}

impl ActionRegistry {
    /// # Panics
    /// If two actions claim one name: a wiring mistake, caught at start-up.
    #[must_use]
    pub fn with(mut self, name: &'static str, action: Arc<dyn Action>) -> Self {
        let previous = self.built_in.insert(name, action);
        assert!(previous.is_none(), "two actions named `{name}`");
        self
    }

    /// Sets what serves the tools of MCP servers.
    #[must_use]
    pub fn with_tools(mut self, action: Arc<dyn Action>) -> Self {
        self.tools = Some(action);
        self
    }

    pub fn find(&self, uses: &str) -> Option<Arc<dyn Action>> {
        self.built_in.get(uses).or(self.tools.as_ref().filter(|_| uses.contains('.'))).cloned()
    }
}

/// What a failure of the database means for the step that met it: the write is keyed, so a repeat does no harm.
fn store_failure(error: &StoreError) -> StepFailure {
    let kind = if error.is_retryable() { ErrorKind::Connection } else { ErrorKind::ClientError };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    StepFailure::new(kind, message)
}
