//! `mcp`: what a tool call costs, end to end, beside a tool that does nothing on the official SDKs.
//!
//! Ours answers `list_tasks` from PostgreSQL, with 10,000 tasks stored; theirs answers a word. One client, the same code
//! for each, speaks JSON-RPC over pipes and over HTTP with a session (2025-11-25). Servers take turns within a round, and
//! are the same processes from the first round to the last, but for the cold starts.

mod client;
pub(crate) mod session;
mod site;

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::json;

use crate::measure::{Figure, MIDDLE, Subject, Told, WORST, interleaved};

use self::{
    client::{Http, Stdio},
    site::{Server, Site},
};

/// Calls of one round, whose middle and whose hundredth from the top are its figures.
const CALLS: usize = 200;
/// Those that wait for an event take longer.
const CHANGES: usize = 15;
const ROUNDS: usize = 9;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let site = Site::start().context("start the servers to be measured")?;
    let mut subjects = Vec::new();
    for server in site.servers() {
        subjects.extend(of(server).with_context(|| format!("begin with {}", server.name))?);
    }
    interleaved(ROUNDS, subjects)
}

/// Everything that is measured of one server.
fn of(server: &Server) -> anyhow::Result<Vec<Subject<'_>>> {
    let name = server.name;
    let pipes = Rc::new(RefCell::new(Stdio::start(server).context("over stdio")?));
    let mut http = Http::connect(server).context("over HTTP")?;

    let mut subjects = Vec::new();
    subjects.extend(latency(["list_tasks over stdio, p50", "list_tasks over stdio, p99"], name, CALLS, {
        let pipes = pipes.clone();
        move || {
            let began = Instant::now();
            pipes.borrow_mut().call("list_tasks", &json!({}))?;
            Ok(began.elapsed())
        }
    }));
    subjects.extend(latency(["list_tasks over HTTP, p50", "list_tasks over HTTP, p99"], name, CALLS, move || {
        let began = Instant::now();
        http.call("list_tasks", &json!({}))?;
        Ok(began.elapsed())
    }));
    subjects.extend(latency(["run to its subscriber, p50", "run to its subscriber, p99"], name, CHANGES, {
        let pipes = pipes.clone();
        let mut changes = server.changes.iter().cycle();
        move || pipes.borrow_mut().change(changes.next().expect("there are some"))
    }));
    subjects.push(Subject::new("cold start to initialize", name, "ns", move || {
        Ok(Stdio::start(server)?.started_in.as_secs_f64() * 1e9)
    }));
    for (case, what) in [("memory over stdio", "VmRSS"), ("memory over stdio, most", "VmHWM")] {
        let pipes = pipes.clone();
        subjects.push(Subject::new(case, name, "MiB", move || pipes.borrow().memory(what)));
    }
    subjects.push(Subject::new("memory over HTTP", name, "MiB", move || server.http_memory("VmRSS")));
    Ok(subjects)
}

/// Two figures of the same calls.
fn latency<'a>(
    [middle, worst]: [&'static str; 2],
    name: &'static str,
    calls: usize,
    mut call: impl FnMut() -> anyhow::Result<Duration> + 'a,
) -> [Subject<'a>; 2] {
    let told = Told::default();
    let round = told.keep(MIDDLE, move || (0..calls).map(|_| Ok(call()?.as_secs_f64() * 1e9)).collect());
    [Subject::new(middle, name, "ns", round), Subject::told(worst, name, &told, WORST)]
}
