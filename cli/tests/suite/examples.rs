//! Every definition in `examples/`, as it is: parsed, applied, run by a real executor, and seen to do what it says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;

use ordinaut_schema::{limits::Limits, task};
use ordinaut_store::{Caller, Role, Settings, Store, inbound::NewEvent, testing::redis_url};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::support::programs::{CommandLine, PATIENCE, path, program, repository};

/// The definitions that this file proves; a new one in the directory has to come here.
const EXAMPLES: [&str; 5] =
    ["mcp-tool.yaml", "morning-briefing.yaml", "on-event.yaml", "original.yaml", "watch-page.yaml"];

/// A database with every example applied, an executor over it, and the pages that examples fetch.
struct Stage {
    cli: CommandLine,
    pages: SocketAddr,
    _server: Child,
    _executor: Child,
}

impl Stage {
    async fn set() -> Self {
        let cli = CommandLine::new().await;
        let (server, pages) = example_server().await;
        let executor = executor(&cli, pages).await;
        let stage = Self { cli, pages, _server: server, _executor: executor };
        stage.see_the_tool().await;
        stage
    }

    /// Applies one example; it has to go in without a fault.
    async fn apply(&self, example: &str) -> Value {
        self.cli.run(&["apply", "-f", &format!("examples/{example}"), "--json"]).await.json()[0].clone()
    }

    /// Runs a task to its end, with `server` pointed at this stage's pages.
    async fn run(&self, title: &str) -> Value {
        let server = format!("server=http://{}", self.pages);
        let run =
            self.cli.run(&["run", title, "--param", &server, "--wait", "--timeout", "40s", "--json"]).await.json();
        assert_eq!(run["state"], "succeeded", "{run}");
        run
    }

    async fn inbox(&self) -> Vec<Value> {
        self.cli.run(&["inbox", "--json"]).await.json().as_array().unwrap().clone()
    }

    async fn put_page(&self, text: &str) {
        let mut connection = TcpStream::connect(self.pages).await.unwrap();
        let request = format!(
            "PUT /page HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            self.pages,
            text.len()
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Waits until the executor has asked the example server for its tools: until then a definition may not use them.
    async fn see_the_tool(&self) {
        let deadline = Instant::now() + PATIENCE;
        let file = repository().join("examples/mcp-tool.yaml");
        loop {
            let said = self.cli.run(&["apply", "--dry-run", "--json", "-f", file.to_str().unwrap()]).await;
            if said.code == 0 && said.parsed()[0]["warnings"] == json!([]) {
                return;
            }
            assert!(Instant::now() < deadline, "the executor never saw example.get_weather: {said:?}");
            sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

async fn example_server() -> (Child, SocketAddr) {
    let mut command = Command::new(program("ordinaut-example-server"));
    command.args(["--http", "127.0.0.1:0"]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    timeout(PATIENCE, stdout.read_line(&mut first)).await.expect("it says where it listens").unwrap();
    (child, first.trim().strip_prefix("http://").unwrap().parse().unwrap())
}

async fn executor(cli: &CommandLine, pages: SocketAddr) -> Child {
    let beside = program("ordinaut-executor");
    let path = format!("{}:{}", beside.parent().unwrap().display(), path().to_str().unwrap());
    let log = std::fs::File::create(cli.directory.join("executor.log")).unwrap();
    Command::new(beside)
        .current_dir(repository())
        .env_clear()
        .env("PATH", path)
        .env("HOME", &cli.directory)
        .env("DATABASE_URL", &cli.database.url)
        .env("REDIS_URL", redis_url().await)
        .env("ORDINAUT_HTTP_ALLOW", pages.to_string())
        .env("ORDINAUT_MCP_SERVERS", repository().join("examples/mcp-servers.json"))
        .env("ORDINAUT_EXECUTOR_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn step<'a>(run: &'a Value, id: &str) -> &'a Value {
    run["steps"].as_array().unwrap().iter().find(|step| step["step"] == id).unwrap_or(&Value::Null)
}

#[test]
fn every_example_is_read_and_is_proven_below() {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(repository().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            assert_eq!(task::read(&text, &Limits::DEFAULT).unwrap().len(), 1, "{name}");
            found.insert(name);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            // What each of its tables means is proven where it is read, in the executor.
            assert!(text.parse::<toml::Table>().unwrap().is_empty(), "{name} is to be commented out");
        } else {
            let file: Value = serde_json::from_str(&text).unwrap();
            assert!(file["mcpServers"].is_object(), "{name}");
        }
    }
    assert_eq!(found, EXAMPLES.map(str::to_owned).into());
}

#[tokio::test]
async fn the_morning_briefing_fetches_branches_and_posts() {
    let stage = Stage::set().await;
    let applied = stage.apply("morning-briefing.yaml").await;
    assert!(applied["next"][0]["local"].as_str().unwrap().contains("T08:30:00+0"), "{applied}");

    let run = stage.run("Weekday morning briefing").await;

    let temperature = step(&run, "weather")["output"]["body"]["temperature"].as_i64().unwrap();
    let (told, silent) = if temperature > 20 { ("warm", "cold") } else { ("cold", "warm") };
    assert_eq!(step(&run, told)["state"], "succeeded", "{run}");
    assert_eq!(step(&run, silent)["state"], "skipped", "{run}");
    let inbox = stage.inbox().await;
    assert_eq!(inbox.len(), 1, "{inbox:?}");
    assert_eq!(inbox[0]["body"], step(&run, "weather")["output"]["body"]["summary"]);
    assert_eq!(inbox[0]["run_id"], run["id"]);
}

#[tokio::test]
async fn the_watch_posts_only_when_the_page_is_another_than_before() {
    let stage = Stage::set().await;
    stage.apply("watch-page.yaml").await;
    stage.put_page("first").await;

    let first = stage.run("Watch a page").await;
    assert_eq!(step(&first, "tell")["state"], "skipped", "{first}");
    let same = stage.run("Watch a page").await;
    assert_eq!(step(&same, "tell")["state"], "skipped", "{same}");
    stage.put_page("second").await;
    let other = stage.run("Watch a page").await;

    assert_eq!(step(&other, "tell")["state"], "succeeded", "{other}");
    let inbox = stage.inbox().await;
    assert_eq!(inbox.len(), 1, "{inbox:?}");
    assert_eq!(inbox[0]["body"].as_str().unwrap().trim(), "Before: first\nNow: second");
}

#[tokio::test]
async fn the_tool_of_an_mcp_server_is_called_and_its_answer_triggers_the_event_task() {
    let stage = Stage::set().await;
    stage.apply("mcp-tool.yaml").await;
    stage.apply("on-event.yaml").await;

    let run = stage.run("Weather by an MCP tool").await;

    let temperature = step(&run, "weather")["output"]["temperature"].as_i64().unwrap();
    let told = stage.told_of("weather.asked").await;
    assert_eq!(told["body"], format!("{temperature}°C in Chisinau"));
}

#[tokio::test]
async fn the_event_task_runs_for_an_event_that_passes_its_filter_and_for_no_other() {
    let stage = Stage::set().await;
    stage.apply("on-event.yaml").await;
    let store = Store::connect(Settings::new(&stage.cli.database.url, Role::Executor)).await.unwrap();
    let publish = async |topic: &str, payload: Value| {
        let event = NewEvent { id: None, topic: topic.to_owned(), payload, cause_depth: 0 };
        store.publish_event(&Caller::local("test"), event).await.unwrap()
    };

    assert!(publish("weather.measured", json!({ "temperature": -200, "city": "nowhere" })).await.runs.is_empty());
    assert!(publish("news.read", json!({ "temperature": 5 })).await.runs.is_empty());
    assert_eq!(publish("weather.measured", json!({ "temperature": 7, "city": "Chisinau" })).await.runs.len(), 1);

    assert_eq!(stage.told_of("weather.measured").await["body"], "7°C in Chisinau");
    assert_eq!(stage.inbox().await.len(), 1);
}

#[tokio::test]
async fn a_definition_in_the_originals_form_runs() {
    let stage = Stage::set().await;
    let applied = stage.apply("original.yaml").await;
    assert!(applied["warnings"].to_string().contains("created_by"), "{applied}");

    let run = stage.run("Page check, as the original had it").await;

    assert_eq!(step(&run, "keep-it")["state"], "succeeded", "{run}");
    assert_eq!(stage.inbox().await[0]["body"], step(&run, "fetch-page")["output"]["body"]);
}

impl Stage {
    /// Waits for the message that `on-event.yaml` leaves of an event.
    async fn told_of(&self, topic: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let title = format!("An event on {topic}");
        loop {
            if let Some(message) = self.inbox().await.into_iter().find(|message| message["title"] == title) {
                return message;
            }
            assert!(Instant::now() < deadline, "nothing was told of {topic}");
            sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}
