//! One set per data directory, whoever starts it: the lock, the wait for it to be up, the replacement of an older one.
//!
//! The lock is the truth about who supervises; the state file says how far that one is. Callers never take the lock:
//! they start a supervisor in the background if the state names no living one, and of several started at once all
//! but the one that got the lock go away again.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::error::EmbeddedError;
use super::launch::{Launch, Session, tail};
use super::layout::Layout;
use super::site::{Durability, Site};
use super::state::{Phase, SetState};

/// The subcommand of `ordinaut` that supervises the set until it is told to stop.
pub const SUPERVISE: &str = "supervise";
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Supervisors that end without a word are started this often before the caller hears of it.
const START_ATTEMPTS: u8 = 3;

/// The right to supervise a set, held until dropped or until the process ends in whatever way.
#[derive(Debug)]
pub struct SetLock {
    _file: File,
}

impl SetLock {
    /// Takes the lock; `None` when another process has it.
    pub fn take(layout: &Layout) -> Result<Option<Self>, EmbeddedError> {
        let path = layout.lock_file();
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&path).map_err(EmbeddedError::io("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(EmbeddedError::io("lock", &path)(source)),
        }
    }
}

/// The set that runs here, in whatever phase, if its supervisor lives.
pub fn current(layout: &Layout) -> Option<SetState> {
    SetState::read(layout).filter(|state| state.supervisor.is_alive())
}

/// Asks the set to drain and waits until it is down. False when none was running.
pub async fn stop(layout: &Layout, limit: Duration) -> Result<bool, EmbeddedError> {
    let Some(state) = current(layout) else { return Ok(false) };
    state.supervisor.stop(&[(Signal::SIGTERM, limit)]).await?;
    Ok(true)
}

/// What a caller wants of [`ensure_running`].
#[derive(Debug, Clone)]
pub struct EnsureRunning<'a> {
    pub layout: &'a Layout,
    /// The `ordinaut` program of the caller's own version.
    pub ordinaut: &'a Path,
    /// The caller's version: a set of an older one is replaced.
    pub version: &'a str,
    /// Arguments after `supervise`.
    pub arguments: Vec<OsString>,
    /// How long the caller waits; the set goes on starting without it.
    pub limit: Duration,
}

/// Waits until the set runs, starting it if need be. `on_change` hears of each phase.
///
/// # Errors
/// [`EmbeddedError::StillStarting`] when the limit passes first: calling again goes on waiting.
/// [`EmbeddedError::SetFailed`] with the supervisor's own reason.
pub async fn ensure_running(
    want: &EnsureRunning<'_>,
    mut on_change: impl FnMut(&SetState) + Send,
) -> Result<SetState, EmbeddedError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "before there is a database, this machine's clock dates the state file"
    )]
    let asked_at = Timestamp::now();
    let deadline = Instant::now() + want.limit;
    let mut told: Option<Phase> = None;
    let mut supervisor: Option<Child> = None;
    let mut attempts = 0;
    loop {
        let state = SetState::read(want.layout);
        if let Some(reason) = state.as_ref().and_then(|state| failure_since(state, asked_at)) {
            return Err(EmbeddedError::SetFailed { reason });
        }
        match state.filter(|state| state.supervisor.is_alive()) {
            Some(state) => {
                if told.as_ref() != Some(&state.phase) {
                    on_change(&state);
                    told = Some(state.phase.clone());
                }
                // One that began after the question is the best there is, even when a mixed-up installation has
                // an older `ordinaut` beside the caller: no end of replacing.
                if is_older(&state.version, want.version) && state.started_at < asked_at {
                    if !matches!(state.phase, Phase::Stopping | Phase::Stopped) {
                        state.supervisor.signal(Signal::SIGTERM);
                    }
                } else if state.phase == Phase::Running {
                    return Ok(state);
                }
            }
            None => match supervisor.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => {}
                Some(Ok(Some(_)) | Err(_)) | None if attempts < START_ATTEMPTS => {
                    attempts += 1;
                    supervisor = Some(start_supervisor(want)?);
                }
                Some(_) | None => return Err(EmbeddedError::SetFailed { reason: tail(&want.layout.supervisor_log()) }),
            },
        }
        if Instant::now() >= deadline {
            let phase = told.map_or_else(|| Phase::Preparing.to_string(), |phase| phase.to_string());
            return Err(EmbeddedError::StillStarting { phase, limit: want.limit, log: want.layout.supervisor_log() });
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// The failure that `state` tells of, unless it is from before the caller asked.
fn failure_since(state: &SetState, asked_at: Timestamp) -> Option<String> {
    match &state.phase {
        Phase::Failed { reason } if state.updated_at >= asked_at => Some(reason.clone()),
        _ => None,
    }
}

/// Starts `ordinaut supervise` with nothing of the caller's: it will outlive it.
fn start_supervisor(want: &EnsureRunning<'_>) -> Result<Child, EmbeddedError> {
    let session = Session::Own { ordinaut: want.ordinaut.into() };
    let site = Site::prepare(want.layout.clone(), session, Durability::Durable)?;
    let mut arguments: Vec<OsString> = vec![SUPERVISE.into()];
    arguments.extend(want.arguments.iter().cloned());
    Launch {
        program: want.ordinaut,
        arguments,
        environment: want.layout.variables(),
        account: None,
        session: &site.session,
        log: &want.layout.supervisor_log(),
    }
    .start()
}

/// Compares `major.minor.patch`; what cannot be read is not older.
fn is_older(found: &str, wanted: &str) -> bool {
    let parse = |version: &str| -> Option<[u64; 3]> {
        let release = version.split(['-', '+']).next()?;
        let mut numbers = release.split('.').map(str::parse);
        Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
    };
    parse(found).zip(parse(wanted)).is_some_and(|(found, wanted)| found < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_set_of_an_earlier_version_is_older() {
        assert!(is_older("0.1.0", "0.2.0"));
        assert!(is_older("0.9.3", "0.10.0-rc.1"));
        assert!(!is_older("0.2.0", "0.2.0"));
        assert!(!is_older("1.0.0", "0.2.0"));
        assert!(!is_older("unknown", "0.2.0"));
    }

    #[test]
    fn a_lock_is_held_once_and_is_free_again_when_dropped() {
        let data_dir = std::env::temp_dir().join(format!("ordinaut-lock-{}", std::process::id()));
        std::fs::create_dir(&data_dir).unwrap();
        let layout = Layout::from_lookup(1, |name| (name == "ORDINAUT_DATA_DIR").then(|| data_dir.clone().into()));

        let held = SetLock::take(&layout).unwrap().unwrap();
        assert!(SetLock::take(&layout).unwrap().is_none());
        drop(held);
        assert!(SetLock::take(&layout).unwrap().is_some());

        std::fs::remove_dir_all(data_dir).unwrap();
    }

    #[test]
    fn an_old_failure_is_not_reported_again() {
        #[expect(
            clippy::disallowed_methods,
            reason = "before there is a database, this machine's clock dates the state file"
        )]
        let asked_at = Timestamp::now();
        let mut state = SetState::begin("0.1.0", Timestamp::UNIX_EPOCH);
        state.phase = Phase::Failed { reason: "no PostgreSQL".into() };
        assert_eq!(failure_since(&state, asked_at), None);
        state.updated_at = asked_at;
        assert_eq!(failure_since(&state, asked_at).as_deref(), Some("no PostgreSQL"));
    }
}
