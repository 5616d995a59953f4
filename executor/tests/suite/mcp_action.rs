//! Steps that call tools, against the real example server as a child process and over HTTP.

mod pins;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    ops::Deref,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use ordinaut_executor::actions::{
    Action, StepCall,
    http::{
        HttpAction, HttpLimits,
        guard::{Guard, SystemResolver},
    },
    mcp::{McpSettings, McpTools},
};
use ordinaut_schema::{
    id::{AgentId, RunId, TaskId},
    run::{ErrorKind, StepFailure},
};
use ordinaut_store::{
    Store,
    testing::{Database, Fixture},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SERVER: &str = env!("CARGO_BIN_EXE_ordinaut-example-server");

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ordinaut-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Left-overs in the temporary directory harm nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write_servers(file: &Path, servers: &Value) {
    std::fs::write(file, json!({ "mcpServers": servers }).to_string()).unwrap();
}

/// Tools over a database of the test's own.
struct Bench {
    tools: McpTools,
    store: Store,
    _fixture: Fixture,
    _database: Database,
}

impl Deref for Bench {
    type Target = McpTools;

    fn deref(&self) -> &McpTools {
        &self.tools
    }
}

fn settings(place: &Place, servers: &Value) -> McpSettings {
    let file = place.file("servers.json");
    write_servers(&file, servers);
    McpSettings {
        file: Some(file),
        environment: BTreeMap::from([
            ("PATH".to_owned(), OsString::from("/usr/bin:/bin")),
            ("HOME".to_owned(), place.0.clone().into_os_string()),
        ]),
        handshake_timeout: Duration::from_secs(20),
        end_grace: Duration::from_millis(500),
        ..McpSettings::default()
    }
}

async fn tools_of(place: &Place, servers: &Value) -> Bench {
    tools_with(settings(place, servers)).await
}

async fn tools_with(settings: McpSettings) -> Bench {
    let (fixture, database) = Fixture::fresh().await;
    let store = fixture.executor.clone();
    let tools = McpTools::new(settings, store.clone(), Uuid::now_v7());
    Bench { tools, store, _fixture: fixture, _database: database }
}

fn example() -> Value {
    json!({"example": {"command": SERVER, "args": ["--faults"], "env": {"OWN": "1"}}})
}

fn call(uses: &str, input: Value) -> StepCall {
    StepCall {
        uses: uses.to_owned(),
        input,
        idempotency_key: "root/step".to_owned(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        limit: Duration::from_secs(30),
        agent: AgentId::new(),
        task: TaskId::new(),
        run: RunId::floor(jiff::Timestamp::UNIX_EPOCH),
        cause_depth: 0,
        budget: ordinaut_schema::budget::Budget::default(),
        zone: ordinaut_schema::time::Zone::utc(),
        cancelled: CancellationToken::new(),
    }
}

async fn run(tools: &McpTools, uses: &str, input: Value) -> Result<Value, StepFailure> {
    tools.execute(call(uses, input)).await.map(|answer| answer.output().unwrap())
}

/// Waits until `condition` holds, with a deadline.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    tokio::time::timeout(Duration::from_mins(1), async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never came: {what}"));
}

fn is_gone(process: i32) -> bool {
    kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)
        // A zombie is nobody any more; whoever inherited it may be slow to say so.
        || std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[tokio::test]
async fn a_structured_output_keeps_its_type() {
    let place = Place::new("typed");
    let tools = tools_of(&place, &example()).await;
    let output = run(&tools, "example.get_weather", json!({"city": "Chisinau"})).await.unwrap();
    assert_eq!(output["city"], "Chisinau");
    assert!(output["temperature"].is_i64(), "{output}");
    let again = run(&tools, "example.get_weather", json!({"city": "Chisinau"})).await.unwrap();
    assert_eq!(output, again);
    tools.close().await;
}

#[tokio::test]
async fn a_server_sees_the_key_and_a_cleared_environment() {
    let place = Place::new("cleared");
    let tools = tools_of(&place, &example()).await;
    let seen = run(&tools, "example.look", Value::Null).await.unwrap();
    assert_eq!(seen["key"], "root/step");
    assert_eq!(seen["environment"], json!(["HOME", "OWN", "PATH"]));
    tools.close().await;
}

#[tokio::test]
async fn a_credential_that_stands_in_the_file_as_it_is_is_in_no_output_and_no_error() {
    let place = Place::new("literal");
    let env = json!({ "API_KEY": "hunter2hunter2", "MODE": "production" });
    let words = json!({
        "command": "/bin/sh", "args": ["-c", "echo \"started with $API_KEY\" >&2; read line; sleep 1"], "env": env,
    });
    let servers = json!({ "example": { "command": SERVER, "args": ["--faults"], "env": env }, "words": words });
    let tools = tools_of(&place, &servers).await;
    let said = async |variable: &str, how: &str| {
        run(&tools, "example.repeat", json!({ "variable": variable, "how": how })).await
    };
    let output = said("API_KEY", "answer").await.unwrap().to_string();
    let failure = said("API_KEY", "fail").await.unwrap_err().message;
    for kept in [output, failure] {
        assert!(kept.contains("[hidden]"), "{kept}");
        for form in ["hunter2", "aHVudGVyMmh1bnRlcjI"] {
            assert!(!kept.contains(form), "{kept}");
        }
    }
    let setting = said("MODE", "answer").await.unwrap().to_string();
    assert!(setting.contains("production"), "a setting is no credential: {setting}");
    let ended = run(&tools, "words.x", json!({})).await.unwrap_err();
    assert!(ended.message.contains("started with [hidden]"), "{ended}");
    tools.close().await;
}

#[tokio::test]
async fn calls_share_one_process() {
    let place = Place::new("shared");
    let tools = tools_of(&place, &example()).await;
    let (one, two) = tokio::join!(run(&tools, "example.look", json!({})), run(&tools, "example.look", json!({})));
    assert_eq!(one.unwrap()["process"], two.unwrap()["process"]);
    tools.close().await;
}

#[tokio::test]
async fn failures_of_a_tool_have_their_kinds() {
    let place = Place::new("kinds");
    let tools = tools_of(&place, &example()).await;
    let failed = run(&tools, "example.fail", json!({})).await.unwrap_err();
    assert_eq!((failed.kind, failed.sent), (ErrorKind::ToolError, false));
    assert!(failed.message.contains("asked to fail"), "{failed}");
    let flooded = run(&tools, "example.flood", json!({})).await.unwrap_err();
    assert_eq!((flooded.kind, flooded.sent), (ErrorKind::InvalidOutput, true));
    let unfit = run(&tools, "example.get_weather", json!({"town": "x"})).await.unwrap_err();
    assert!(matches!(unfit.kind, ErrorKind::ClientError | ErrorKind::ToolError), "{unfit}");
    let unknown = run(&tools, "example.get_wether", json!({"city": "x"})).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::ClientError);
    assert!(unknown.message.contains("did you mean `example.get_weather`"), "{unknown}");
    let nowhere = run(&tools, "exmaple.get_weather", json!({})).await.unwrap_err();
    assert!(nowhere.message.contains("did you mean `example`"), "{nowhere}");
    tools.close().await;
}

#[tokio::test]
async fn a_crash_during_a_call_may_have_sent_and_the_next_call_finds_a_new_process() {
    let place = Place::new("crash");
    let tools = tools_of(&place, &example()).await;
    let before = run(&tools, "example.look", json!({})).await.unwrap();
    let crashed = run(&tools, "example.crash", json!({})).await.unwrap_err();
    assert_eq!((crashed.kind, crashed.sent), (ErrorKind::Connection, true), "{crashed}");
    let after = run(&tools, "example.look", json!({})).await.unwrap();
    assert_ne!(before["process"], after["process"]);
    tools.close().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_was_never_sent_anything_and_rests_between_tries() {
    let place = Place::new("absent");
    let tools = tools_of(
        &place,
        &json!({
            "absent": {"command": "/nonexistent/server"},
            "dying": {"command": "sh", "args": ["-c", "echo no license key >&2; exit 1"]},
        }),
    )
    .await;
    let absent = run(&tools, "absent.any", json!({})).await.unwrap_err();
    assert_eq!((absent.kind, absent.sent), (ErrorKind::Connection, false), "{absent}");
    assert!(absent.message.contains("/nonexistent/server"), "{absent}");
    assert!(absent.retry_after.is_some());
    let dying = run(&tools, "dying.any", json!({})).await.unwrap_err();
    assert_eq!((dying.kind, dying.sent), (ErrorKind::Connection, false), "{dying}");
    tools.close().await;
}

#[tokio::test]
async fn a_time_out_and_a_cancellation_are_told_to_the_server() {
    let place = Place::new("slow");
    let tools = tools_of(&place, &example()).await;
    run(&tools, "example.look", json!({})).await.unwrap();

    let mut slow = call("example.slow", json!({"seconds": 600}));
    slow.limit = Duration::from_millis(300);
    let failure = tools.execute(slow).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (ErrorKind::Timeout, true), "{failure}");

    let slow = call("example.slow", json!({"seconds": 600}));
    let cancelled = slow.cancelled.clone();
    let (ended, ()) = tokio::join!(tools.execute(slow), async {
        until("the second at the server", async || run(&tools, "example.look", json!({})).await.unwrap()["begun"] == 2)
            .await;
        cancelled.cancel();
    });
    let failure = ended.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (ErrorKind::Cancelled, true), "{failure}");

    until("both cancellations at the server", async || {
        run(&tools, "example.look", json!({})).await.unwrap()["cancelled"] == 2
    })
    .await;
    tools.close().await;
}

#[tokio::test]
async fn a_server_that_hangs_in_the_handshake_does_not_hold_its_caller() {
    let place = Place::new("hangs");
    let tools = tools_of(&place, &json!({"hangs": {"command": "sleep", "args": ["1000"]}})).await;
    let mut hanging = call("hangs.any", json!({}));
    hanging.limit = Duration::from_millis(300);
    let failure = tools.execute(hanging).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (ErrorKind::Connection, false), "{failure}");
    tools.close().await;
}

/// Older servers die of a first message that is not `initialize`, or answer it too late.
#[tokio::test]
async fn a_server_that_falls_over_the_newer_protocol_is_started_again_the_older_way() {
    let place = Place::new("older");
    let mark = place.file("mark");
    let script = format!(
        "if [ -e '{0}' ]; then exec '{SERVER}' --faults; fi; touch '{0}'; read question; exit 1",
        mark.display()
    );
    let tools = tools_of(&place, &json!({"older": {"command": "sh", "args": ["-c", script]}})).await;
    let output = run(&tools, "older.get_weather", json!({"city": "Rome"})).await.unwrap();
    assert_eq!(output["city"], "Rome");
    tools.close().await;
}

/// Bytes of memory that this process holds; `None` where that cannot be asked so easily.
fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

#[tokio::test]
async fn a_server_that_floods_is_given_up_within_bounded_memory() {
    for command in ["cat /dev/zero", "yes"] {
        let place = Place::new("floods");
        let floods = json!({"floods": {"command": "sh", "args": ["-c", command]}});
        let tools =
            tools_with(McpSettings { handshake_timeout: Duration::from_secs(1), ..settings(&place, &floods) }).await;
        let before = resident_bytes();
        let failure = run(&tools, "floods.any", json!({})).await.unwrap_err();
        assert_eq!((failure.kind, failure.sent), (ErrorKind::Connection, false), "{failure}");
        if let (Some(before), Some(after)) = (before, resident_bytes()) {
            assert!(after.saturating_sub(before) < 64 * 1024 * 1024, "{command}: {before} to {after} bytes");
        }
        tools.close().await;
    }
}

#[tokio::test]
async fn closing_kills_the_whole_group_even_a_grandchild_that_ignores_sigterm() {
    let place = Place::new("group");
    let note = place.file("grandchild");
    let script = format!(
        "(trap '' TERM; echo $$ > /dev/null; exec sleep 1000) & echo $! > '{}'; exec '{SERVER}' --faults",
        note.display()
    );
    let tools = tools_of(&place, &json!({"example": {"command": "sh", "args": ["-c", script]}})).await;
    let seen = run(&tools, "example.look", json!({})).await.unwrap();
    let leader = i32::try_from(seen["process"].as_i64().unwrap()).unwrap();
    let grandchild: i32 = std::fs::read_to_string(&note).unwrap().trim().parse().unwrap();
    assert!(!is_gone(leader) && !is_gone(grandchild));
    tools.close().await;
    until("the end of the group", async || is_gone(leader) && is_gone(grandchild)).await;
}

#[tokio::test]
async fn a_crashed_leader_does_not_leave_its_children_behind() {
    let place = Place::new("orphan");
    let note = place.file("grandchild");
    let script = format!("sleep 1000 & echo $! > '{}'; exec '{SERVER}' --faults", note.display());
    let tools = tools_of(&place, &json!({"example": {"command": "sh", "args": ["-c", script]}})).await;
    run(&tools, "example.crash", json!({})).await.unwrap_err();
    let grandchild: i32 = std::fs::read_to_string(&note).unwrap().trim().parse().unwrap();
    // The next call meets the loss and clears away the old group.
    run(&tools, "example.look", json!({})).await.unwrap();
    until("the end of the orphan", async || is_gone(grandchild)).await;
    tools.close().await;
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_what_it_drops_is_stopped() {
    let place = Place::new("reload");
    let tools = tools_of(&place, &example()).await;
    let seen = run(&tools, "example.look", json!({})).await.unwrap();
    let process = i32::try_from(seen["process"].as_i64().unwrap()).unwrap();
    let stop = CancellationToken::new();
    let served = tools.serve(stop.clone());
    let changed = async {
        std::fs::write(place.file("servers.json"), "{ half a fi").unwrap();
        write_servers(&place.file("servers.json"), &json!({"other": {"command": SERVER}}));
        until("the new entry", async || tools.servers().iter().any(|(name, _)| name == "other")).await;
        until("the end of the old one", async || is_gone(process)).await;
        run(&tools, "other.get_weather", json!({"city": "Paris"})).await.unwrap();
        assert_eq!(run(&tools, "example.look", json!({})).await.unwrap_err().kind, ErrorKind::ClientError);
        stop.cancel();
    };
    tokio::join!(served, changed);
    assert!(tools.servers().is_empty());
}

#[tokio::test]
async fn a_survey_describes_every_tool_with_its_hints_and_hash() {
    let place = Place::new("survey");
    let tools = tools_of(
        &place,
        &json!({"example": {"command": SERVER}, "http": {"command": SERVER}, "self": {"command": "ordinaut-mcp"}}),
    )
    .await;
    tools.survey().await;
    let described = tools.describe();
    let names: Vec<_> = described.iter().map(|it| format!("{}.{}", it.server, it.tool)).collect();
    assert_eq!(names, ["example.get_weather", "example.roll"]);
    assert!(described[0].read_only && !described[0].idempotent && described[1].idempotent);
    assert_eq!(described[0].input_schema["properties"]["city"]["type"], "string");
    assert_eq!(tools.servers(), [("example".to_owned(), true)]);
    assert!(tools.unusable().contains_key("http"));
    tools.close().await;
}

/// The example server over HTTP, and its address.
async fn serve_http() -> (tokio::process::Child, String) {
    let mut server = Command::new(SERVER)
        .args(["--faults", "--http", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let base = lines.next_line().await.unwrap().unwrap();
    (server, base)
}

#[tokio::test]
async fn the_example_server_has_pages_for_http_steps() {
    let (_server, base) = serve_http().await;
    let allowed = base.trim_start_matches("http://").parse().unwrap();
    let http = HttpAction::new(Guard::new(vec![allowed], SystemResolver), HttpLimits::default());
    let get = async |path: &str| {
        let call = call("http.get", json!({"url": format!("{base}{path}")}));
        http.execute(call).await.unwrap().output().unwrap()["body"].clone()
    };
    let forecast = get("/forecast?city=Chisinau").await;
    assert!(forecast["temperature"].is_i64(), "{forecast}");
    let first = get("/page").await;
    assert_eq!((get("/page").await, get("/page").await), (first.clone(), first.clone()));
    assert_ne!(get("/page").await, first, "a new edition comes with every third visit");
    let put = call("http.put", json!({"url": format!("{base}/page"), "body": "News!"}));
    http.execute(put).await.unwrap();
    assert_eq!(get("/page").await, "News!");
}

#[tokio::test]
async fn a_server_is_called_over_streamable_http() {
    let place = Place::new("http");
    let (mut server, base) = serve_http().await;
    let tools = tools_of(&place, &json!({"remote": {"type": "http", "url": format!("{base}/mcp")}})).await;
    let output = run(&tools, "remote.get_weather", json!({"city": "Oslo"})).await.unwrap();
    assert_eq!(output["city"], "Oslo");
    assert_eq!(run(&tools, "remote.look", json!({})).await.unwrap()["key"], "root/step");
    assert_eq!(run(&tools, "remote.fail", json!({})).await.unwrap_err().kind, ErrorKind::ToolError);

    server.kill().await.unwrap();
    let gone = run(&tools, "remote.get_weather", json!({"city": "Oslo"})).await.unwrap_err();
    assert_eq!((gone.kind, gone.sent), (ErrorKind::Connection, false), "{gone}");
    tools.close().await;
}
