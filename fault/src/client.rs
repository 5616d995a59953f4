//! An assistant's end of `ordinaut-mcp stdio`: what it was told was done is written down, and is asked for at the end.

use std::{fs::File, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use ordinaut_schema::id::{RunId, TaskId};
use rmcp::{
    RoleClient, ServiceExt as _, model::CallToolRequestParams, service::RunningService, transport::TokioChildProcess,
};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use crate::{
    fleet::{path, program},
    histories::Kept,
    lab::{Books, Lab},
};

/// A call waits half a minute for its database before it says so.
const PATIENCE: Duration = Duration::from_secs(90);

/// One chat.
#[derive(Debug)]
pub struct Client {
    books: Books,
    /// The server's process.
    pub(crate) server: u32,
    chat: RunningService<RoleClient, ()>,
}

impl Client {
    /// Starts a server for this chat alone.
    pub async fn open(lab: &Lab) -> anyhow::Result<Self> {
        Self::open_program(lab, &program("ordinaut-mcp")?).await
    }

    /// The same, of another build.
    pub async fn open_program(lab: &Lab, program: &Path) -> anyhow::Result<Self> {
        let log = lab.directory.join(format!("mcp-{:08x}.log", rand::random::<u32>()));
        let mut command = Command::new(program);
        command
            .arg("stdio")
            .env_clear()
            .env("PATH", path())
            .env("HOME", &lab.directory)
            .env("ORDINAUT_CONFIG_DIR", &lab.directory)
            .env("ORDINAUT_DATA_DIR", lab.directory.join("data"))
            .env("ORDINAUT_RUNTIME_DIR", lab.directory.join("run"))
            .env("DATABASE_URL", lab.url_as("ordinaut"))
            .env("REDIS_URL", lab.servers.redis_url())
            .env("ORDINAUT_TIMEZONE", "UTC");
        let (transport, _) = TokioChildProcess::builder(command)
            .stderr(File::create(log).context("make a chat's log")?)
            .spawn()
            .context("start ordinaut-mcp")?;
        let server = transport.id().context("ordinaut-mcp ended by itself")?;
        let chat = timeout(PATIENCE, ().serve(transport)).await.context("greet ordinaut-mcp")??;
        Ok(Self { books: lab.books.clone(), server, chat })
    }

    /// Keeps a task.
    pub async fn create_task(&self, definition: Value) -> anyhow::Result<TaskId> {
        let answer = self.call("create_task", definition).await?;
        let task = id(&answer, "/task/id")?;
        self.books.acknowledge(Kept::Task(task));
        Ok(task)
    }

    /// Asks for a run, under a request id.
    pub async fn run_now(&self, task: TaskId, request: &str) -> anyhow::Result<RunId> {
        let answer = self.call("run_now", json!({ "task": task, "request_id": request })).await?;
        let run = id(&answer, "/run/id")?;
        self.books.acknowledge(Kept::Run(run));
        Ok(run)
    }

    /// Publishes an event under its own id, and answers with the runs that it started.
    pub async fn publish(&self, topic: &str, event: &str) -> anyhow::Result<Vec<RunId>> {
        let answer = self.call("publish_event", json!({ "topic": topic, "event_id": event, "payload": {} })).await?;
        let runs: Vec<RunId> = serde_json::from_value(answer["runs"].clone()).context("read the runs of an event")?;
        self.books.acknowledge(Kept::Event(event.to_owned()));
        for run in &runs {
            self.books.acknowledge(Kept::Run(*run));
        }
        Ok(runs)
    }

    /// Calls a tool; a refusal is an error.
    pub async fn call(&self, tool: &'static str, arguments: Value) -> anyhow::Result<Value> {
        let Value::Object(arguments) = arguments else { bail!("the arguments of {tool} are no object") };
        let call = self.chat.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments));
        let answer = timeout(PATIENCE, call).await.with_context(|| format!("wait for {tool}"))??;
        let answer = serde_json::to_value(answer)?;
        if answer["isError"] == Value::Bool(true) {
            bail!("{tool} was refused: {}", answer["structuredContent"]);
        }
        Ok(answer["structuredContent"].clone())
    }
}

fn id<T: std::str::FromStr>(answer: &Value, pointer: &str) -> anyhow::Result<T> {
    let text = answer.pointer(pointer).and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).with_context(|| format!("no id at {pointer} in {answer}"))
}
