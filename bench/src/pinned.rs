//! `pinned`: what a snapshot that somebody holds costs, such as a dump's or a report's: no dead row of since can go.
//!
//! The drain of one executor, long enough to fill the time that the snapshot is to be held, without one and with one that
//! is taken before the gate opens and given back after the last row. How many runs that takes the first round finds out.

use std::cell::Cell;

use crate::{
    drain::{AGENTS, EACH, TASKS},
    measure::{Figure, MIDDLE, Subject, Told, interleaved},
    scene::{Scene, Tasks, amount},
};

const ROUNDS: u32 = 1;
const SECONDS: u32 = 60;
const SHARE_GOAL: f64 = 0.7;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let scene = Scene::set("pinned", Tasks::of_nothing(TASKS, AGENTS))?;
    let seconds = amount("ORDINAUT_BENCH_SECONDS", SECONDS)?;
    let (free, pinned, each) = (Told::default(), Told::default(), Cell::new(EACH));
    let drained = |pin| scene.runtime.block_on(drain(&scene, each.get(), pin));
    let subjects = vec![
        Subject::new("drain", "no snapshot held", "runs/s", free.keep_one(|| drained(false))),
        Subject::new("drain", "a snapshot held", "runs/s", {
            pinned.keep_one(|| {
                let rate = drained(true)?;
                if each.get() == EACH {
                    each.set(filling(seconds, free.at(MIDDLE)));
                }
                Ok(rate)
            })
        }),
        Subject::ratio("share", "a snapshot held", (&pinned, &free), MIDDLE).at_least(SHARE_GOAL),
    ];
    interleaved(amount("ORDINAUT_BENCH_ROUNDS", ROUNDS)?.try_into()?, subjects)
}

/// Runs of each task that keep an executor busy for so long.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
fn filling(seconds: u32, rate: f64) -> u32 {
    (f64::from(seconds) * rate / f64::from(TASKS)).ceil() as u32
}

async fn drain(scene: &Scene, each: u32, pin: bool) -> anyhow::Result<f64> {
    scene.put_runs(each).await?;
    let executors = scene.executors(1).await?;
    let held = if pin { Some(scene.hold_snapshot().await?) } else { None };
    let rate = scene.drain_rate(each * TASKS).await?;
    if let Some(held) = held {
        held.rollback().await?;
    }
    executors.stop();
    Ok(rate)
}
