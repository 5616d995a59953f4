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

/// MiB of a process, as Linux counts it.
pub(crate) fn memory(process: u32, what: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).context("read what it takes")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("{what} is not told of process {process}"))?;
    Ok(kib / 1024.0)
}

/// Seconds of processor time that a process has had, with those of its children that ended.
pub(crate) fn processor_time(process: u32) -> anyhow::Result<f64> {
    // The 12th to 15th are ticks of a hundredth.
    let ticks = stat(process)?[11..15].iter().map(|ticks| ticks.parse::<u32>()).sum::<Result<u32, _>>()?;
    Ok(f64::from(ticks) / 100.0)
}

/// The processes that it started and that live.
pub(crate) fn children(process: u32) -> anyhow::Result<Vec<u32>> {
    let all = std::fs::read_dir("/proc").context("list processes")?;
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // Some end while they are looked at.
    Ok(all.filter(|it| stat(*it).is_ok_and(|stat| stat[1] == process.to_string())).collect())
}

/// What Linux says of a process behind its name, which may hold anything.
fn stat(process: u32) -> anyhow::Result<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).context("read what it had")?;
    let (_, fields) = stat.rsplit_once(')').context("its name is in brackets")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}
