//! The operator's file of servers: read again when it changes, and which connections that leaves.

use std::{collections::BTreeMap, path::PathBuf};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    LOOK_EVERY, McpTools,
    connection::Connection,
    servers::{self, Entry},
};

const FILE_BYTES: u64 = 1024 * 1024;

/// What was last read of the file, and when.
#[derive(Default)]
pub(super) struct Looked {
    at: Option<Instant>,
    text: Option<String>,
    /// Said once, not at every look.
    fault: Option<String>,
    /// Other servers than before are in the file, and those that are new are not asked for their tools yet.
    pub(super) adopted: bool,
}

impl McpTools {
    /// Reads the file again if the last look is old, or `now`.
    pub(super) async fn look(&self, now: bool) {
        let Some(file) = &self.shared.settings.file else { return };
        let mut looked = self.looked.lock().await;
        if !now && looked.at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        looked.at = Some(Instant::now());
        let text = match read(file).await {
            Ok(text) => text,
            Err(error) => {
                let fault = error.to_string();
                if looked.fault.as_ref() != Some(&fault) {
                    warn!(path = %file.display(), "the file of MCP servers cannot be read: {fault}");
                }
                looked.fault = Some(fault);
                return;
            }
        };
        looked.fault = None;
        if looked.text.as_ref() == Some(&text) {
            return;
        }
        match servers::parse(&text) {
            Ok(entries) => {
                self.adopt(entries);
                looked.adopted = true;
            }
            // Someone may be in the middle of editing it: what was read before stands.
            Err(error) => warn!(path = %file.display(), "the file of MCP servers cannot be used: {error}"),
        }
        looked.text = Some(text);
    }

    /// Keeps connections whose entry is unchanged, retires the others.
    fn adopt(&self, entries: BTreeMap<String, Entry>) {
        let mut pool = self.lock();
        let mut previous = std::mem::take(&mut *pool).connections;
        for (name, entry) in entries {
            match entry {
                Entry::Usable(launch) => {
                    let kept = previous.remove(&name).filter(|connection| {
                        let is_same = connection.launch == launch;
                        if !is_same {
                            connection.retire();
                            self.shared.catalogue.remove(&name);
                        }
                        is_same
                    });
                    let connection = kept.unwrap_or_else(|| Connection::new(name.clone(), launch, self.shared.clone()));
                    pool.connections.insert(name, connection);
                }
                Entry::Unusable(reason) => {
                    warn!(server = %name, "the MCP server `{name}` cannot be used: {reason}");
                    pool.unusable.insert(name, reason);
                }
            }
        }
        for (name, connection) in previous {
            connection.retire();
            self.shared.catalogue.remove(&name);
        }
        // Which servers there are is published, too.
        self.shared.catalogue.changed();
        info!(servers = pool.connections.len(), "MCP servers: {:?}", pool.connections.keys().collect::<Vec<_>>());
    }
}

/// A missing file is an empty one.
async fn read(file: &PathBuf) -> std::io::Result<String> {
    match tokio::fs::metadata(file).await {
        Ok(found) if found.len() > FILE_BYTES => {
            Err(std::io::Error::other(format!("it is larger than {FILE_BYTES} bytes")))
        }
        Ok(_) => tokio::fs::read_to_string(file).await,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}
