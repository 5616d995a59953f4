//! The program itself on HTTP, over a database of its own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use ordinaut_schema::{action::Grants, id::AgentId};
use ordinaut_store::testing::{Database, Fixture};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::support::{LONG, http};

const EVERYTHING: [&str; 4] = ["task:read", "task:write", "run:control", "event:publish"];

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) store: Fixture,
    program: Child,
    directory: PathBuf,
    _database: Database,
}

impl Served {
    /// Starts it with those lines in the table `[mcp]`, with the few descriptors that a shell allows.
    pub(crate) async fn start(settings: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (store, database) = Fixture::fresh().await;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("ordinaut-served-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("ordinaut.toml");
        std::fs::write(&file, format!("[log]\nformat = \"json\"\n[mcp]\nlisten = \"127.0.0.1:0\"\n{settings}\n"))
            .unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let program = Command::new("/bin/sh")
            .args(["-c", "ulimit -Sn 1024; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_ordinaut-mcp"), "http", "--config"])
            .arg(&file)
            .env_clear()
            .env("HOME", &directory)
            .env("DATABASE_URL", &database.url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut served = Self { address, store, program, directory, _database: database };
        served.address = until("it listens", async || served.listening()).await;
        until("it is ready", async || {
            let ready = http().get(served.url("/readyz")).send().await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
        served
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Another agent, and its token.
    pub(crate) async fn agent(&self, name: &str) -> (AgentId, String) {
        let scopes: Vec<_> = EVERYTHING.map(str::to_owned).into();
        let added = self.store.executor.add_agent(name, Some("Asia/Tokyo"), &Grants::default(), &scopes, None).await;
        let (agent, token) = added.unwrap();
        (agent, token.text)
    }

    /// A number of the program's metrics.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = http().get(self.url("/metrics")).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn until_metric(&self, name: &str, value: u64) {
        until(&format!("{name} is {value}"), async || (self.metric(name).await == value).then_some(())).await;
    }

    /// Kilobytes that the program held at the most.
    pub(crate) fn peak_kb(&self) -> u64 {
        let id = self.program.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap()
    }

    fn listening(&self) -> Option<SocketAddr> {
        let log = self.log();
        let (_, after) = log.split_once("listening on ")?;
        after.split(['"', '\n', ' ']).next()?.parse().ok()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "what the program said explains a failure")]
            {
                eprintln!("{}", self.log());
            }
        } else {
            let log = self.log();
            assert!(!log.contains("panicked"), "{log}");
        }
        // A file that the program still writes stays behind in the temporary directory, and harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Waits until `look` answers.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not seen in {LONG:?}: {what}");
        sleep(std::time::Duration::from_millis(10)).await;
    }
}
