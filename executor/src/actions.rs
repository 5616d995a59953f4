//! Actions: what a step may do to the world, one file each behind one trait.
//!
//! An action gets rendered input and a limit, and answers with a value or a typed failure. Retries, time-outs,
//! the journal and the idempotency key are the engine's; an action never waits longer than it is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use ordinaut_schema::{
    id::{AgentId, RunId, TaskId},
    run::StepFailure,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub mod http;
pub mod mcp;
mod tls;

/// One call of one step.
#[derive(Debug, Clone)]
pub struct StepCall {
    /// What the step `uses`.
    pub uses: String,
    /// Rendered `with`.
    pub input: Value,
    /// `<root run id>/<step>` or `<root run id>/<step>/<index>`: the same on every repeat of this call.
    pub idempotency_key: String,
    /// How long the call may take; the engine enforces it, an action may pass it on.
    pub limit: Duration,
    pub agent: AgentId,
    pub task: TaskId,
    pub run: RunId,
    /// How deep in a chain of events and their tasks this run is.
    pub cause_depth: u16,
    /// Cancelled when the run is: a long call should tell its remote side.
    pub cancelled: CancellationToken,
}

/// Performs what a step `uses`. Limits, retries and the journal are the engine's.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// May be called again with the same `call.idempotency_key`: an attempt can die after the effect.
    async fn execute(&self, call: StepCall) -> Result<Value, StepFailure>;
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
