//! `drain`: how fast a full queue is emptied, by the real executor and by the limit program.
//!
//! 20,000 runs of 1,000 tasks of 20 agents, each of one step that computes nothing, stand in the queue with the rows that
//! the planner writes. Then a gate is opened, and the clock runs until the last history row. Executors keep everything:
//! leases, fences, history, events in the outbox and relayed to Redis, logs at the default level in a file.

use crate::{
    limit::drain::{Form, drain},
    measure::{Figure, MIDDLE, Subject, Told, interleaved},
    scene::{Scene, Tasks},
};

const ROUNDS: usize = 5;
pub(crate) const TASKS: u32 = 1_000;
pub(crate) const EACH: u32 = 20;
pub(crate) const RUNS: u32 = TASKS * EACH;
pub(crate) const AGENTS: u32 = 20;

const TO_FULL: f64 = 0.7;
const TO_BARE: f64 = 0.5;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let scene = Scene::set("drain", Tasks::of_nothing(TASKS, AGENTS))?;
    let (scene, mut subjects) = (&scene, Vec::new());
    let [bare, full] = [("limit, bare", Form::Bare), ("limit, full", Form::Full)].map(|(name, form)| {
        let told = Told::default();
        let round = told.keep_one(move || scene.runtime.block_on(limit(scene, form)));
        subjects.push(Subject::new("drain", name, "runs/s", round));
        told
    });
    let executors = [("one executor", 1), ("two executors", 2)].map(|(name, count)| {
        let told = Told::default();
        let round = told.keep_one(move || scene.runtime.block_on(executors(scene, count, &[])));
        subjects.push(Subject::new("drain", name, "runs/s", round));
        (name, told)
    });
    for (case, limit, goal) in [("share of full", &full, TO_FULL), ("share of bare", &bare, TO_BARE)] {
        for (name, told) in &executors {
            subjects.push(Subject::ratio(case, name, (told, limit), MIDDLE).at_least(goal));
        }
    }
    interleaved(ROUNDS, subjects)
}

async fn limit(scene: &Scene, form: Form) -> anyhow::Result<f64> {
    scene.put_runs(EACH).await?;
    let began = scene.open_gate().await?;
    drain(scene.owner(), form).await?;
    scene.until_ended(RUNS).await?;
    scene.rate(RUNS, began).await
}

/// Runs a second, by so many executors, with more in their environment.
pub(crate) async fn executors(scene: &Scene, count: u32, more: &[(&str, &str)]) -> anyhow::Result<f64> {
    scene.put_runs(EACH).await?;
    let executors = scene.executors_with(count, more).await?;
    let rate = scene.drain_rate(RUNS).await?;
    executors.stop();
    Ok(rate)
}
