//! What the operator's MCP servers offer, written where the MCP server can check definitions against it.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{actions::mcp::McpTools, operator::Standing};

/// Written again this often, changed or not: its age tells that somebody still sees the servers.
const REFRESH: Duration = Duration::from_mins(5);
const RETRY: Duration = Duration::from_secs(5);

/// Surveys the servers, keeps the catalogue up to date, and ends the servers' processes on `stop`.
pub async fn serve(tools: Arc<McpTools>, mut standing: Standing, stop: CancellationToken) -> anyhow::Result<()> {
    let publish = async {
        let mut changes = tools.changes();
        tools.look_again().await;
        while !stop.is_cancelled() {
            changes.borrow_and_update();
            standing.borrow_and_update();
            let wait = match tools.publish().await {
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
                // Whom the operator trusts is published with the rest.
                known = standing.changed() => if known.is_err() { break },
            }
        }
    };
    // Beside what is published, not before it: a server that hangs in its handshake holds none of the others back.
    // Cancelled with the rest on `stop`; nothing here is half done by that.
    let survey = stop.run_until_cancelled(tools.survey());
    tokio::join!(publish, survey, tools.serve(stop.clone()));
    Ok(())
}
