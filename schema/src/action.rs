//! What a step may `use`: the descriptors of the built-in actions, and the catalogue a definition is checked against.
//!
//! The descriptors are here, and not beside the code that acts, so that the MCP server can check a definition
//! and explain the actions without being able to run one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is known of one action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What a pipeline `uses`: `http.get`, `github.create_issue`.
    pub name: String,
    /// One sentence.
    pub sentence: String,
    /// JSON Schema 2020-12 of `with`, before templates are rendered.
    pub input_schema: Value,
    /// A `with` that works.
    pub example: Value,
    pub effect: Effect,
}

/// What a repeated call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// No effect at all: recomputed from pinned inputs (`data.*`).
    Pure,
    /// A repeat does no harm: called again when its outcome is unknown.
    Idempotent,
    /// A repeat may do harm: an unknown outcome stays unknown.
    Once,
}

/// The actions that exist here and now for one agent.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Tools of the operator's MCP servers, by `<server>.<tool>`.
    pub tools: BTreeMap<String, Descriptor>,
    /// Configured servers whose tools nobody has seen yet: `<server>.<anything>` is a warning, not a fault.
    pub unseen_servers: Vec<String>,
    pub grants: Grants,
}

/// What an agent's steps may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Everything that the operator configured (except `shell.exec`, which names its commands).
    pub all: bool,
    /// Servers (`github`) or single tools (`github.create_issue`).
    pub tools: Vec<String>,
    pub channels: Vec<String>,
    pub secrets: Vec<String>,
    pub models: Vec<String>,
}

impl Default for Grants {
    /// A new HTTP agent's: built-in actions only.
    fn default() -> Self {
        Self { all: false, tools: Vec::new(), channels: Vec::new(), secrets: Vec::new(), models: Vec::new() }
    }
}

impl Grants {
    /// The local agent's.
    pub fn local() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Whether `<server>.<tool>` may be called.
    pub fn allow_tool(&self, server: &str, tool: &str) -> bool {
        self.all
            || self
                .tools
                .iter()
                .any(|grant| grant == server || grant.split_once('.').is_some_and(|(s, t)| s == server && t == tool))
    }
}

/// The built-in actions, in the order in which they are listed.
pub fn built_in() -> &'static [Descriptor] {
    todo!("helper B")
}
