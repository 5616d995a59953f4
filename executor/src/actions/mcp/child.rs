//! The process of an MCP server on stdio: a cleared environment, its own process group, a hard end.
//!
//! Servers start children of their own (`npx`, `uvx`, browsers). Those outlive a killed leader, and hold its pipes
//! open, so that its crash would go unnoticed: a task minds the leader, and the moment it is gone, for whatever
//! reason, the whole group is killed.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{OsStr, OsString},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::sys::signal::Signal;
use ordinaut_schema::secret::Redactor;
use tokio::{
    io::AsyncReadExt,
    process::{ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::actions::group::{Group, Surroundings, lead};

/// What is kept of standard error, for the message when a server dies.
const LAST_WORDS_BYTES: usize = 2048;

/// A running server process. Dropping it kills the group at once.
pub(super) struct Child {
    ending: CancellationToken,
    gone: CancellationToken,
    last_words: Arc<Mutex<VecDeque<u8>>>,
    minding: JoinSet<()>,
    _listening: JoinSet<()>,
}

/// What a child gets to know, besides its entry's own `env`.
pub(super) struct Start<'a> {
    pub(super) command: &'a str,
    pub(super) args: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) cwd: Option<&'a str>,
    /// Of `PASSED_ON`.
    pub(super) environment: &'a BTreeMap<String, OsString>,
}

impl Child {
    /// `grace` is what the process gets to end by itself, and again after SIGTERM.
    pub(super) fn start(start: &Start<'_>, grace: Duration) -> std::io::Result<(ChildStdout, ChildStdin, Self)> {
        let mut command = Command::new(start.command);
        command.args(start.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let directory = start.cwd.map(OsStr::new);
        let around = Surroundings { environment: start.environment, own: start.env, directory };
        let (mut process, group) = lead(command, &around)?;
        let stdout = process.stdout.take().expect("stdout is piped");
        let stdin = process.stdin.take().expect("stdin is piped");
        let stderr = process.stderr.take().expect("stderr is piped");
        let (ending, gone, last_words) = (CancellationToken::new(), CancellationToken::new(), Arc::default());
        let (mut minding, mut listening) = (JoinSet::new(), JoinSet::new());
        listening.spawn(listen(stderr, Arc::clone(&last_words)));
        let (asked, signal) = (ending.clone(), gone.clone().drop_guard());
        minding.spawn(async move {
            mind(process, group, asked, grace).await;
            drop(signal);
        });
        Ok((stdout, stdin, Self { ending, gone, last_words, minding, _listening: listening }))
    }

    /// Whether the leader has ended. Its pipes may live on, in a child that left the group.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// The last line it wrote to standard error.
    pub(super) fn last_words(&self, redactor: &Redactor) -> Option<String> {
        let mut bytes = self.last_words.lock().expect("never poisoned: no panic while held").clone();
        last_line(bytes.make_contiguous(), redactor)
    }

    /// Ends the server, whose input is closed, and waits until nobody of its group is left.
    pub(super) async fn end(mut self) {
        self.ending.cancel();
        // An `Err` would be a panic, and the group dies with it, too.
        let _joined = self.minding.join_next().await;
    }
}

/// Sees the leader out, then kills whoever of the group is left. Nothing may stand between the two: where the group has
/// no guard, once the leader has been waited for, its id, and with it the group's, is free for others.
async fn mind(mut process: tokio::process::Child, group: Group, ending: CancellationToken, grace: Duration) {
    if ending.run_until_cancelled(process.wait()).await.is_none() && timeout(grace, process.wait()).await.is_err() {
        group.signal(Signal::SIGTERM);
        if timeout(grace, process.wait()).await.is_err() {
            drop(group);
            // Killed, so this ends; unless the kernel cannot end it, and then nobody can.
            let _reaped = timeout(grace, process.wait()).await;
            return;
        }
    }
    drop(group);
}

/// The last line, without secrets, which go first: a value that is cut in two is not found any more. So where the beginning of what was
/// written is gone, the line that it was in tells nothing.
fn last_line(bytes: &[u8], redactor: &Redactor) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let whole = if bytes.len() < LAST_WORDS_BYTES { &*text } else { text.split_once('\n')?.1 };
    let text = redactor.text(whole);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(300).collect())
}

/// Reads standard error to its end, so that the server never blocks on it; keeps the last of it.
async fn listen(mut stderr: ChildStderr, last_words: Arc<Mutex<VecDeque<u8>>>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        let mut kept = last_words.lock().expect("never poisoned: no panic while held");
        kept.extend(&chunk[..read]);
        let excess = kept.len().saturating_sub(LAST_WORDS_BYTES);
        kept.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_hold_no_part_of_a_secret_wherever_they_are_cut() {
        let redactor = Redactor::new([("KEY", "s3cr3t-value")]);
        let at_the_end = format!("starting\n{} s3cr3t-value", "x".repeat(290));
        let at_the_start = format!("r3t-value {}", "x".repeat(LAST_WORDS_BYTES - 10));
        for text in [at_the_end, at_the_start] {
            let words = last_line(text.as_bytes(), &redactor).unwrap_or_default();
            assert!(!words.contains("s3c") && !words.contains("r3t"), "{words}");
        }
        assert_eq!(last_line(b"starting\nno key\n\n", &redactor).as_deref(), Some("no key"));
    }
}
