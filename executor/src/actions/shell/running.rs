//! One program, from its start to the end of everything it started.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::actions::group::{Surroundings, lead};

/// How long the pipes of a program that is gone are read on: somebody may have left its group and hold them open.
const ECHO: Duration = Duration::from_millis(500);
const CHUNK_BYTES: usize = 8 * 1024;

/// What is to be run.
pub(super) struct Program<'a> {
    /// Never empty.
    pub(super) argv: &'a [String],
    pub(super) args: &'a [String],
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) directory: Option<&'a str>,
    pub(super) environment: &'a BTreeMap<String, OsString>,
    pub(super) own: &'a BTreeMap<String, String>,
}

/// How it came to an end. In all cases but the first it was killed.
pub(super) enum End {
    Exited(ExitStatus),
    TimedOut,
    Cancelled,
    TooMuch,
}

/// What it wrote.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Program<'_> {
    /// Runs it. Dropping the future kills it and its children.
    ///
    /// # Errors
    /// It could not be started.
    pub(super) async fn run(
        self,
        deadline: Instant,
        cancelled: &CancellationToken,
        most_bytes: usize,
    ) -> io::Result<(End, Heard)> {
        let mut command = Command::new(&self.argv[0]);
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(&self.argv[1..]).args(self.args).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let directory = self.directory.map(OsStr::new);
        let (mut leader, group) =
            lead(command, &Surroundings { environment: self.environment, own: self.own, directory })?;
        let (stdout, stderr) = (leader.stdout.take(), leader.stderr.take());
        let (stdout, stderr) = (stdout.expect("stdout is piped"), stderr.expect("stderr is piped"));

        let mut heard = Heard::default();
        let end = {
            let feeding = feed(leader.stdin.take(), self.stdin.unwrap_or_default());
            let hearing = hear(stdout, stderr, &mut heard, most_bytes);
            tokio::pin!(feeding, hearing);
            let (mut fed, mut heard_out) = (false, false);
            let end = loop {
                tokio::select! {
                    biased;
                    () = cancelled.cancelled() => break End::Cancelled,
                    () = sleep_until(deadline) => break End::TimedOut,
                    within = &mut hearing, if !heard_out => match within {
                        Ok(()) => heard_out = true,
                        Err(TooMuch) => break End::TooMuch,
                    },
                    () = &mut feeding, if !fed => fed = true,
                    status = leader.wait() => break End::Exited(status?),
                }
            };
            // Whoever it left behind goes with it, and with them the pipes end.
            drop(group);
            match end {
                End::Exited(_) if !heard_out => match timeout(ECHO, hearing).await {
                    Ok(Err(TooMuch)) => End::TooMuch,
                    Ok(Ok(())) | Err(_) => end,
                },
                End::Exited(_) => end,
                End::TimedOut | End::Cancelled | End::TooMuch => {
                    // Killed, so this ends; unless the kernel cannot end it, and then nobody can.
                    let _reaped = timeout(ECHO, leader.wait()).await;
                    end
                }
            }
        };
        Ok((end, heard))
    }
}

/// More was written than is kept.
struct TooMuch;

/// Hears both pipes out.
async fn hear(
    mut stdout: ChildStdout,
    mut stderr: ChildStderr,
    heard: &mut Heard,
    most_bytes: usize,
) -> Result<(), TooMuch> {
    let (mut out, mut err) = (true, true);
    while out || err {
        heard.stdout.reserve(CHUNK_BYTES);
        heard.stderr.reserve(CHUNK_BYTES);
        tokio::select! {
            read = stdout.read_buf(&mut heard.stdout), if out => out = matches!(read, Ok(1..)),
            read = stderr.read_buf(&mut heard.stderr), if err => err = matches!(read, Ok(1..)),
        }
        if heard.stdout.len() + heard.stderr.len() > most_bytes {
            return Err(TooMuch);
        }
    }
    Ok(())
}

/// Gives the program its input, then the end of it.
async fn feed(stdin: Option<ChildStdin>, input: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        // Who reads no further needs no more of it.
        let _unread = stdin.write_all(&input).await;
    }
}
