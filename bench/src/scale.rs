//! `scale`: the drain by one, two, four and eight executors.
//!
//! Each on as many connections as let eight of them be within PostgreSQL's hundred.

use crate::{
    drain::{self, AGENTS, TASKS},
    measure::{Figure, MIDDLE, Subject, Told, interleaved},
    scene::{Scene, Tasks},
};

const ROUNDS: usize = 3;
const CONNECTIONS: (&str, &str) = ("ORDINAUT_DATABASE_CONNECTIONS", "6");

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let scene = Scene::set("scale", Tasks::of_nothing(TASKS, AGENTS))?;
    let (scene, mut subjects) = (&scene, Vec::new());
    let counts = [("1 executor", 1), ("2 executors", 2), ("4 executors", 4), ("8 executors", 8)];
    let told = counts.map(|(name, count)| {
        let told = Told::default();
        let round = told.keep_one(move || scene.runtime.block_on(drain::executors(scene, count, &[CONNECTIONS])));
        subjects.push(Subject::new("drain", name, "runs/s", round));
        (name, told)
    });
    let [(_, one), more @ ..] = &told;
    for (name, told) in more {
        subjects.push(Subject::ratio("to one executor", name, (told, one), MIDDLE));
    }
    interleaved(ROUNDS, subjects)
}
