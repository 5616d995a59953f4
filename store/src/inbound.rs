//! Events that come in: recorded, and the runs they cause planned, in one transaction; Redis is not on that path.

use ordinaut_schema::id::{AgentId, RunId};
use serde_json::Value;

use crate::{Caller, Store, StoreError};

/// An event on its way in.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The publisher's own id: the same id again changes nothing. Drawn when absent.
    pub id: Option<String>,
    pub topic: String,
    pub payload: Value,
    /// How long the chain of causes is; 0 for what people and other systems publish.
    pub cause_depth: u16,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub event_id: String,
    /// It had been seen before; these are the runs it caused then.
    pub duplicate: bool,
    pub runs: Vec<RunId>,
    /// Tasks that listen and did not run: (title, reason).
    pub skipped: Vec<(String, String)>,
}

impl Store {
    /// Records an event of `caller`'s agent and plans the runs it causes.
    pub async fn publish_event(&self, caller: &Caller, event: NewEvent) -> Result<Published, StoreError> {
        let _ = (caller, event);
        todo!("the lead")
    }

    /// The agent with that name, for events that arrive from other systems.
    pub async fn agent_named(&self, name: &str) -> Result<AgentId, StoreError> {
        let _ = name;
        todo!("the lead")
    }
}
