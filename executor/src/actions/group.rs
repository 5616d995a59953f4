//! A program that is run for a step: a cleared environment, a process group of its own, and a hard end for all of it.
//!
//! Programs start children of their own, which outlive a killed leader and hold its pipes open. So the group is killed
//! as a whole, by [`Group`]'s drop: whatever becomes of the call, nobody of it is left. Only who leaves the group on
//! purpose (`setsid`) escapes.
//!
//! An executor that is killed drops nothing. So each group has a guard, which leads it: a shell that reads from a pipe
//! which nobody writes to. The pipe ends with the executor, whatever that dies of, and then the guard kills the group.
//! (The kernel's own signal at a parent's death goes to the program alone, not to its children, and asks for the thread
//! that started it.)

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};
use tracing::warn;

/// What of the executor's own environment a program may see.
pub const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// What the guard does. Who asks the group to end, politely, does not mean it.
const GUARD: &str = "trap '' HUP INT QUIT TERM; read -r _; kill -KILL 0";

/// A process group that does not outlive this value, nor this process.
pub(super) struct Group {
    id: Pid,
    /// Holds the pipe.
    _guard: Option<Child>,
}

impl Group {
    pub(super) fn signal(&self, signal: Signal) {
        // Fails where nobody is left in the group, which is what we want.
        let _ = killpg(self.id, signal);
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

/// Starts a guard, as the leader of a new group.
fn guard() -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", GUARD])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

fn id_of(process: &Child) -> i32 {
    let id = process.id().expect("a process that was not waited for has an id");
    i32::try_from(id).expect("process ids are positive i32")
}

/// Starts a program in a new group; the child is the program.
pub(super) fn lead(mut command: Command, around: &Surroundings<'_>) -> io::Result<(Child, Group)> {
    let refused = |error: &io::Error| {
        warn!(error = error as &dyn std::error::Error, "a program is run without a guard: /bin/sh did not start");
    };
    let guard = guard().inspect_err(refused).ok();
    // Without a guard the program leads.
    let led_by = guard.as_ref().map_or(0, id_of);
    command.env_clear().envs(around.environment).envs(around.own).process_group(led_by).kill_on_drop(true);
    if let Some(directory) = around.directory.or_else(|| Some(around.environment.get("HOME")?.as_os_str())) {
        command.current_dir(directory);
    }
    let program = command.spawn()?;
    let id = Pid::from_raw(guard.as_ref().map_or_else(|| id_of(&program), id_of));
    Ok((program, Group { id, _guard: guard }))
}
