//! `drain`: how fast a full queue is emptied, by the real executor and by the limit program.
//!
//! 20,000 runs of 1,000 tasks of 20 agents, each of one step that computes nothing, stand in the queue with the rows that
//! the planner writes. Then a gate is opened, and the clock runs until the last history row. Executors keep everything:
//! leases, fences, history, events in the outbox and relayed to Redis, logs at the default level in a file.

use std::{cell::Cell, rc::Rc};

use crate::{
    limit::drain::{Form, drain},
    measure::{Figure, Subject, interleaved},
    scene::Scene,
};

const ROUNDS: usize = 5;
const TASKS: u32 = 1_000;
const EACH: u32 = 20;
const RUNS: u32 = TASKS * EACH;
const AGENTS: u32 = 20;

const BROKEN: &str = "a queue that was drained before drains again";
const TO_FULL: f64 = 0.7;
const TO_BARE: f64 = 0.5;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let scene = Scene::set("drain", TASKS, AGENTS)?;
    let [bare, full, one, two] = [(); 4].map(|()| Rc::new(Cell::new(0.0)));
    let limit = |form: Form, told: &Rc<Cell<f64>>| {
        let (scene, told) = (&scene, told.clone());
        move || {
            told.set(scene.runtime.block_on(limit(scene, form)).expect(BROKEN));
            told.get()
        }
    };
    let executors = |count: u32, told: &Rc<Cell<f64>>| {
        let (scene, told) = (&scene, told.clone());
        move || {
            told.set(scene.runtime.block_on(executors(scene, count)).expect(BROKEN));
            told.get()
        }
    };
    let ratio = |of: &Rc<Cell<f64>>, to: &Rc<Cell<f64>>| {
        let (of, to) = (of.clone(), to.clone());
        move || of.get() / to.get()
    };
    let case = "drain";
    Ok(interleaved(
        ROUNDS,
        vec![
            Subject::new(case, "limit, bare", "runs/s", limit(Form::Bare, &bare)),
            Subject::new(case, "limit, full", "runs/s", limit(Form::Full, &full)),
            Subject::new(case, "one executor", "runs/s", executors(1, &one)),
            Subject::new(case, "two executors", "runs/s", executors(2, &two)),
            Subject::new("share of full", "one executor", "", ratio(&one, &full)).at_least(TO_FULL),
            Subject::new("share of full", "two executors", "", ratio(&two, &full)).at_least(TO_FULL),
            Subject::new("share of bare", "one executor", "", ratio(&one, &bare)).at_least(TO_BARE),
            Subject::new("share of bare", "two executors", "", ratio(&two, &bare)).at_least(TO_BARE),
        ],
    ))
}

/// Runs a second by the last history row.
async fn rate(scene: &Scene, began: f64) -> anyhow::Result<f64> {
    let ended = scene.number("select extract(epoch from max(finished_at)) from run").await?;
    Ok(f64::from(RUNS) / (ended - began))
}

async fn limit(scene: &Scene, form: Form) -> anyhow::Result<f64> {
    scene.put_runs(EACH).await?;
    let began = scene.open_gate().await?;
    drain(scene.owner(), form).await?;
    scene.until_ended(RUNS).await?;
    rate(scene, began).await
}

async fn executors(scene: &Scene, count: u32) -> anyhow::Result<f64> {
    scene.put_runs(EACH).await?;
    let executors = scene.executors(count).await?;
    let began = scene.open_gate().await?;
    scene.until_ended(RUNS).await?;
    let rate = rate(scene, began).await?;
    executors.stop();
    Ok(rate)
}
