//! A lab of one test: servers of its own that may be killed, executors as real processes, and a sink that sees calls.

use std::{ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::{
    id::{RunId, TaskId},
    limits::Limits,
    task::{Acceptance, accept},
};
use ordinaut_store::{
    Caller, Role, Settings, Store,
    embedded::Durability,
    runs::{RunFilter, RunRecord},
    tasks::Inserted,
    testing::{Database, PrivateServers, ServerClock},
};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::{
    programs::{PATIENCE, path, program},
    sink::Sink,
};

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits until `look` answers, for as long as a test has patience.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_after(Duration::ZERO, what, look).await
}

/// As [`until`], for what cannot be before a while has passed: patience begins then.
pub(crate) async fn until_after<T>(before: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let patience = before + PATIENCE;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not seen in {patience:?}: {what}");
        sleep(LOOK_AGAIN).await;
    }
}

pub(crate) struct Lab {
    pub(crate) servers: PrivateServers,
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) sink: Sink,
    directory: PathBuf,
    lease: &'static str,
}

impl Lab {
    pub(crate) async fn open() -> Self {
        Self::over(PrivateServers::start(Durability::Durable).await).await
    }

    /// With servers that a crash would empty, which is faster; for what is not about crashes.
    pub(crate) async fn fast() -> Self {
        Self::over(PrivateServers::start(Durability::Fast).await).await
    }

    /// With a PostgreSQL whose wall clock says `at`, and can be moved; `None`, loudly, where that cannot be had.
    pub(crate) async fn at(at: &str) -> Option<Self> {
        let library = faketime()?;
        Some(Self::over(PrivateServers::start_at(at.parse().unwrap(), &library).await).await)
    }

    /// Dumps this one's database as an operator does, and restores it into a fresh server, beside a fresh Redis.
    pub(crate) async fn restored(&self) -> Self {
        let servers = PrivateServers::start(Durability::Durable).await;
        let database = servers.empty_database().await;
        // Roles belong to a cluster, so no dump of a database has them. The owner is there already, hence no stop.
        let roles = self.servers.client("pg_dumpall", "postgres", &["--roles-only"], b"").await;
        servers.client("psql", "postgres", &["--quiet"], &roles).await;
        let dump = self.servers.client("pg_dump", self.database.name(), &[], b"").await;
        let stop = ["--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1"];
        servers.client("psql", database.name(), &stop, &dump).await;
        Self::on(servers, database, self.sink.clone()).await
    }

    /// What a query answers, as text.
    pub(crate) async fn ask(&self, query: &str) -> String {
        let said = self.servers.client("psql", self.database.name(), &["-At", "-c", query], b"").await;
        String::from_utf8(said).unwrap()
    }

    async fn over(servers: PrivateServers) -> Self {
        let database = servers.database().await;
        Self::on(servers, database, Sink::open().await).await
    }

    async fn on(servers: PrivateServers, database: Database, sink: Sink) -> Self {
        let store = Store::connect(Settings::new(database.url.clone(), Role::Executor)).await.unwrap();
        let directory = std::env::temp_dir().join(format!("ordinaut-lab-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&directory).unwrap();
        Self { servers, database, store, sink, directory, lease: "15s" }
    }

    /// For a test that kills: its executors' leases are short, so that nobody need wait long for recovery. Anybody
    /// else's outlast a pause of a loaded machine, which is no crash.
    pub(crate) fn with_short_leases(mut self) -> Self {
        self.lease = "5s";
        self
    }

    /// Starts an executor.
    pub(crate) fn executor(&self, name: &str) -> Child {
        self.executor_with(name, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn executor_with(&self, name: &str, environment: &[(OsString, OsString)]) -> Child {
        let log = std::fs::File::create(self.directory.join(format!("{name}.log"))).unwrap();
        Command::new(program("ordinaut-executor"))
            .env_clear()
            .env("PATH", path())
            .env("HOME", self.directory())
            .env("ORDINAUT_CONFIG_DIR", self.directory())
            .env("DATABASE_URL", &self.database.url)
            .env("REDIS_URL", self.servers.redis_url())
            .env("ORDINAUT_HTTP_ALLOW", self.sink.address.to_string())
            .env("ORDINAUT_EXECUTOR_LISTEN", "127.0.0.1:0")
            .env("ORDINAUT_LEASE", self.lease)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Where logs and files of this lab lie.
    pub(crate) fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Keeps a definition (`SINK` in it stands for the sink's address) as the local agent.
    pub(crate) async fn keep(&self, yaml: &str) -> TaskId {
        self.keep_as(&me(), yaml).await
    }

    pub(crate) async fn keep_as(&self, caller: &Caller, yaml: &str) -> TaskId {
        let text = yaml.replace("SINK", &format!("http://{}", self.sink.address));
        let definition = ordinaut_schema::task::read(&text, &Limits::DEFAULT).unwrap().remove(0);
        let catalogue = self.store.catalogue(&me()).await.unwrap();
        let against = Acceptance {
            now: self.store.now().await.unwrap(),
            default_zone: None,
            catalogue: &catalogue,
            limits: &Limits::DEFAULT,
        };
        let accepted = accept(&definition, against).unwrap_or_else(|faults| panic!("{faults}"));
        match self.store.insert_task(caller, &accepted, None).await.unwrap() {
            Inserted::Created(task) | Inserted::Existed(task) => task.id,
        }
    }

    pub(crate) async fn run_now(&self, task: TaskId, request: &str) -> RunId {
        self.store.run_now(&me(), task, request, None).await.unwrap().run
    }

    /// Waits for a run's end.
    pub(crate) async fn end_of(&self, run: RunId) -> RunRecord {
        until(&format!("the end of run {run}"), async || {
            let found = self.store.find_run(&me(), run).await.ok()?;
            found.state.is_terminal().then_some(found)
        })
        .await
    }

    /// All runs of a task, in flight and over, in the order of their occurrences.
    pub(crate) async fn runs(&self, task: TaskId) -> Vec<RunRecord> {
        let filter = RunFilter { task: Some(task), ..RunFilter::default() };
        let mut runs = self.store.list_runs(&me(), &filter, None, 10_000).await.unwrap();
        runs.reverse();
        runs
    }

    /// The clock of this lab's PostgreSQL.
    pub(crate) fn clock(&self) -> &ServerClock {
        self.servers.clock.as_ref().expect("this lab was opened with a clock")
    }

    /// Sets the database's clock, and waits until everything that is due by then was decided.
    pub(crate) async fn set_clock(&self, to: Timestamp) {
        self.clock().set(to);
        self.planned().await;
    }

    /// Moves the database's clock, and waits likewise.
    pub(crate) async fn leap(&self, by: SignedDuration) {
        self.clock().leap(by);
        self.planned().await;
    }

    async fn planned(&self) {
        self.database.wake_executors().await;
        until("everything due is planned", async || (self.database.due_tasks().await == 0).then_some(())).await;
    }

    /// Waits until nothing is in flight.
    pub(crate) async fn idle(&self) {
        until("nothing in flight", async || (self.database.live_runs().await == 0).then_some(())).await;
    }

    /// The log of one of its executors.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(format!("{name}.log"))).unwrap()
    }

    /// One command to this lab's Redis, through its own client.
    pub(crate) async fn redis(&self, command: &[&str]) -> String {
        let socket = self.servers.redis_url().split_once("://").unwrap().1.split('?').next().unwrap().to_owned();
        let output = Command::new("redis-cli").args(["-s", &socket]).args(command).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The logs of a test that failed stay, for whoever looks why.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// libfaketime, which moves the clock of one program. `scripts/run-tests` installs it where it may; where it is
/// missing nevertheless a test is left out, and says so, but never in CI.
pub(crate) fn faketime() -> Option<PathBuf> {
    let library = ServerClock::library();
    if library.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "libfaketime is missing, without which nobody can see that time is right"
        );
        eprintln!("SKIPPED: libfaketime is not installed (`scripts/system-packages faketime`); no clock can be moved");
    }
    library
}

pub(crate) fn me() -> Caller {
    Caller::local("test")
}

/// An instant as a definition has it.
pub(crate) fn written(at: Timestamp) -> String {
    at.to_string()
}

/// The output of a step of a run.
pub(crate) fn output<'a>(run: &'a RunRecord, step: &str) -> &'a Value {
    run.steps.iter().find(|record| record.step == step).map_or(&Value::Null, |record| &record.output)
}
