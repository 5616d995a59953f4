//! How often a call that reads waits for PostgreSQL: counted on the wire, by a relay between the server and its database.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use ordinaut_mcp::{
    backend::{Backend, Services, Stage},
    server::OrdinautServer,
    telemetry::Metrics,
};
use ordinaut_store::{Role, Settings, Store, testing::Fixture};
use rmcp::{RoleClient, service::RunningService};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
};

use url::Url;

use crate::support::{call, chisinau, connect, task};

/// What a server asked of its database.
#[derive(Debug, Default)]
struct Asked {
    /// Messages that somebody waits for: statements, and the beginning of a transaction with all that comes with it.
    questions: AtomicU32,
    /// The end of a transaction that only read, which nobody waits for.
    ends: AtomicU32,
    /// Whether the connection is alive.
    pings: AtomicU32,
}

impl Asked {
    fn take(&self) -> (u32, u32, u32) {
        (self.questions.swap(0, SeqCst), self.ends.swap(0, SeqCst), self.pings.swap(0, SeqCst))
    }
}

/// A socket at which the server's database is reached, and what is asked through it.
struct Relay {
    asked: Arc<Asked>,
    directory: PathBuf,
    url: String,
}

impl Relay {
    fn before(url: &str) -> Self {
        // A directory of sockets is the host, written as a value of a query is.
        let mut url = Url::parse(url).unwrap();
        let (sockets, _) = url::form_urlencoded::parse(url.host_str().unwrap().as_bytes()).next().unwrap();
        let sockets = PathBuf::from(&*sockets);
        let name = format!(".s.PGSQL.{}", url.port().unwrap_or(5432));
        let directory = PathBuf::from(format!("/tmp/ordinaut-relay-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let listener = UnixListener::bind(directory.join(&name)).unwrap();
        let asked = Arc::new(Asked::default());
        tokio::spawn(serve(listener, sockets.join(&name), asked.clone()));
        url.set_host(Some(&directory.to_str().unwrap().replace('/', "%2F"))).unwrap();
        Self { asked, directory, url: url.into() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // What stays is an empty socket.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn serve(listener: UnixListener, database: PathBuf, asked: Arc<Asked>) {
    while let Ok((client, _)) = listener.accept().await {
        let (database, asked) = (UnixStream::connect(&database).await.unwrap(), asked.clone());
        tokio::spawn(async move {
            let (from_client, mut to_client) = client.into_split();
            let (mut from_database, to_database) = database.into_split();
            tokio::select! {
                _ = copy(&mut from_database, &mut to_client) => {}
                _ = forward(from_client, to_database, &asked) => {}
            }
        });
    }
}

/// Passes the client's messages on, each once it is counted.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: tokio::net::unix::OwnedWriteHalf,
    asked: &Asked,
) -> std::io::Result<()> {
    // The first message has no kind: it opens the session.
    let mut is_first = true;
    let mut executes = false;
    loop {
        let kind = if is_first { None } else { Some(from.read_u8().await?) };
        let length = from.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        from.read_exact(&mut body).await?;
        match kind {
            Some(b'Q') if body.starts_with(b"rollback") => asked.ends.fetch_add(1, SeqCst),
            Some(b'Q') => asked.questions.fetch_add(1, SeqCst),
            Some(b'P' | b'E') => {
                executes = true;
                0
            }
            Some(b'S') if std::mem::take(&mut executes) => asked.questions.fetch_add(1, SeqCst),
            Some(b'S') => asked.pings.fetch_add(1, SeqCst),
            Some(_) | None => 0,
        };
        is_first = false;
        let mut message = kind.map_or_else(Vec::new, |kind| vec![kind]);
        message.extend(length.to_be_bytes());
        message.extend(body);
        to.write_all(&message).await?;
    }
}

/// Calls once a connection has prepared its statements, and says what each of ten calls asked.
async fn questions(client: &RunningService<RoleClient, ()>, asked: &Asked, tool: &str, arguments: Value) -> u32 {
    const CALLS: u32 = 10;
    for _ in 0..3 {
        let answer = call(client, tool, arguments.clone()).await;
        assert!(!answer.refused, "{tool}: {}", answer.text);
    }
    asked.take();
    for _ in 0..CALLS {
        call(client, tool, arguments.clone()).await;
    }
    let (questions, ends, pings) = asked.take();
    assert_eq!(questions % CALLS, 0, "{tool}: {questions} questions in {CALLS} calls");
    // One connection: whoever begins has waited for the last one's end, and only its return was checked.
    assert!(ends.abs_diff(CALLS) <= 1 && pings <= CALLS + 1, "{tool}: {ends} ends, {pings} pings in {CALLS} calls");
    questions / CALLS
}

#[tokio::test]
async fn a_call_that_reads_asks_the_database_twice() {
    let (store, database) = Fixture::fresh().await;
    let relay = Relay::before(&database.url);
    let settings = Settings { max_connections: 1, ..Settings::new(relay.url.clone(), Role::Mcp) };
    let (starter, backend) = Backend::starting("the fixture");
    starter.tell(Stage::Ready(Services::new(Store::connect(settings).await.unwrap())));
    let client = connect(OrdinautServer::local(backend, Metrics::new().unwrap(), chisinau())).await;
    assert!(!call(&client, "create_task", task("Briefing", json!({}))).await.refused);
    let run = call(&client, "run_now", json!({ "task": "briefing" })).await.content["run"]["id"].clone();

    let mut counted = Vec::new();
    for (tool, arguments) in [
        ("list_tasks", json!({})),
        ("list_tasks", json!({ "text": "brief" })),
        ("list_runs", json!({})),
        ("get_run", json!({ "run": run })),
        ("check_inbox", json!({})),
        // Which task it is must be known first.
        ("list_runs", json!({ "task": "briefing" })),
        ("get_task", json!({ "task": "briefing" })),
    ] {
        counted.push((tool, questions(&client, &relay.asked, tool, arguments).await));
    }
    assert_eq!(
        counted,
        [
            ("list_tasks", 2),
            ("list_tasks", 2),
            ("list_runs", 2),
            ("get_run", 2),
            ("check_inbox", 2),
            ("list_runs", 3),
            ("get_task", 3),
        ]
    );
    drop(store);
}
