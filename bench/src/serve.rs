//! `serve`: calls of `ordinaut-mcp` over HTTP by 1, 10 and 100 clients at once, with much stored.
//!
//! 1,000,000 tasks of 200 agents, as many as each may have but for room for those that are created here, and 10,000,000
//! runs in history. Each client has a session of its own, of the agent whose turn it is, and calls again as soon as it is
//! answered, for a few seconds. Clients, server and PostgreSQL share the machine.

use std::{cell::Cell, time::Duration};

use anyhow::Context as _;
use ordinaut_store::Role;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    mcp::session::Session,
    measure::{Figure, LAST, MIDDLE, Subject, Told, WORST, interleaved},
    programs::{Running, free_port},
    scene::{Scene, Tasks, amount, nothing},
};

const ROUNDS: usize = 3;
const STORED: u32 = 1_000_000;
const HISTORY: u32 = 10_000_000;
const AGENTS: u32 = 200;
const CLIENTS: [(&str, usize); 3] = [("1 client", 1), ("10 clients", 10), ("100 clients", 100)];
const FOR: Duration = Duration::from_secs(3);
const SCOPES: [&str; 3] = ["task:read", "task:write", "run:control"];

/// A tool, and what its figures are called.
const TOOLS: [(&str, [&str; 3]); 3] = [
    ("create_task", ["create_task, rate", "create_task, p50", "create_task, p99"]),
    ("list_tasks", ["list_tasks, rate", "list_tasks, p50", "list_tasks, p99"]),
    ("list_runs", ["list_runs, rate", "list_runs, p50", "list_runs, p99"]),
];

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let stored = amount("ORDINAUT_BENCH_TASKS", STORED)?;
    let scene = Scene::set("serve", Tasks::of_nothing(stored, AGENTS))?;
    let on = &scene.runtime;
    on.block_on(scene.put_history(amount("ORDINAUT_BENCH_HISTORY", HISTORY)?))?;
    let site = on.block_on(Site::start(&scene))?;
    let (site, mut subjects) = (&site, Vec::new());
    for (tool, [rate_case, middle, worst]) in TOOLS {
        for (name, clients) in CLIENTS {
            let (rate, told) = (Told::default(), Told::default());
            let calls = told.keep(MIDDLE, {
                let rate = rate.clone();
                move || {
                    let took = on.block_on(site.calls(tool, clients))?;
                    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
                    rate.set(vec![took.len() as f64 / FOR.as_secs_f64()]);
                    Ok(took)
                }
            });
            subjects.push(Subject::new(middle, name, "ns", calls));
            subjects.push(Subject::told(worst, name, &told, WORST));
            subjects.push(Subject::new(rate_case, name, "calls/s", move || Ok(rate.at(LAST))));
        }
    }
    interleaved(ROUNDS, subjects)
}

struct Site {
    url: String,
    tokens: Vec<String>,
    /// Titles are taken once.
    created: Cell<u64>,
    _server: Running,
}

impl Site {
    async fn start(scene: &Scene) -> anyhow::Result<Self> {
        let store = scene.store(Role::Executor).await?;
        let scopes = SCOPES.map(str::to_owned);
        let mut tokens = Vec::new();
        for n in 1..=AGENTS {
            tokens.push(store.add_token(&format!("agent {n}"), "bench", &scopes, None).await?.text);
        }
        store.close().await;
        let port = free_port()?;
        let mut command = scene.command("ordinaut-mcp")?;
        command
            .arg("http")
            .env("ORDINAUT_HTTP_ADDR", format!("127.0.0.1:{port}"))
            .env("ORDINAUT_LOG", "warn")
            // How fast it answers is asked, not how fast an agent may ask.
            .env("ORDINAUT_MCP_CALLS_PER_MINUTE", "1000000")
            .env("ORDINAUT_MCP_CALLS_BURST", "1000000");
        let url = format!("http://127.0.0.1:{port}/mcp");
        Ok(Self { url, tokens, created: Cell::new(0), _server: Running::start(command)? })
    }

    /// Nanoseconds of each call that so many clients make in a while.
    async fn calls(&self, asked: &'static str, clients: usize) -> anyhow::Result<Vec<f64>> {
        let mut sessions = JoinSet::new();
        for n in 0..clients {
            let (url, token) = (self.url.clone(), self.tokens[n % self.tokens.len()].clone());
            sessions.spawn(async move { Session::begin(&url, Some(&token)).await });
        }
        let sessions = sessions.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let until = Instant::now() + FOR;
        let mut calling = JoinSet::new();
        for mut session in sessions {
            let turn = self.created.get();
            self.created.set(turn + 1);
            calling.spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < until {
                    let arguments = arguments(asked, turn, took.len());
                    let began = Instant::now();
                    session.call(asked, &arguments).await?;
                    took.push(began.elapsed().as_secs_f64() * 1e9);
                }
                anyhow::Ok(took)
            });
        }
        let took = calling.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>();
        Ok(took.context(asked)?.concat())
    }
}

fn arguments(tool: &str, turn: u64, n: usize) -> Value {
    if tool != "create_task" {
        return json!({});
    }
    json!({
        "title": format!("Created {turn}, {n}"),
        "schedule_kind": "cron",
        "schedule_expr": "30 8 * * MON-FRI",
        "timezone": "Europe/Chisinau",
        "pipeline": nothing(1),
        "request_id": format!("{turn}, {n}"),
    })
}
