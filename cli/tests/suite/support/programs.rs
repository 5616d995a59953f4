//! The built programs, driven as people do: a private database, an environment of their own, real output.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ordinaut_store::testing::{Database, database};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Nothing here takes so long, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A built program of the workspace.
pub(crate) fn program(name: &str) -> PathBuf {
    let found = Path::new(env!("CARGO_BIN_EXE_ordinaut")).with_file_name(name);
    assert!(found.is_file(), "{} is missing: run `cargo build --workspace --bins` first", found.display());
    found
}

/// The directories in which programs are looked for, for children whose environment is cleared.
pub(crate) fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// Its JSON, from a command that did what it was asked.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.parsed()
    }

    pub(crate) fn parsed(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The command line over a database of the test's own.
pub(crate) struct CommandLine {
    pub(crate) database: Database,
    pub(crate) directory: PathBuf,
}

impl CommandLine {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(format!("/tmp/ordinaut-cli-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        Self { database: database().await, directory }
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Answer {
        self.run_with(arguments, "").await
    }

    /// Runs a command with `input` on its stdin.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Answer {
        let mut command = bare(&self.directory);
        command.env("DATABASE_URL", &self.database.url);
        finish(command, arguments, input).await
    }

    /// Writes a file that only this test sees.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for CommandLine {
    fn drop(&mut self) {
        // A test that failed may have removed it, or not have come to make it.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// `ordinaut` with nothing of this process's environment, and data of its own under `directory`.
pub(crate) fn bare(directory: &Path) -> Command {
    let mut command = Command::new(program("ordinaut"));
    command
        .current_dir(repository())
        .env_clear()
        .env("PATH", path())
        .env("TZ", "Europe/Chisinau")
        .env("ORDINAUT_DATA_DIR", directory.join("data"))
        .env("ORDINAUT_RUNTIME_DIR", directory.join("run"))
        .env("ORDINAUT_CONFIG_DIR", directory.join("config"))
        .kill_on_drop(true);
    command
}

pub(crate) async fn finish(mut command: Command, arguments: &[&str], input: &str) -> Answer {
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the command ends").unwrap();
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
