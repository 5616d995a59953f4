//! A caller's token, by the real programs: it opens the door and goes nowhere from there, and a revoked one keeps
//! nothing open.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use ordinaut_schema::action::Grants;
use rmcp::{
    RoleClient, ServiceExt as _,
    model::CallToolRequestParams,
    service::RunningService,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    time::timeout,
};

use crate::support::{
    lab::{Lab, me, until},
    programs::{PATIENCE, bare, finish, path, program},
    stand_ins::{StandIns, Tools},
};

const SERVERS: Tools = &[("notes", &["add"])];
/// A task that asks a page, and a tool of an MCP server.
const MARK: &str = "mark-of-what-was-asked";

/// Stands before a server and keeps every byte that is sent to it.
#[derive(Clone)]
struct Wire {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self { address: listener.local_addr().unwrap(), sent: Arc::default() };
        let sent = wire.sent.clone();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = TcpStream::connect(server).await.unwrap().into_split();
                tokio::spawn(carry(from_client, to_server, sent.clone()));
                tokio::spawn(carry(from_server, to_client, Arc::default()));
            }
        });
        wire
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().unwrap()).into_owned()
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, kept: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        kept.lock().unwrap().extend_from_slice(&bytes[..read]);
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Starts `ordinaut-mcp http` over the lab's servers, telling everything it can tell; answers where it listens.
async fn serve(lab: &Lab) -> (Child, SocketAddr) {
    let log = std::fs::File::create(lab.directory().join("mcp.log")).unwrap();
    let mut command = Command::new(program("ordinaut-mcp"));
    command
        .arg("http")
        .env_clear()
        .env("PATH", path())
        .env("HOME", lab.directory())
        .env("ORDINAUT_CONFIG_DIR", lab.directory())
        .env("DATABASE_URL", &lab.database.url)
        .env("REDIS_URL", lab.servers.redis_url())
        .env("ORDINAUT_HTTP_ADDR", "127.0.0.1:0")
        .env("ORDINAUT_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    let server = command.spawn().unwrap();
    let address = until("where it listens", async || {
        let log = lab.log("mcp");
        let (_, rest) = log.split_once("listening on ")?;
        rest.split_whitespace().next()?.parse().ok()
    })
    .await;
    (server, address)
}

async fn chat(address: SocketAddr, token: &str) -> RunningService<RoleClient, ()> {
    let config = StreamableHttpClientTransportConfig::with_uri(format!("http://{address}/mcp")).auth_header(token);
    // Nothing here speaks TLS, but the client will not be built without; another test may have set it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    ().serve(StreamableHttpClientTransport::with_client(http, config)).await.unwrap()
}

async fn call(chat: &RunningService<RoleClient, ()>, tool: &'static str, arguments: Value) -> Value {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    let called = chat.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments));
    let answer = timeout(PATIENCE, called).await.expect("an answer").unwrap();
    assert_ne!(answer.is_error, Some(true), "{answer:?}");
    answer.structured_content.unwrap()
}

#[tokio::test]
async fn a_callers_token_is_in_no_request_no_log_no_row_and_no_stream() {
    let lab = Lab::fast().await;
    let stand_ins = StandIns::open(SERVERS, |_| json!({ "good": true })).await;
    let wire = Wire::before(stand_ins.address).await;
    let servers = stand_ins.servers(SERVERS).replace(&stand_ins.address.to_string(), &wire.address.to_string());
    std::fs::write(lab.directory().join("mcp-servers.json"), servers).unwrap();
    let allow =
        [("ORDINAUT_HTTP_ALLOW".into(), wire.address.to_string().into()), ("ORDINAUT_LOG".into(), "trace".into())];
    let _executor = lab.executor_with("executor", &allow);
    until("the tool", async || (!lab.store.catalogue(&me()).await.unwrap().tools.is_empty()).then_some(())).await;

    let grants = Grants { tools: vec!["notes".to_owned()], ..Grants::default() };
    let scopes = ["task:read", "task:write", "run:control"].map(str::to_owned);
    let (_, token) = lab.store.add_agent("ann", Some("UTC"), &grants, &scopes, None).await.unwrap();
    let (_server, address) = serve(&lab).await;
    let chat = chat(address, &token.text).await;
    let created = call(
        &chat,
        "create_task",
        json!({
            "title": "Asks others",
            "schedule_kind": "manual",
            "pipeline": [
                { "id": "page", "uses": "http.post", "with": { "url": format!("http://{}/page", wire.address), "json": { "mark": MARK } } },
                { "id": "note", "uses": "notes.add", "with": { "mark": MARK } },
            ],
        }),
    )
    .await;
    call(&chat, "run_now", json!({ "task": created["task"]["id"] })).await;
    let events = until("the events of its end", async || {
        let told = lab.redis(&["XRANGE", "ordinaut:events", "-", "+"]).await;
        told.contains("run.succeeded").then_some(told)
    })
    .await;

    let sent = wire.text();
    assert!(sent.matches(MARK).count() >= 2, "both were asked: {sent}");
    let mut streams = events;
    for key in lab.redis(&["KEYS", "*"]).await.lines() {
        for command in [["XRANGE", key, "-", "+"].as_slice(), &["GET", key], &["HGETALL", key]] {
            streams.push_str(&lab.redis(command).await);
        }
    }
    let dump = lab.servers.client("pg_dump", lab.database.name(), &["--inserts"], b"").await;
    let dump = String::from_utf8(dump).unwrap();
    assert!(dump.contains(MARK), "the dump has what the task holds");
    // Without what every token begins with: the rest is the secret.
    let secret = token.text.strip_prefix("ordinaut_").unwrap();
    let logs = [lab.log("mcp"), lab.log("executor")];
    assert!(logs[0].contains("TRACE"), "it told everything");
    for (place, text) in
        [("a request", &sent), ("PostgreSQL", &dump), ("Redis", &streams), ("its log", &logs[0]), ("a log", &logs[1])]
    {
        assert!(!text.contains(secret), "{place} has the token");
    }
}

#[tokio::test]
async fn agent_revoke_ends_what_the_agent_has_open() {
    let lab = Lab::fast().await;
    // It ends for no other reason.
    std::fs::write(lab.directory().join("ordinaut.toml"), "[mcp]\ninitialize_timeout = \"1h\"\n").unwrap();
    let (_, token) =
        lab.store.add_agent("ann", None, &Grants::default(), &["task:read".to_owned()], None).await.unwrap();
    let (_server, address) = serve(&lab).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /sse HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        token.text
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = vec![0; 1024];
    let read = timeout(PATIENCE, stream.read(&mut said)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&said[..read]).starts_with("HTTP/1.1 200 OK"), "the stream is open");

    let mut command = bare(lab.directory());
    command.env("DATABASE_URL", &lab.database.url);
    let answer = finish(command, &["agent", "revoke", "ann"], "").await;
    assert_eq!(answer.code, 0, "{answer:?}");
    timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the stream ends").unwrap();
}
