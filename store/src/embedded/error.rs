//! Why the embedded set could not be had, in words that a person can act on.

use std::path::PathBuf;
use std::time::Duration;

/// Why the embedded PostgreSQL, Redis or their supervisor could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("{program} is not installed: install it with `{command}`, or set {variable} to a server of your own")]
    Missing { program: &'static str, command: String, variable: &'static str },
    /// The directory is left untouched.
    #[error(
        "the data in {} was written by PostgreSQL {found}, and {installed}: install the package `{package}` (the data \
         is untouched), or move it over with pg_upgrade or pg_dump",
        path.display()
    )]
    OtherMajor { path: PathBuf, found: String, installed: String, package: String },
    #[error("{} cannot be used: {reason}", path.display())]
    Directory { path: PathBuf, reason: String },
    #[error(
        "the socket path {} has {length} bytes, and the system allows {limit}: set ORDINAUT_RUNTIME_DIR to a \
         shorter directory",
        path.display()
    )]
    SocketPathTooLong { path: PathBuf, length: usize, limit: usize },
    #[error("could not {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{program} ended at once; the end of its log:\n{log}")]
    Ended { program: &'static str, log: String },
    #[error("{program} did not answer within {limit:?}; the end of its log:\n{log}")]
    NotReady { program: &'static str, limit: Duration, log: String },
    #[error("could not {doing}")]
    Database { doing: &'static str, source: sqlx::Error },
    #[error("Ordinaut already runs here (process {pid})")]
    AlreadyRunning { pid: i32 },
    /// What the supervisor in the background left in its state.
    #[error("Ordinaut could not start: {reason}")]
    SetFailed { reason: String },
    #[error("Ordinaut is still {phase} after {limit:?}; it goes on by itself, and {} says more", log.display())]
    StillStarting { phase: String, limit: Duration, log: PathBuf },
    #[error("the process {pid} does not stop within {limit:?}")]
    DoesNotStop { pid: i32, limit: Duration },
}

impl EmbeddedError {
    /// Completes "could not": `.map_err(EmbeddedError::io("read", path))`.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
