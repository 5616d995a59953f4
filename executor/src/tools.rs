//! What the operator's MCP servers offer, written where the MCP server can check definitions against it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ordinaut_schema::action::{Descriptor, Effect};
use ordinaut_store::{Store, StoreError, catalog::SeenTool};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::actions::mcp::{self, McpTools};

/// Written again this often, changed or not: its age tells that somebody still sees the servers.
const REFRESH: Duration = Duration::from_mins(5);
const RETRY: Duration = Duration::from_secs(5);

/// Surveys the servers, keeps the catalogue up to date, and ends the servers' processes on `stop`.
pub async fn serve(store: Store, tools: Arc<McpTools>, stop: CancellationToken) -> anyhow::Result<()> {
    let publish = async {
        let mut changes = tools.changes();
        tools.look_again().await;
        while !stop.is_cancelled() {
            changes.borrow_and_update();
            let wait = match write(&store, &tools).await {
                Ok(()) => REFRESH,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "could not write what MCP servers offer");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                known = changes.changed() => if known.is_err() { break },
            }
        }
    };
    // Beside what is published, not before it: a server that hangs in its handshake holds none of the others back.
    // Cancelled with the rest on `stop`; nothing here is half done by that.
    let survey = stop.run_until_cancelled(tools.survey());
    tokio::join!(publish, survey, tools.serve(stop.clone()));
    Ok(())
}

async fn write(store: &Store, tools: &McpTools) -> Result<(), StoreError> {
    let servers = tools.servers();
    let unusable = tools.unusable();
    let names: Vec<String> = servers.iter().map(|(name, _)| name.clone()).chain(unusable.keys().cloned()).collect();
    store.set_servers(&names).await?;
    let mut by_server: BTreeMap<String, Vec<SeenTool>> = BTreeMap::new();
    for tool in tools.describe() {
        by_server.entry(tool.server.clone()).or_default().push(described(tool));
    }
    for (server, is_seen) in servers {
        if is_seen {
            store.write_server(&server, Ok(by_server.remove(&server).unwrap_or_default())).await?;
        }
    }
    for (server, reason) in unusable {
        store.write_server(&server, Err(reason)).await?;
    }
    Ok(())
}

/// A server's own word on what a repeat does counts only once the operator trusts it, which no configuration says yet.
fn described(tool: mcp::SeenTool) -> SeenTool {
    let mut sha256 = [0; 32];
    for (byte, digits) in sha256.iter_mut().zip(tool.hash.as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(0);
    }
    let descriptor = Descriptor {
        name: format!("{}.{}", tool.server, tool.tool),
        sentence: tool.description,
        input_schema: tool.input_schema,
        example: json!({}),
        effect: Effect::Once,
    };
    SeenTool { tool: tool.tool, descriptor, sha256 }
}
