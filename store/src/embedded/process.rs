//! Processes that outlive the program which started them, told apart from later ones under the same number.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::error::EmbeddedError;

/// How often a process that is not our child is looked at; there is no portable way to be told.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A process and when it was born, so that a reused number is never taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    born: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pid.fmt(f)
    }
}

impl Process {
    /// Finds the living process `pid`; one that ended and was not yet reaped does not live.
    pub fn find(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            born: if Path::new("/proc/self/stat").exists() { born_by_proc(pid) } else { born_by_ps(pid) }?,
        })
    }

    /// Finds the process of `child`, unless it ended already.
    pub fn of_child(child: &tokio::process::Child) -> Option<Self> {
        Self::find(i32::try_from(child.id()?).ok()?)
    }

    /// The calling process.
    pub fn current() -> Self {
        let pid = nix::unistd::getpid().as_raw();
        Self::find(pid).unwrap_or(Self { pid, born: String::new() })
    }

    pub fn is_alive(&self) -> bool {
        Self::find(self.pid).is_some_and(|found| found == *self)
    }

    /// The file name of its program, as far as the system tells.
    pub(crate) fn program(&self) -> Option<String> {
        match fs::read_to_string(format!("/proc/{}/comm", self.pid)) {
            Ok(name) => Some(name.trim().to_owned()),
            Err(_) => ps(self.pid, "comm="),
        }
    }

    /// Signals the process if it still is the one that was meant.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end between the look and the signal: then there is nothing to tell.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits until the process is gone; false when `limit` came first.
    pub async fn gone_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_INTERVAL).await;
        }
        true
    }

    /// Ends the process by ever firmer signals, each with its limit.
    pub async fn stop(&self, steps: &[(Signal, Duration)]) -> Result<(), EmbeddedError> {
        for (signal, limit) in steps {
            self.signal(*signal);
            if self.gone_within(*limit).await {
                return Ok(());
            }
        }
        Err(EmbeddedError::DoesNotStop { pid: self.pid, limit: steps.iter().map(|(_, limit)| *limit).sum() })
    }
}

/// Boot and start instant in clock ticks: unique, and still right when a package upgrade replaced the program's file.
fn born_by_proc(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may hold anything, so the fields are counted from its last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{}@{}", fields.nth(18)?, boot.trim()))
}

fn born_by_ps(pid: i32) -> Option<String> {
    let state = ps(pid, "stat=")?;
    if state.starts_with('Z') { None } else { ps(pid, "lstart=") }
}

fn ps(pid: i32, column: &str) -> Option<String> {
    let output =
        std::process::Command::new("ps").args(["-p", &pid.to_string(), "-o", column]).env("LC_ALL", "C").output();
    let answer = String::from_utf8(output.ok()?.stdout).ok()?.trim().to_owned();
    Some(answer).filter(|answer| !answer.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive() {
        assert!(Process::current().is_alive());
    }

    #[test]
    fn another_process_under_the_same_number_is_not_the_one_that_was_meant() {
        let earlier = Process { born: "before".into(), ..Process::current() };
        assert!(!earlier.is_alive());
    }

    #[tokio::test]
    async fn a_child_that_ended_is_gone_even_before_it_is_reaped() {
        let mut child = tokio::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process::of_child(&child).unwrap();

        process.stop(&[(Signal::SIGKILL, Duration::from_secs(10))]).await.unwrap();

        assert!(!process.is_alive());
        child.wait().await.unwrap();
    }
}
