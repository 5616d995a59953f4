//! MCP on stdin and stdout: one client, the local agent.

use rmcp::{ServiceExt, service::ServerInitializeError, transport::stdio_pipes};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::server::OrdinautServer;

use self::lines::Lines;

mod lines;

/// The longest line read; of a longer one it is said that it was not.
///
/// As long as an HTTP body, with room for what a definition of that size is wrapped in.
pub const LINE_BYTES: usize = 1024 * 1024 + 64 * 1024;

/// Why stdio ended badly.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    #[error("the client did not open the conversation as MCP does")]
    Handshake(#[source] Box<ServerInitializeError>),
    #[error("the conversation's task failed")]
    Task(#[source] tokio::task::JoinError),
}

/// Serves until the client closes a pipe or `drain` is cancelled.
///
/// # Errors
/// The handshake is no MCP, or a panic.
pub async fn serve(server: OrdinautServer, drain: &CancellationToken) -> Result<(), StdioError> {
    let (input, output) = stdio_pipes();
    let transport = Lines::new(input, output, LINE_BYTES);
    let running = match server.serve_with_ct(transport, drain.child_token()).await {
        Ok(running) => running,
        // A client that only looked, or that changed its mind, is no failure.
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => return Ok(()),
        Err(error) => return Err(StdioError::Handshake(Box::new(error))),
    };
    let reason = running.waiting().await.map_err(StdioError::Task)?;
    info!(?reason, "the conversation ended");
    Ok(())
}
