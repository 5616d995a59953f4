//! `pipelines`: the drain of runs with three steps that compute nothing, and of runs that call a server.
//!
//! The server is this program's, waits a second before each answer, and stands on the same machine. The executor has 1,000
//! permits, so that as many calls wait at once; without any cost of its own it would end 1,000 runs a second.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    drain::{self, AGENTS, TASKS},
    measure::{Figure, LAST, MIDDLE, Subject, Told, interleaved},
    scene::{Scene, Tasks, nothing},
    server::Slow,
};

const ROUNDS: usize = 3;
const STEPS: u32 = 3;
const PERMITS: u32 = 1_000;
const WAIT: Duration = Duration::from_secs(1);
/// Calls of each task: ten seconds, if they cost nothing.
const CALLS: u32 = 10;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let set = |name: &str, pipeline: Value| {
        let fields = json!({ "pipeline": pipeline, "overlap": "allow" });
        Scene::set(name, Tasks { fields, ..Tasks::of_nothing(TASKS, AGENTS) })
    };
    let (one, three) = (set("one-step", nothing(1))?, set("three-steps", nothing(STEPS))?);
    let (told_one, told_three) = (Told::default(), Told::default());
    let drained = |scene: &Scene| scene.runtime.block_on(drain::executors(scene, 1, &[]));

    let slow = one.runtime.block_on(Slow::start(WAIT))?;
    let url = format!("http://{}/", slow.address);
    let calling =
        set("calls", json!([{ "id": "call", "uses": "http.get", "with": { "url": url }, "timeout": "30s" }]))?;
    let (rate, most) = (Told::default(), Told::default());
    let subjects = vec![
        Subject::new("drain", "one step", "runs/s", told_one.keep_one(|| drained(&one))),
        Subject::new("drain", "three steps", "runs/s", told_three.keep_one(|| drained(&three))),
        Subject::ratio("to one step", "three steps", (&told_three, &told_one), MIDDLE),
        Subject::new("calls of 1 s, 1,000 permits", "one executor", "runs/s", {
            rate.keep_one(|| {
                let rate = calling.runtime.block_on(calls(&calling, &slow))?;
                most.set(vec![slow.most().into()]);
                Ok(rate)
            })
        }),
        Subject::new("the most that waited at once", "one executor", "calls", || Ok(most.at(LAST))),
    ];
    interleaved(ROUNDS, subjects)
}

async fn calls(scene: &Scene, slow: &Slow) -> anyhow::Result<f64> {
    scene.put_runs(CALLS).await?;
    let more = [("ORDINAUT_PERMITS", &*PERMITS.to_string()), ("ORDINAUT_HTTP_ALLOW", &slow.address)];
    let executors = scene.executors_with(1, &more).await?;
    let rate = scene.drain_rate(CALLS * TASKS).await?;
    executors.stop();
    Ok(rate)
}
