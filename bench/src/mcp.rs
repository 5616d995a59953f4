//! `mcp`: what a tool call costs, end to end, beside a tool that does nothing on the official SDKs.
//!
//! Ours answers `list_tasks` from PostgreSQL, with 10,000 tasks stored; theirs answers a word. One client, the same code
//! for each, speaks JSON-RPC over pipes and over HTTP with a session (2025-11-25). Servers take turns within a round, and
//! are the same processes from the first round to the last, but for the cold starts.

mod client;
mod site;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::json;

use crate::measure::{Figure, Subject, interleaved};

use self::{
    client::{Http, Stdio},
    site::{Server, Site},
};

/// Calls of one round, whose middle and whose hundredth from the top are its figures.
const CALLS: usize = 200;
/// Those that wait for an event take longer.
const CHANGES: usize = 15;
const ROUNDS: usize = 9;

/// Whatever answered before and does not any more ends the bench.
const GONE: &str = "a server that answered before answers again";

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let site = Site::start().context("start the servers to be measured")?;
    let mut subjects = Vec::new();
    for server in site.servers() {
        subjects.extend(of(server).with_context(|| format!("begin with {}", server.name))?);
    }
    let mut figures = interleaved(ROUNDS, subjects);
    // Measured server by server, shown case by case.
    let cases: Vec<&str> = figures.iter().map(|figure| figure.case).collect();
    figures.sort_by_key(|figure| cases.iter().position(|case| *case == figure.case));
    Ok(figures)
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
            pipes.borrow_mut().call("list_tasks", &json!({})).expect(GONE);
            began.elapsed()
        }
    }));
    subjects.extend(latency(["list_tasks over HTTP, p50", "list_tasks over HTTP, p99"], name, CALLS, move || {
        let began = Instant::now();
        http.call("list_tasks", &json!({})).expect(GONE);
        began.elapsed()
    }));
    subjects.extend(latency(["run to its subscriber, p50", "run to its subscriber, p99"], name, CHANGES, {
        let pipes = pipes.clone();
        let mut changes = server.changes.iter().cycle();
        move || pipes.borrow_mut().change(changes.next().expect("there are some")).expect(GONE)
    }));
    subjects.push(Subject::new("cold start to initialize", name, "ns", move || {
        Stdio::start(server).expect(GONE).started_in.as_secs_f64() * 1e9
    }));
    for (case, what) in [("memory over stdio", "VmRSS"), ("memory over stdio, most", "VmHWM")] {
        let pipes = pipes.clone();
        subjects.push(Subject::new(case, name, "MiB", move || pipes.borrow().memory(what).expect(GONE)));
    }
    subjects.push(Subject::new("memory over HTTP", name, "MiB", move || server.http_memory("VmRSS").expect(GONE)));
    Ok(subjects)
}

/// Two figures of the same calls: the first measures, the second tells what else came of it.
fn latency<'a>(
    [middle, worst]: [&'static str; 2],
    name: &'static str,
    calls: usize,
    mut call: impl FnMut() -> Duration + 'a,
) -> [Subject<'a>; 2] {
    let p99 = Rc::new(Cell::new(0.0));
    let told = p99.clone();
    let round = move || {
        let mut took: Vec<f64> = (0..calls).map(|_| call().as_secs_f64() * 1e9).collect();
        took.sort_by(f64::total_cmp);
        p99.set(took[(took.len() - 1) * 99 / 100]);
        took[took.len() / 2]
    };
    [Subject::new(middle, name, "ns", round), Subject::new(worst, name, "ns", move || told.get())]
}
