//! The embedded set, for real, driven the way a chat does: `ensure_running` with the built `ordinaut`.
//!
//! Executor and MCP server are stand-ins beside a copy of the program: what is tested is who starts, watches and
//! stops them.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid, getsid};
use ordinaut_store::embedded::{self, EmbeddedError, EnsureRunning, Layout, Phase, SetState, ensure_running};

const LIMIT: Duration = Duration::from_mins(2);
const VERSION: &str = env!("CARGO_PKG_VERSION");
const EXECUTOR: &str = "#!/bin/sh
env >&2
echo descriptors: $(ls -1 /dev/fd | tr '\\n' ' ') >&2
trap 'echo drained >&2; exit 0' TERM
while :; do sleep 0.1; done
";
/// Something that listens where it is told to, and is there wherever the embedded set is.
const MCP: &str = "#!/bin/sh
PATH=$PATH:/usr/bin:/opt/homebrew/bin
server=$(command -v redis-server || command -v valkey-server)
exec \"$server\" --bind 127.0.0.1 --port \"${ORDINAUT_HTTP_ADDR##*:}\" --save ''
";

/// An installation with its own data, taken down with the test.
struct Installation {
    root: PathBuf,
    layout: Layout,
}

impl Installation {
    fn new(name: &str) -> Self {
        let root = PathBuf::from(format!("/tmp/ordinaut-set-{name}-{}", std::process::id()));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("own.toml"), "").unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o711)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_ordinaut"), root.join("ordinaut")).unwrap();
        for (name, text) in [("ordinaut-executor", EXECUTOR), ("ordinaut-mcp", MCP)] {
            fs::write(root.join(name), text).unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let layout = Layout::from_lookup(geteuid().as_raw(), |name| match name {
            "ORDINAUT_DATA_DIR" => Some(root.join("data").into()),
            "ORDINAUT_RUNTIME_DIR" => Some(root.join("run").into()),
            "ORDINAUT_CONFIG_DIR" => Some(root.join("config").into()),
            "ORDINAUT_CONFIG" => Some(root.join("own.toml").into()),
            "PATH" => std::env::var_os("PATH"),
            _ => None,
        });
        Self { root, layout }
    }

    async fn ensure(&self, version: &str) -> Result<SetState, EmbeddedError> {
        let ordinaut = self.root.join("ordinaut");
        let want = EnsureRunning {
            layout: &self.layout,
            ordinaut: &ordinaut,
            version,
            arguments: vec!["--mcp-port".into(), "0".into()],
            limit: LIMIT,
        };
        ensure_running(&want, |_| {}).await
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.layout.log_dir().join(name)).unwrap_or_default()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(state) = embedded::current(&self.layout) {
            state.supervisor.signal(Signal::SIGTERM);
            let deadline = Instant::now() + LIMIT;
            while state.supervisor.is_alive() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // A failed test leaves its logs for whoever looks into it.
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.root).unwrap();
        }
    }
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn three_chats_at_once_share_one_set() {
    let installation = Installation::new("share");

    let (one, two, three) =
        tokio::join!(installation.ensure(VERSION), installation.ensure(VERSION), installation.ensure(VERSION));

    let one = one.unwrap();
    assert_eq!(one.phase, Phase::Running);
    assert_eq!(one.supervisor, two.unwrap().supervisor);
    assert_eq!(one.supervisor, three.unwrap().supervisor);
    assert!(one.mcp_http.unwrap().ip().is_loopback());
    let again = installation.ensure(VERSION).await.unwrap();
    assert_eq!(again, one);
}

#[tokio::test]
async fn every_process_of_the_set_has_a_session_of_its_own_and_nothing_of_the_chat() {
    let installation = Installation::new("session");

    let state = installation.ensure(VERSION).await.unwrap();

    let processes = [Some(state.supervisor), state.postgres, state.redis, state.executor, state.mcp];
    for process in processes.map(Option::unwrap) {
        assert_eq!(getsid(Some(Pid::from_raw(process.pid))).unwrap().as_raw(), process.pid);
    }
    let log = eventually("the executor's environment", || async {
        Some(installation.log("executor.log")).filter(|log| log.contains("descriptors:"))
    })
    .await;
    let known = ["DATABASE_URL", "REDIS_URL", "HOME", "PATH", "LANG", "TZ", "PWD", "OLDPWD", "SHLVL", "_"];
    for line in log.lines().take_while(|line| !line.starts_with("descriptors:")) {
        let name = line.split('=').next().unwrap();
        assert!(known.contains(&name) || name.starts_with("ORDINAUT_"), "{line}");
    }
    let named = format!("ORDINAUT_CONFIG={}", installation.root.join("own.toml").display());
    assert!(log.lines().any(|line| line == named), "the file that a person named reaches who is to read it: {log}");
}

#[tokio::test]
async fn after_a_killed_supervisor_the_next_chat_adopts_the_servers_and_replaces_the_rest() {
    let installation = Installation::new("kill");
    let before = installation.ensure(VERSION).await.unwrap();
    before.supervisor.signal(Signal::SIGKILL);
    assert!(before.supervisor.gone_within(LIMIT).await);

    let after = installation.ensure(VERSION).await.unwrap();

    assert_ne!(after.supervisor, before.supervisor);
    assert_eq!(after.postgres, before.postgres);
    assert_eq!(after.redis, before.redis);
    assert!(!before.executor.unwrap().is_alive());
    assert!(!before.mcp.unwrap().is_alive());
    assert!(after.executor.unwrap().is_alive());
}

#[tokio::test]
async fn what_ends_on_its_own_is_started_again() {
    let installation = Installation::new("restart");
    let before = installation.ensure(VERSION).await.unwrap();
    for process in [&before.executor, &before.postgres, &before.redis] {
        process.as_ref().unwrap().signal(Signal::SIGKILL);
    }

    let after = eventually("all three again", || async {
        let state = embedded::current(&installation.layout)?;
        let renewed = state.executor.is_some()
            && state.postgres.is_some()
            && state.redis.is_some()
            && state.executor != before.executor
            && state.postgres != before.postgres
            && state.redis != before.redis;
        renewed.then_some(state)
    })
    .await;

    assert_eq!(after.supervisor, before.supervisor);
    assert_eq!(after.phase, Phase::Running);
}

#[tokio::test]
async fn a_stopped_set_is_down_drained_and_starts_again() {
    let installation = Installation::new("stop");
    let before = installation.ensure(VERSION).await.unwrap();

    assert!(embedded::stop(&installation.layout, LIMIT).await.unwrap());

    for process in [before.postgres, before.redis, before.executor, before.mcp] {
        assert!(!process.unwrap().is_alive());
    }
    assert!(installation.log("executor.log").contains("drained"));
    assert_eq!(SetState::read(&installation.layout).unwrap().phase, Phase::Stopped);
    assert!(!embedded::stop(&installation.layout, LIMIT).await.unwrap());
    assert_eq!(installation.ensure(VERSION).await.unwrap().phase, Phase::Running);
}

#[tokio::test]
async fn a_newer_program_drains_and_replaces_an_older_set() {
    let installation = Installation::new("newer");
    let before = installation.ensure(VERSION).await.unwrap();

    let after = installation.ensure("999.0.0").await.unwrap();

    assert_ne!(after.supervisor, before.supervisor);
    assert!(!before.supervisor.is_alive());
    assert!(installation.log("executor.log").contains("drained"));
    let older = installation.ensure("0.0.1").await.unwrap();
    assert_eq!(older.supervisor, after.supervisor);
}

#[tokio::test]
async fn data_of_another_postgres_is_left_alone_and_the_chat_is_told_which_package_to_install() {
    let installation = Installation::new("major");
    let data = installation.root.join("data");
    fs::create_dir(&data).unwrap();
    fs::create_dir(data.join("postgres")).unwrap();
    fs::write(data.join("postgres/PG_VERSION"), "9\n").unwrap();

    let refused = installation.ensure(VERSION).await.unwrap_err().to_string();

    assert!(refused.contains("postgresql-9") && refused.contains("untouched"), "{refused}");
    assert_eq!(entries(&data.join("postgres")), ["PG_VERSION"]);
}

fn entries(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
