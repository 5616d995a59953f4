//! A database, a Redis, executors that can be killed, and a web server that misbehaves.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    net::{SocketAddr, TcpListener as StdTcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::any,
};
use ordinaut_executor::{
    config::Config,
    daemon::{self, Machine},
    telemetry,
};
use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{RunState, StepRecord},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, Role, Settings, Store,
    runs::RunRecord,
    tasks::Inserted,
    testing::{self, accepted_with},
};
use redis::{AsyncCommands as _, aio::MultiplexedConnection, streams::StreamRangeReply};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub mod half_open;

/// Waits until `look` finds something.
pub async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One test's own database and Redis.
pub struct House {
    pub store: Store,
    pub caller: Caller,
    database: testing::Database,
    redis_url: String,
    lease: &'static str,
}

impl House {
    pub async fn new() -> Self {
        let (database, redis_url) = (testing::database().await, testing::redis_url().await);
        let store = Store::connect(Settings::new(&database.url, Role::Executor)).await.unwrap();
        Self { store, caller: Caller::local("test"), database, redis_url, lease: "6s" }
    }

    /// For a test that kills: its executors' leases are short, so that nobody need wait long for recovery. Anybody
    /// else's outlast a pause of a loaded machine, which is no crash.
    pub fn with_short_leases(self) -> Self {
        Self { lease: "3s", ..self }
    }

    /// Starts an executor which may call these addresses.
    pub async fn executor(&self, allowed: &[String]) -> Executor {
        self.executor_with(&[("ORDINAUT_HTTP_ALLOW", &allowed.join(","))]).await
    }

    /// Starts an executor with these settings.
    pub async fn executor_with(&self, settings: &[(&str, &str)]) -> Executor {
        self.start(None, settings).await
    }

    /// What a real process needs in its environment to work here, with a short lease.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("DATABASE_URL", self.database.url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("ORDINAUT_LEASE", "1s".to_owned()),
            ("ORDINAUT_EXECUTOR_LISTEN", "127.0.0.1:0".to_owned()),
            ("ORDINAUT_DATABASE_CONNECTIONS", "9".to_owned()),
        ]
    }

    /// Does something behind the programs' backs.
    pub async fn run_sql(&self, statements: &str) {
        self.database.run_sql(statements).await.unwrap();
    }

    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    /// One that also reads the operator's file.
    pub async fn executor_reading(&self, file: &std::path::Path, allowed: &[String]) -> Executor {
        self.start(Some(file), &[("ORDINAUT_HTTP_ALLOW", &allowed.join(","))]).await
    }

    async fn start(&self, file: Option<&std::path::Path>, settings: &[(&str, &str)]) -> Executor {
        let port = StdTcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let pairs = [
            ("DATABASE_URL", self.database.url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("ORDINAUT_LEASE", self.lease.to_owned()),
            ("ORDINAUT_DRAIN_TIMEOUT", "200ms".to_owned()),
            ("ORDINAUT_DATABASE_CONNECTIONS", "9".to_owned()),
            ("ORDINAUT_EXECUTOR_LISTEN", port.to_string()),
        ];
        let mut environment: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value)).into();
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let text = file.map(|file| std::fs::read_to_string(file).unwrap());
        let config = Config::read(text.as_deref(), &environment).unwrap();
        let machine = Machine { config_file: file.map(Into::into), ..Machine::default() };
        // Only the first executor of a test begins to log.
        let lines =
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn,ordinaut_executor=debug");
        let _ = lines.try_init();
        let exposition = telemetry::count().unwrap();
        let asked = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let until = asked.clone();
        let ended = runtime.spawn(daemon::run_until(until.cancelled_owned(), config, machine, exposition));
        let executor = Executor { runtime: Some(runtime), asked, ended, address: port };
        eventually("the executor is ready", async || {
            assert!(!executor.ended.is_finished(), "the executor ended at once");
            TcpStream::connect(port).await.ok()?;
            (executor.ask("/readyz").await.0 == 200).then_some(())
        })
        .await;
        executor
    }

    pub async fn task(&self, title: &str, schedule: (ScheduleKind, &str), fields: Value) -> TaskId {
        let now = self.store.now().await.unwrap();
        let accepted = accepted_with(title, schedule, now, fields);
        match self.store.insert_task(&self.caller, &accepted, None).await.unwrap() {
            Inserted::Created(task) => task.id,
            Inserted::Existed(task) => panic!("{title} was there: {task:?}"),
        }
    }

    pub async fn run_now(&self, task: &TaskId, request: &str) -> RunId {
        self.store.run_now(&self.caller, *task, request, None).await.unwrap().run
    }

    pub async fn find(&self, run: RunId) -> RunRecord {
        self.store.find_run(&self.caller, run).await.unwrap()
    }

    /// The run, once it is parked.
    pub async fn parked(&self, run: RunId) -> RunRecord {
        eventually("the run is parked", async || {
            let run = self.find(run).await;
            (run.state == RunState::Waiting && run.steps.iter().any(StepRecord::is_parked)).then_some(run)
        })
        .await
    }

    /// The run, once it is over.
    pub async fn ended(&self, run: RunId) -> RunRecord {
        eventually("the run is over", async || {
            let run = self.store.find_run(&self.caller, run).await.unwrap();
            run.state.is_terminal().then_some(run)
        })
        .await
    }

    /// Everything that is in the database, as text.
    pub async fn every_row(&self) -> String {
        self.database.every_row().await
    }

    async fn redis(&self) -> MultiplexedConnection {
        redis::Client::open(&*self.redis_url).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    pub async fn stream(&self, name: &str) -> Vec<Entry> {
        let entries: StreamRangeReply = self.redis().await.xrange_all(name).await.unwrap();
        let text = |value: &redis::Value| redis::from_redis_value_ref::<String>(value).unwrap();
        entries
            .ids
            .iter()
            .map(|entry| {
                let fields: HashMap<String, String> =
                    entry.map.iter().map(|(name, value)| (name.clone(), text(value))).collect();
                Entry { topic: fields.get("topic").cloned().unwrap_or_default(), fields }
            })
            .collect()
    }

    pub async fn empty_redis(&self) {
        redis::cmd("FLUSHDB").exec_async(&mut self.redis().await).await.unwrap();
    }

    /// Empties Redis, and puts this into the stream of events before anybody else can.
    pub async fn empty_redis_and_tell(&self, topic: &str) {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("FLUSHDB").cmd("XADD").arg("ordinaut:events").arg("*").arg("topic").arg(topic);
        pipeline.exec_async(&mut self.redis().await).await.unwrap();
    }

    pub async fn xadd(&self, fields: &[(&str, &str)]) {
        let _id: Option<String> = self.redis().await.xadd("ordinaut:inbound", "*", fields).await.unwrap();
    }

    /// Executors in the group of those that read inbound entries.
    pub async fn readers(&self) -> usize {
        let groups: redis::streams::StreamInfoGroupsReply =
            self.redis().await.xinfo_groups("ordinaut:inbound").await.unwrap();
        groups.groups.iter().map(|group| group.consumers).sum()
    }

    /// Inbound entries that were read, or not even that, and not acknowledged.
    pub async fn unacknowledged(&self) -> usize {
        let groups: redis::streams::StreamInfoGroupsReply =
            self.redis().await.xinfo_groups("ordinaut:inbound").await.unwrap();
        groups.groups.iter().map(|group| group.pending + group.lag.unwrap_or(0)).sum()
    }
}

/// An entry of a stream.
#[derive(Debug)]
pub struct Entry {
    pub topic: String,
    pub fields: HashMap<String, String>,
}

/// A daemon on a runtime of its own.
pub struct Executor {
    runtime: Option<Runtime>,
    asked: CancellationToken,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
    address: SocketAddr,
}

impl Executor {
    /// Ends it as `kill -9` would: nothing is given back, nothing is said.
    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Ends it as SIGTERM would.
    pub async fn drain(mut self) {
        self.asked.cancel();
        (&mut self.ended).await.unwrap().unwrap();
    }

    pub async fn ask(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A server on loopback that counts, hangs and fails.
pub struct Web {
    address: SocketAddr,
    seen: Seen,
    gate: CancellationToken,
}

type Seen = Arc<Mutex<HashMap<String, Vec<String>>>>;

impl Web {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen, gate) = (listener.local_addr().unwrap(), Seen::default(), CancellationToken::new());
        let routes = Router::new().route("/{path}", any(answer)).with_state((seen.clone(), gate.clone()));
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, seen, gate }
    }

    /// Lets those through who wait at `/wait`.
    pub fn open(&self) {
        self.gate.cancel();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn allowed(&self) -> String {
        self.address.to_string()
    }

    pub fn hits(&self, path: &str) -> usize {
        self.keys(path).len()
    }

    /// How many requests to a path were broken off by their caller.
    pub fn abandoned(&self, path: &str) -> usize {
        self.keys(&format!("abandoned {}", path.trim_start_matches('/'))).len()
    }

    /// The idempotency keys of the requests to a path.
    pub fn keys(&self, path: &str) -> Vec<String> {
        self.seen.lock().unwrap().get(path.trim_start_matches('/')).cloned().unwrap_or_default()
    }
}

/// A request without an answer; its caller went away when this is dropped.
struct Abandoned {
    seen: Seen,
    path: String,
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.seen.lock().unwrap().entry(format!("abandoned {}", self.path)).or_default().push(String::new());
    }
}

async fn answer(
    State((seen, gate)): State<(Seen, CancellationToken)>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> (StatusCode, &'static str) {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let hits = {
        let mut seen = seen.lock().unwrap();
        let keys = seen.entry(path.clone()).or_default();
        keys.push(key);
        keys.len()
    };
    match path.as_str() {
        "hang-once" if hits == 1 => {
            let _abandoned = Abandoned { seen, path };
            pending().await
        }
        "wait" => {
            gate.cancelled().await;
            (StatusCode::OK, "at last")
        }
        "poison" => pending().await,
        "fail-twice" if hits <= 2 => (StatusCode::INTERNAL_SERVER_ERROR, "not yet"),
        _ => (StatusCode::OK, "fine"),
    }
}
