//! Executors as real processes, which are killed, stopped, set going again and drained.
//!
//! Each start is a new name: it logs in to PostgreSQL under it, and what it does there is told apart from what the one
//! before it does.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{
    checker::{Finding, Wrong},
    lab::Lab,
    witness,
};

/// The most memory that an executor has use for, debugged, whatever its steps call: it was seen to take 70 to 110.
const MOST_MB: u64 = 300;

/// One executor.
#[derive(Debug)]
pub struct Executor {
    /// What it logs in as.
    pub name: String,
    child: Child,
}

/// Numbers executors of one lab.
#[derive(Debug, Default)]
pub struct Names(AtomicUsize);

impl Executor {
    /// Starts one as people do; `environment` comes on top.
    pub fn start(lab: &Lab, environment: &[(OsString, OsString)]) -> anyhow::Result<Self> {
        Self::start_program(lab, &program("ordinaut-executor")?, environment)
    }

    /// The same, of another build.
    pub fn start_program(lab: &Lab, program: &Path, environment: &[(OsString, OsString)]) -> anyhow::Result<Self> {
        let number = lab.names.0.fetch_add(1, Ordering::Relaxed) + 1;
        anyhow::ensure!(number <= witness::NAMES, "a lab knows {} executors by name", witness::NAMES);
        let name = format!("executor_{number}");
        let log = File::create(lab.directory.join(format!("{name}.log"))).context("make an executor's log")?;
        let child = Command::new(program)
            .env_clear()
            .env("PATH", path())
            .env("HOME", &lab.directory)
            .env("ORDINAUT_CONFIG_DIR", &lab.directory)
            .env("DATABASE_URL", lab.url_as(&name))
            .env("REDIS_URL", lab.servers.redis_url())
            .env("ORDINAUT_HTTP_ALLOW", lab.sink.address.to_string())
            .env("ORDINAUT_EXECUTOR_LISTEN", "127.0.0.1:0")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start an executor")?;
        Ok(Self { name, child })
    }

    /// Ends it without a warning.
    pub async fn kill(mut self, lab: &Lab) -> anyhow::Result<()> {
        lab.disturb(Some(&self.name));
        self.child.kill().await.context("kill an executor")
    }

    /// Takes it off the processor where it stands.
    pub fn stop(&self, lab: &Lab) -> anyhow::Result<()> {
        lab.disturb(Some(&self.name));
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on as if nothing had been.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Asks it to end in order, and waits until it has.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.child.wait().await.context("wait for an executor")?;
        if !status.success() {
            bail!("{} was asked to end in order and ended with {status}", self.name);
        }
        Ok(())
    }

    /// Its process.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("an executor ended by itself")
    }

    /// That it took more memory at some time than it may, if it did.
    pub fn swollen(&self) -> anyhow::Result<Option<Finding>> {
        let peak_mb = memory_kb(self.id()?, "VmHWM")? / 1024;
        let what = format!("{} took {peak_mb} MB, and may take {MOST_MB}", self.name);
        Ok((peak_mb > MOST_MB).then_some(Finding { wrong: Wrong::Swollen, what }))
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.id()?)?), signal).context("signal an executor")
    }
}

/// What Linux says of a process's memory, by the name of a line of `/proc/PID/status` (proc_pid_status(5)).
pub fn memory_kb(pid: u32, line: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("look at a program's memory")?;
    let found = status.lines().find_map(|said| said.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
    found.and_then(|kb| kb.trim().parse().ok()).with_context(|| format!("no {line} of process {pid}"))
}

/// So many executors as people have them.
pub fn start(lab: &Lab, count: usize) -> anyhow::Result<Vec<Executor>> {
    (0..count).map(|_| Executor::start(lab, &[])).collect()
}

/// So many whose leases are short, so that recovery need not be waited for.
pub fn start_brief(lab: &Lab, count: usize) -> anyhow::Result<Vec<Executor>> {
    (0..count).map(|_| Executor::start(lab, &brief())).collect()
}

/// What makes an executor's leases short.
pub fn brief() -> [(OsString, OsString); 1] {
    [("ORDINAUT_LEASE".into(), "2s".into())]
}

/// A built program of the workspace: beside this one, or above it for a test.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    let found = this.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: `cargo build -p ordinaut-executor -p ordinaut-mcp` first"))
}

static OLDER: OnceLock<PathBuf> = OnceLock::new();

/// Names the directory with the programs of an earlier version.
///
/// # Panics
/// It was named before.
pub fn set_older(directory: PathBuf) {
    OLDER.set(directory).expect("it is named once, when the lab begins");
}

/// Where the programs of an earlier version are, if somebody said so.
pub fn older() -> Option<&'static Path> {
    OLDER.get().map(PathBuf::as_path)
}

/// Where programs are looked for.
#[expect(clippy::disallowed_methods, reason = "the lab is the edge: its children get a cleared environment and this")]
pub fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// What went so wrong in an executor that it says so: panics.
pub fn panics(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut said = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            said.extend(text.lines().filter(|line| line.contains("panicked")).map(|line| format!("{name}: {line}")));
        }
    }
    Ok(said)
}
