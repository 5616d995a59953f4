//! What has a subscriber told: the event, at once; without events the look that is taken anyway.

use std::time::Duration;

use nix::sys::signal::Signal;
use ordinaut_mcp::{
    backend::{Backend, Services, Stage, Starter},
    config::ServiceUrl,
    server::OrdinautServer,
    telemetry::Metrics,
};
use ordinaut_schema::id::TaskId;
use ordinaut_store::{
    Caller,
    embedded::Durability,
    testing::{Database, Fixture, PrivateServers, redis_url},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    time::timeout,
};

use crate::support::{PATIENCE, call, chisinau, connect, task};

const HOUR: Duration = Duration::from_hours(1);
/// What fits between server and client: a few notifications.
const NARROW: usize = 1024;

/// A server that is told by a Redis, and a client that has subscribed to its one task.
struct Subscribed {
    store: Fixture,
    task: TaskId,
    redis: String,
    input: WriteHalf<DuplexStream>,
    lines: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    _starter: Starter,
    _database: Database,
}

impl Subscribed {
    async fn start(redis: String, look_interval: Duration, room: usize) -> Self {
        let (store, database) = Fixture::fresh().await;
        let (starter, backend) = Backend::starting("the fixture");
        let services = Services::new(store.mcp.clone()).with_redis(Some(ServiceUrl::new(&redis)));
        starter.tell(Stage::Ready(services));
        let server = OrdinautServer::local(backend, Metrics::new().unwrap(), chisinau()).looking_every(look_interval);
        let planner = connect(server.for_session()).await;
        let created = call(&planner, "create_task", task("Followed", json!({}))).await;
        let task: TaskId = created.content["task"]["id"].as_str().unwrap().parse().unwrap();
        let (near, far) = duplex(room);
        tokio::spawn(async move {
            if let Ok(running) = rmcp::ServiceExt::serve(server.for_session(), far).await {
                // The test ends with the client, and this with it.
                let _ = running.waiting().await;
            }
        });
        let (output, input) = split(near);
        let lines = BufReader::new(output).lines();
        let mut subscribed = Self { store, task, redis, input, lines, _starter: starter, _database: database };
        let about =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        subscribed.ask(1, "initialize", about).await;
        subscribed.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        let uri = subscribed.uri();
        subscribed.ask(2, "resources/subscribe", json!({ "uri": uri })).await;
        subscribed
    }

    fn uri(&self) -> String {
        format!("ordinaut://tasks/{}", self.task)
    }

    async fn write(&mut self, message: &Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn read(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a message").unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Asks, and counts the updates before the answer.
    async fn ask(&mut self, id: u32, method: &str, params: Value) -> usize {
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        let mut updates = 0;
        loop {
            let message = self.read().await;
            if message["id"] == id {
                assert!(message["result"].is_object(), "{message}");
                return updates;
            }
            updates += usize::from(message["method"] == "notifications/resources/updated");
        }
    }

    async fn updated(&mut self) {
        let message = self.read().await;
        assert_eq!(message["method"], "notifications/resources/updated", "{message}");
        assert_eq!(message["params"]["uri"], self.uri());
    }

    /// Pauses the task, or resumes it, and says nothing to Redis.
    async fn change(&self, number: usize) {
        let me = Caller::local("test");
        if number.is_multiple_of(2) {
            self.store.mcp.pause_task(&me, self.task, None, None).await.unwrap();
        } else {
            self.store.mcp.resume_task(&me, self.task).await.unwrap();
        }
    }

    /// Says in Redis what a relay would.
    async fn publish(&self) {
        let client = redis::Client::open(self.redis.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let (agent, task) = (Caller::LOCAL_AGENT.to_string(), self.task.to_string());
        let fields = [("topic", "task.paused"), ("agent", &agent), ("task", &task)];
        redis::cmd("XADD").arg("ordinaut:events").arg("*").arg(&fields).exec_async(&mut connection).await.unwrap();
    }

    /// Publishes until an update comes: from then on events are heard.
    async fn hear(&mut self) {
        self.change(0).await;
        let heard = async {
            loop {
                self.publish().await;
                let waited = timeout(Duration::from_millis(50), self.lines.next_line()).await;
                if waited.is_ok() {
                    return;
                }
            }
        };
        timeout(PATIENCE, heard).await.expect("events are heard");
    }
}

#[tokio::test]
async fn an_event_has_a_change_told_though_the_next_look_is_an_hour_away() {
    let mut subscribed = Subscribed::start(redis_url().await, HOUR, 1 << 16).await;
    subscribed.hear().await;
    for number in 1..6 {
        subscribed.change(number).await;
        subscribed.publish().await;
        subscribed.updated().await;
    }
}

#[tokio::test]
async fn a_change_that_no_event_tells_of_is_seen_by_the_next_look() {
    let mut subscribed = Subscribed::start(redis_url().await, Duration::from_millis(100), 1 << 16).await;
    subscribed.hear().await;
    for number in 1..3 {
        subscribed.change(number).await;
        subscribed.updated().await;
    }
}

#[tokio::test]
async fn without_redis_looks_are_taken_more_often() {
    let servers = PrivateServers::start(Durability::Fast).await;
    let mut subscribed = Subscribed::start(servers.redis_url(), HOUR, 1 << 16).await;
    subscribed.hear().await;
    servers.redis.process.signal(Signal::SIGKILL);
    for number in 1..3 {
        subscribed.change(number).await;
        subscribed.updated().await;
    }
}

#[tokio::test]
async fn who_does_not_read_is_told_once_of_what_changed_many_times() {
    let mut subscribed = Subscribed::start(redis_url().await, HOUR, NARROW).await;
    subscribed.hear().await;
    for number in 1..300 {
        subscribed.change(number).await;
        subscribed.publish().await;
    }
    let told = subscribed.ask(3, "ping", json!({})).await;
    assert!((1..60).contains(&told), "told {told} times");
}
