//! What a set tells those who wait for it: one small JSON file, replaced whole, written by its supervisor alone.

use std::fmt;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::EmbeddedError;
use super::layout::Layout;
use super::process::Process;

/// How far the set is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Preparing,
    CreatingDatabase,
    StartingPostgres,
    StartingRedis,
    Migrating,
    StartingServices,
    Running,
    Stopping,
    Stopped,
    Failed { reason: String },
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preparing => "preparing",
            Self::CreatingDatabase => "creating the database",
            Self::StartingPostgres => "starting PostgreSQL",
            Self::StartingRedis => "starting Redis",
            Self::Migrating => "migrating the database",
            Self::StartingServices => "starting the executor and the MCP server",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed { reason } => return write!(f, "failed: {reason}"),
        })
    }
}

/// What one set is, as its supervisor last wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetState {
    pub version: String,
    pub phase: Phase,
    pub supervisor: Process,
    #[serde(default)]
    pub postgres: Option<Process>,
    #[serde(default)]
    pub redis: Option<Process>,
    #[serde(default)]
    pub executor: Option<Process>,
    #[serde(default)]
    pub mcp: Option<Process>,
    /// By Unix socket, as the owner of the database.
    #[serde(default)]
    pub database_url: Option<String>,
    /// By Unix socket.
    #[serde(default)]
    pub redis_url: Option<String>,
    #[serde(default)]
    pub mcp_http: Option<SocketAddr>,
    pub started_at: Timestamp,
    pub updated_at: Timestamp,
}

impl SetState {
    /// The state of a set that the calling process begins to supervise.
    pub fn begin(version: &str, now: Timestamp) -> Self {
        Self {
            version: version.into(),
            phase: Phase::Preparing,
            supervisor: Process::current(),
            postgres: None,
            redis: None,
            executor: None,
            mcp: None,
            database_url: None,
            redis_url: None,
            mcp_http: None,
            started_at: now,
            updated_at: now,
        }
    }

    /// Reads what the last supervisor wrote, living or not. A file that makes no sense counts as none.
    pub fn read(layout: &Layout) -> Option<Self> {
        serde_json::from_slice(&fs::read(layout.state_file()).ok()?).ok()
    }

    /// Replaces the file: readers see the old state or the new one.
    pub fn write(&self, layout: &Layout) -> Result<(), EmbeddedError> {
        let path = layout.state_file();
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let text = serde_json::to_vec_pretty(self)?;
            let mut options = fs::OpenOptions::new();
            options.create(true).truncate(true).write(true).mode(0o600).open(&new)?.write_all(&text)?;
            fs::rename(&new, &path)
        };
        write().map_err(EmbeddedError::io("write", &path))
    }
}
