//! `history`: whether what is over slows what is to be done.
//!
//! Two databases, each on servers of its own: one with no history, one with 10,000,000 runs of thirty days. In both by
//! turns: every run of a full queue is claimed, 64 at a time, by the verb that executors claim with; and an executor
//! drains the queue, which writes history too.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_store::Role;
use sqlx::types::Uuid;
use tokio::time::Instant;

use crate::{
    drain::{self, AGENTS, EACH, RUNS, TASKS},
    measure::{Figure, MIDDLE, Subject, Told, interleaved},
    scene::{Scene, Tasks, amount},
};

const ROUNDS: usize = 5;
const ROWS: u32 = 10_000_000;
/// As many as an executor has permits.
const CLAIM: u16 = 64;
const LEASE: Duration = Duration::from_mins(5);
const SHARE_GOAL: f64 = 0.95;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let rows = amount("ORDINAUT_BENCH_HISTORY", ROWS)?;
    let scenes = [
        ("no history", Scene::set("no-history", Tasks::of_nothing(TASKS, AGENTS))?),
        ("with history", Scene::set("history", Tasks::of_nothing(TASKS, AGENTS))?),
    ];
    scenes[1].1.runtime.block_on(scenes[1].1.put_history(rows))?;
    let mut subjects = Vec::new();
    let claims = scenes.each_ref().map(|(name, scene)| {
        let told = Told::default();
        let round = told.keep_one(move || scene.runtime.block_on(claims(scene)));
        subjects.push(Subject::new("claims", name, "runs/s", round));
        told
    });
    let drains = scenes.each_ref().map(|(name, scene)| {
        let told = Told::default();
        let round = told.keep_one(move || scene.runtime.block_on(drain::executors(scene, 1, &[])));
        subjects.push(Subject::new("drain", name, "runs/s", round));
        told
    });
    for (case, [none, with]) in [("share of claims", &claims), ("share of drain", &drains)] {
        subjects.push(Subject::ratio(case, "with history", (with, none), MIDDLE).at_least(SHARE_GOAL));
    }
    interleaved(ROUNDS, subjects)
}

/// Claims all, and concludes nothing: runs a second.
async fn claims(scene: &Scene) -> anyhow::Result<f64> {
    scene.put_runs(EACH).await?;
    let store = scene.store(Role::Executor).await?;
    scene.open_gate().await?;
    let limit = NonZeroU16::new(CLAIM).expect("it is not 0");
    let (me, began, mut claimed, mut mark) = (Uuid::now_v7(), Instant::now(), 0, i64::MIN);
    while claimed < RUNS {
        let runs = store.claim_runs(me, limit, LEASE, mark).await?;
        mark = runs.last().map_or(i64::MIN, |run| run.rank);
        claimed += u32::try_from(runs.len())?;
    }
    let took = began.elapsed();
    store.close().await;
    Ok(f64::from(RUNS) / took.as_secs_f64())
}
