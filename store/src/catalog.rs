//! What the operator's MCP servers offer, as executors last saw it.

use ordinaut_schema::action::{Catalogue, Descriptor};

use crate::{Caller, Store, StoreError};

/// A tool that a server declares.
#[derive(Debug, Clone)]
pub struct SeenTool {
    pub tool: String,
    pub descriptor: Descriptor,
    /// SHA-256 over description and schema.
    pub sha256: [u8; 32],
}

impl Store {
    /// Makes the configured servers those named, dropping what is gone.
    pub async fn set_servers(&self, names: &[String]) -> Result<(), StoreError> {
        let _ = names;
        todo!("helper D")
    }

    /// Writes what a server declares, or why it could not be asked.
    pub async fn write_server(&self, server: &str, seen: Result<Vec<SeenTool>, String>) -> Result<(), StoreError> {
        let _ = (server, seen);
        todo!("helper D")
    }

    /// What `caller`'s steps may use: the tools seen, the servers never seen, the agent's grants.
    pub async fn catalogue(&self, caller: &Caller) -> Result<Catalogue, StoreError> {
        let _ = caller;
        todo!("helper D")
    }
}
