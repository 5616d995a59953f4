//! What is measured: a private PostgreSQL and Redis with 10,000 tasks, an executor, and the three servers.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use ordinaut_schema::schedule::ScheduleKind;
use ordinaut_store::{
    Caller, Role, Settings, Store,
    embedded::Durability,
    testing::{Database, PrivateServers, accepted_with},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::programs::{Running, free_port, memory, programs, tempdir};

const TASKS: u32 = 10_000;
const PROGRAMS: [&str; 2] = ["ordinaut-mcp", "ordinaut-executor"];

/// One of those compared.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) url: String,
    pub(super) token: Option<String>,
    /// What can be run, each once in a while: what is told of one run late is not taken for the next.
    pub(super) changes: Vec<Change>,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    directory: PathBuf,
    http: Running,
}

impl Server {
    /// The same program over pipes.
    pub(super) fn stdio(&self) -> Command {
        let mut command = self.command();
        command.arg("stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    pub(super) fn http_memory(&self, what: &str) -> anyhow::Result<f64> {
        memory(self.http.id(), what)
    }

    fn command(&self) -> Command {
        command(&self.program, &self.arguments, &self.environment, &self.directory)
    }
}

fn command(program: &Path, arguments: &[String], environment: &[(&'static str, String)], directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).stderr(Stdio::null());
    command.envs(environment.iter().map(|(name, value)| (name, value.as_str())));
    command
}

/// What `run_now` is asked, and the resource whose subscriber hears of it.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) arguments: Value,
    pub(super) uri: String,
}

impl Change {
    /// As a server asks for it that knows its tasks.
    fn without_uri(mut self) -> Self {
        if let Some(arguments) = self.arguments.as_object_mut() {
            arguments.shift_remove("uri");
        }
        self
    }
}

pub(super) struct Site {
    servers: Vec<Server>,
    executor: Option<Running>,
    /// Where the programs keep what they write.
    directory: PathBuf,
    /// Dropped within the runtime, after the programs that use them.
    stores: Option<(Database, PrivateServers)>,
    runtime: Runtime,
}

impl Site {
    pub(super) fn start() -> anyhow::Result<Self> {
        let runtime = Runtime::new().context("a runtime")?;
        let (private, database, filled) = runtime.block_on(async {
            let private = PrivateServers::start(Durability::Durable).await;
            let database = private.database().await;
            let filled = fill(&database).await?;
            anyhow::Ok((private, database, filled))
        })?;
        let here = tempdir("mcp")?;
        let environment = vec![
            ("DATABASE_URL", database.url.clone()),
            ("REDIS_URL", private.redis_url()),
            ("ORDINAUT_CONFIG_DIR", here.display().to_string()),
            ("ORDINAUT_DATA_DIR", here.display().to_string()),
            ("ORDINAUT_EXECUTOR_LISTEN", format!("127.0.0.1:{}", free_port()?)),
            ("ORDINAUT_TIMEZONE", "Europe/Chisinau".to_owned()),
            ("ORDINAUT_LOG", "warn".to_owned()),
            // How fast it answers is asked, not how fast an agent may ask.
            ("ORDINAUT_MCP_CALLS_PER_MINUTE", "1000000".to_owned()),
            ("ORDINAUT_MCP_CALLS_BURST", "1000000".to_owned()),
        ];
        let programs = programs(&PROGRAMS)?;
        let executor = Running::start(command(&programs.join("ordinaut-executor"), &[], &environment, &here))?;
        let change = |task: &String| {
            let uri = format!("ordinaut://tasks/{task}");
            Change { arguments: json!({ "task": task, "uri": uri }), uri }
        };
        let changes: Vec<Change> = filled.tasks.iter().map(change).collect();
        let ours = Wanted {
            name: "ordinaut",
            program: programs.join("ordinaut-mcp"),
            arguments: Vec::new(),
            environment,
            directory: here.clone(),
            token: Some(filled.token),
            changes: changes.iter().cloned().map(Change::without_uri).collect(),
        };
        let mut servers = vec![ours.start()?];
        for (name, directory, program, script) in peers()? {
            let wanted = Wanted {
                name,
                program,
                arguments: vec![script],
                environment: Vec::new(),
                directory,
                token: None,
                changes: changes.clone(),
            };
            servers.push(wanted.start()?);
        }
        Ok(Self { servers, executor: Some(executor), directory: here, stores: Some((database, private)), runtime })
    }

    pub(super) fn servers(&self) -> &[Server] {
        &self.servers
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.servers.clear();
        self.executor.take();
        // What stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
        let _within = self.runtime.enter();
        drop(self.stores.take());
    }
}

/// A server before its HTTP side runs.
struct Wanted {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    directory: PathBuf,
    token: Option<String>,
    changes: Vec<Change>,
}

impl Wanted {
    fn start(self) -> anyhow::Result<Server> {
        let port = free_port()?;
        let mut http = command(&self.program, &self.arguments, &self.environment, &self.directory);
        http.arg("http").env("ORDINAUT_HTTP_ADDR", format!("127.0.0.1:{port}"));
        if self.token.is_none() {
            http.arg(port.to_string());
        }
        let Self { name, program, arguments, environment, directory, token, changes } = self;
        let url = format!("http://127.0.0.1:{port}/mcp");
        let http = Running::start(http)?;
        Ok(Server { name, url, token, changes, program, arguments, environment, directory, http })
    }
}

struct Filled {
    /// Some of them.
    tasks: Vec<String>,
    token: String,
}

/// One task that can be run, whose definition thousands of others share under titles of their own.
async fn fill(database: &Database) -> anyhow::Result<Filled> {
    let store = Store::connect(Settings::new(database.url.clone(), Role::Executor)).await?;
    let caller = Caller::local("bench");
    let now = store.now().await?;
    let pipeline = json!([{ "id": "sum", "uses": "data.transform", "with": { "value": { "n": 1 } } }]);
    let cron = (ScheduleKind::Cron, "30 8 * * MON-FRI");
    let weekdays = accepted_with("Morning report", cron, now, json!({ "pipeline": pipeline }));
    store.insert_task(&caller, &weekdays, None).await?;
    let scopes = ["task:read", "task:write", "run:control"].map(str::to_owned);
    let token = store.add_token("local", "bench", &scopes, None).await?.text;
    let copies = format!(
        "
        insert into task (
            id, agent_id, title, title_key, state, revision, schedule_kind, next_occurrence_at, next_due_at, zone_source
        )
        select gen_random_uuid(), agent_id, title || ' ' || n, title_key || ' ' || n, state, revision, schedule_kind,
            next_occurrence_at, next_due_at, zone_source
        from task, generate_series(2, {TASKS}) as n;
        insert into task_revision (task_id, revision, agent_id, definition, created_by)
        select task.id, task.revision, task.agent_id, kept.definition || jsonb_build_object('title', task.title), 'bench'
        from task
        cross join (select definition from task_revision) as kept
        where not exists (select from task_revision where task_revision.task_id = task.id);
        analyze
        "
    );
    database.run_sql(&copies).await.map_err(anyhow::Error::msg).context("store the other tasks")?;
    store.close().await;
    let tasks = database.rows("select id from task order by id limit 300").await.map_err(anyhow::Error::msg)?;
    let tasks = tasks.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
    Ok(Filled { tasks, token })
}

/// The official SDKs, as `scripts/clients` installs them: where, by what, and the server that does nothing.
fn peers() -> anyhow::Result<[(&'static str, PathBuf, PathBuf, String); 2]> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers");
    let script = |name: &str| scripts.join(name).display().to_string();
    let python = installed("mcp-2")?;
    let bundled = installed("node")?.join("node_modules/.bin/node");
    let node = if bundled.exists() { bundled } else { PathBuf::from("node") };
    let interpreter = python.join("bin/python");
    Ok([
        ("Python SDK, no-op", python, interpreter, script("no_op.py")),
        ("TypeScript SDK, no-op", installed("node")?, node, script("no_op.mjs")),
    ])
}

fn installed(set: &str) -> anyhow::Result<PathBuf> {
    let at = target()?.join("clients").join(set);
    if !at.join("installed").exists() {
        bail!("the SDKs are not installed in {}: `./just bench mcp` does it", at.display());
    }
    Ok(at)
}

fn target() -> anyhow::Result<PathBuf> {
    Ok(programs(&PROGRAMS)?.parent().context("programs lie in a directory of target/")?.to_path_buf())
}
