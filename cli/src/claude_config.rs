//! `claude-config`: the entry by which Claude Desktop finds Ordinaut.

use std::path::Path;

use serde_json::{Value, json};

use crate::{config::Config, failure::Failure, out::Out};

/// The whole file for a Claude Desktop that has no other server; otherwise the inner entry is what to add.
pub(crate) fn entry(mcp: &Path) -> Value {
    json!({ "mcpServers": { "ordinaut": { "command": mcp, "args": ["stdio"] } } })
}

pub(crate) fn claude_config(config: &Config, out: Out) -> Result<(), Failure> {
    let mcp = config.installed("ordinaut-mcp")?;
    // JSON for people as well: it is what they paste.
    out.json(&entry(&mcp))
}
