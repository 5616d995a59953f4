//! Starts processes that have nothing of ours: own session, no descriptors, a cleared environment, a log file.
//!
//! A new session needs `setsid` between fork and exec, which only `unsafe` code can place there. So the `ordinaut`
//! program stands in between: `ordinaut enter-session` is started first, calls [`enter_session`], and becomes the
//! program that was meant. Tests, which have no such program at hand, make do with a process group.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::Account;
use super::error::EmbeddedError;

/// The hidden subcommand of `ordinaut` that calls [`enter_session`].
pub const ENTER_SESSION: &str = "enter-session";
/// A log larger than this is set aside when its program starts; one older log is kept.
const LOG_LIMIT: u64 = 8 << 20;
/// A running program's log is cut beyond this.
const RUNNING_LOG_LIMIT: u64 = 32 << 20;
const TAIL_BYTES: u64 = 2_048;

/// How far a child is set apart from its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Session {
    /// A session of its own, entered by way of this `ordinaut` program.
    Own { ordinaut: PathBuf },
    /// A process group of its own; enough against the signals of a terminal.
    Group,
}

/// A program about to be started.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    pub program: &'a Path,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    pub account: Option<&'a Account>,
    pub session: &'a Session,
    pub log: &'a Path,
}

impl Launch<'_> {
    /// Starts it. The child is not ended when the answer is dropped.
    pub fn start(&self) -> Result<tokio::process::Child, EmbeddedError> {
        let log = open_log(self.log)?;
        let errors = log.try_clone().map_err(EmbeddedError::io("open", self.log))?;

        let mut command = match self.session {
            Session::Own { ordinaut } => {
                let mut command = Command::new(ordinaut);
                let (uid, gid) = self
                    .account
                    .map_or(("-".into(), "-".into()), |account| (account.uid.to_string(), account.gid.to_string()));
                command.args([ENTER_SESSION, &uid, &gid]).arg(self.program);
                command
            }
            Session::Group => {
                let mut command = Command::new(self.program);
                if let Some(account) = self.account {
                    command.uid(account.uid).gid(account.gid);
                }
                command.process_group(0);
                command
            }
        };
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        tokio::process::Command::from(command).spawn().map_err(EmbeddedError::io("start", self.program))
    }
}

/// Becomes the leader of a new session, drops every inherited descriptor, and turns into the program named.
///
/// `arguments` are what follows [`ENTER_SESSION`]: user and group number or `-`, the program, its arguments. Returns
/// only when that failed. To be called before anything was opened or any thread was started.
pub fn enter_session(arguments: impl IntoIterator<Item = OsString>) -> io::Error {
    let mut arguments = arguments.into_iter();
    let (Some(uid), Some(gid), Some(program)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return io::Error::new(io::ErrorKind::InvalidInput, "enter-session needs a user, a group and a program");
    };
    // Refused to the leader of a group, who was started from a shell and is set apart enough.
    let _ = nix::unistd::setsid();
    for descriptor in inherited_descriptors() {
        // The listing's own descriptor is closed by now; any other one that cannot be closed is no worse for it.
        let _ = nix::unistd::close(descriptor);
    }

    let mut command = Command::new(program);
    command.args(arguments);
    if let (Some(uid), Some(gid)) = (number(&uid), number(&gid)) {
        command.uid(uid).gid(gid);
    }
    command.exec()
}

fn number(argument: &OsString) -> Option<u32> {
    argument.to_str()?.parse().ok()
}

fn inherited_descriptors() -> Vec<RawFd> {
    let listing = fs::read_dir("/dev/fd").map(|entries| {
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(|descriptor| *descriptor > 2)
    });
    listing.map(Iterator::collect).unwrap_or_default()
}

/// Cuts the logs that have grown too large while their programs run; what was in them is kept once.
///
/// Every log is written in append mode, so its writer goes on at the new end.
pub fn trim_logs(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_large = path.metadata().is_ok_and(|found| found.len() > RUNNING_LOG_LIMIT);
        if path.extension().is_none_or(|extension| extension != "log") || !is_large {
            continue;
        }
        let trim = || -> io::Result<()> {
            fs::copy(&path, path.with_extension("log.1"))?;
            OpenOptions::new().write(true).open(&path)?.set_len(0)
        };
        if let Err(error) = trim() {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not cut the log {}", path.display());
        }
    }
}

/// Opens a log for appending, setting aside one that has grown too large.
pub(crate) fn open_log(path: &Path) -> Result<File, EmbeddedError> {
    if path.metadata().is_ok_and(|found| found.len() > LOG_LIMIT) {
        fs::rename(path, path.with_extension("log.1")).map_err(EmbeddedError::io("set aside", path))?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path).map_err(EmbeddedError::io("open the log", path))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("(the log {} cannot be read: {error})", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_programs_large_log_is_cut_and_written_on() {
        use std::io::Write;

        let directory = std::env::temp_dir().join(format!("ordinaut-trim-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("executor.log");
        let mut log = open_log(&path).unwrap();
        log.set_len(RUNNING_LOG_LIMIT + 1).unwrap();

        trim_logs(&directory);
        log.write_all(b"on it goes").unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"on it goes");
        assert!(directory.join("executor.log.1").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
