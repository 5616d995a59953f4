//! The programs that are measured, as processes that end with what holds them.

use std::{
    env,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process that ends with this.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let shown = format!("{command:?}");
        Ok(Self(command.spawn().with_context(|| format!("start {shown}"))?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as a supervisor does, and waits until it has.
    pub(crate) fn stop(mut self) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the programs lie, beside this one.
pub(crate) fn programs(wanted: &[&str]) -> anyhow::Result<PathBuf> {
    let beside = env::current_exe().context("where this program is")?;
    let beside = beside.parent().context("a program lies in a directory")?.to_path_buf();
    for program in wanted {
        if !beside.join(program).exists() {
            bail!("{program} is not in {}: `./just bench` builds it", beside.display());
        }
    }
    Ok(beside)
}

/// For what the programs write.
pub(crate) fn tempdir(name: &str) -> anyhow::Result<PathBuf> {
    let at = env::temp_dir().join(format!("ordinaut-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&at).with_context(|| format!("make {}", at.display()))?;
    Ok(at)
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("look for a port")?;
    Ok(listener.local_addr().context("look at the port")?.port())
}
