//! A program that is run for a step: a cleared environment, a process group of its own, and a hard end for all of it.
//!
//! Programs start children of their own, which outlive a killed leader and hold its pipes open. So the group is killed
//! as a whole, by [`Group`]'s drop: whatever becomes of the call, nobody of it is left. Only who leaves the group on
//! purpose (`setsid`) escapes.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// What of the executor's own environment a program may see.
pub const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// A process group that does not outlive this value.
pub(super) struct Group(Pid);

impl Group {
    pub(super) fn signal(&self, signal: Signal) {
        // Fails where nobody is left in the group, which is what we want.
        let _ = killpg(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// What a program gets to know and where it works, besides its arguments and pipes.
pub(super) struct Surroundings<'a> {
    /// Of [`PASSED_ON`].
    pub(super) environment: &'a BTreeMap<String, OsString>,
    pub(super) own: &'a BTreeMap<String, String>,
    /// HOME where none is named.
    pub(super) directory: Option<&'a OsStr>,
}

/// Starts a program as the leader of a new group.
pub(super) fn lead(mut command: Command, around: &Surroundings<'_>) -> io::Result<(Child, Group)> {
    command.env_clear().envs(around.environment).envs(around.own).process_group(0).kill_on_drop(true);
    if let Some(directory) = around.directory.or_else(|| Some(around.environment.get("HOME")?.as_os_str())) {
        command.current_dir(directory);
    }
    let leader = command.spawn()?;
    let id = leader.id().expect("a process that was not waited for has an id");
    let group = Group(Pid::from_raw(i32::try_from(id).expect("process ids are positive i32")));
    Ok((leader, group))
}
