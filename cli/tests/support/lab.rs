//! A lab of one test: servers of its own that may be killed, executors as real processes, and a sink that sees calls.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::HeaderMap,
    routing::any,
};
use jiff::Timestamp;
use ordinaut_schema::{
    action::{Catalogue, Grants},
    id::{RunId, TaskId},
    limits::Limits,
    task::{Acceptance, accept},
};
use ordinaut_store::{
    Caller, Role, Settings, Store,
    embedded::Durability,
    runs::RunRecord,
    tasks::Inserted,
    testing::{Database, PrivateServers},
};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{Instant, sleep},
};

use crate::programs::{PATIENCE, program};

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until `look` answers, for as long as a test has patience.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not seen in {PATIENCE:?}: {what}");
        sleep(LOOK_AGAIN).await;
    }
}

/// A call that reached the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) key: Option<String>,
}

/// An HTTP server that answers `/hit/<name>` at once and `/hold/<name>` once it is let go.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    gate: watch::Sender<bool>,
}

impl Sink {
    async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink =
            Self { address: listener.local_addr().unwrap(), calls: Arc::default(), gate: watch::Sender::new(false) };
        let router = Router::new().route("/{kind}/{name}", any(answer)).with_state(sink.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        sink
    }

    pub(crate) fn calls(&self, name: &str) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.name == name).cloned().collect()
    }

    /// Waits until `name` was called `n` times.
    pub(crate) async fn saw(&self, name: &str, n: usize) {
        until(&format!("{n} calls of {name}"), async || (self.calls(name).len() >= n).then_some(())).await;
    }

    /// Lets every held call go, and holds no more.
    pub(crate) fn let_go(&self) {
        self.gate.send_replace(true);
    }
}

async fn answer(
    State(sink): State<Sink>,
    UrlPath((kind, name)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> String {
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    sink.calls.lock().unwrap().push(Call { name: name.clone(), key });
    if kind == "hold" {
        let mut gate = sink.gate.subscribe();
        gate.wait_for(|open| *open).await.unwrap();
    }
    name
}

pub(crate) struct Lab {
    pub(crate) servers: PrivateServers,
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) sink: Sink,
    directory: PathBuf,
}

impl Lab {
    pub(crate) async fn open() -> Self {
        let servers = PrivateServers::start(Durability::Durable).await;
        let database = servers.database().await;
        let store = Store::connect(Settings::new(database.url.clone(), Role::Executor)).await.unwrap();
        let directory = std::env::temp_dir().join(format!("ordinaut-lab-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&directory).unwrap();
        Self { servers, database, store, sink: Sink::open().await, directory }
    }

    /// Starts an executor; its lease is short, so that a test need not wait long for recovery.
    pub(crate) fn executor(&self, name: &str) -> Child {
        self.executor_with(name, &[])
    }

    /// As [`Lab::executor`], told more, or otherwise.
    pub(crate) fn executor_with(&self, name: &str, environment: &[(&str, String)]) -> Child {
        let log = std::fs::File::create(self.directory.join(format!("{name}.log"))).unwrap();
        Command::new(program("ordinaut-executor"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory())
            .env("ORDINAUT_CONFIG_DIR", self.directory())
            .env("DATABASE_URL", &self.database.url)
            .env("REDIS_URL", self.servers.redis_url())
            .env("ORDINAUT_HTTP_ALLOW", self.sink.address.to_string())
            .env("ORDINAUT_EXECUTOR_LISTEN", "127.0.0.1:0")
            .env("ORDINAUT_LEASE", "2s")
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
        let text = yaml.replace("SINK", &format!("http://{}", self.sink.address));
        let definition = ordinaut_schema::task::read(&text, &Limits::DEFAULT).unwrap().remove(0);
        let offered = self.store.catalogue(&me()).await.unwrap().offered;
        let catalogue = Catalogue { grants: Grants::local(), offered, ..Catalogue::default() };
        let against = Acceptance {
            now: self.store.now().await.unwrap(),
            default_zone: None,
            catalogue: &catalogue,
            limits: &Limits::DEFAULT,
        };
        let accepted = accept(&definition, against).unwrap_or_else(|faults| panic!("{faults}"));
        match self.store.insert_task(&me(), &accepted, None).await.unwrap() {
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
