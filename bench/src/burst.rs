//! `burst`: thousands of tasks of 100 agents are due at one instant; how late each starts.
//!
//! A start is the claim's instant, as history keeps it, by the same clock that the schedule goes by. Beside it the limit
//! program: bare planning, a thousand tasks a statement, then the bare drain, begun at that instant. So many tasks are
//! stored, all active, those that are due among them.

use ordinaut_schema::schedule::ScheduleKind;
use serde_json::json;

use crate::{
    limit::planning::plan_and_drain,
    measure::{Figure, LAST, MIDDLE, Subject, Told, WORST, interleaved},
    scene::{Scene, Tasks, amount, nothing},
};

const ROUNDS: u32 = 5;
const STORED: u32 = 10_000;
const DUE: u32 = 10_000;
const AGENTS: u32 = 100;
/// Seconds, for the last of 10,000.
const LAST_GOAL: f64 = 0.6e9;
/// For the last of more, beside the limit program's.
const RATIO_GOAL: f64 = 1.5;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let (stored, due) = (amount("ORDINAUT_BENCH_TASKS", STORED)?, amount("ORDINAUT_BENCH_DUE", DUE)?);
    let rounds = amount("ORDINAUT_BENCH_ROUNDS", ROUNDS)?;
    // None but those that are moved comes due by itself.
    let schedule = (ScheduleKind::Interval, "24h");
    let fields = json!({ "pipeline": nothing(1), "overlap": "skip" });
    let tasks = Tasks { count: stored.max(due), agents: AGENTS, schedule, fields };
    let scene = Scene::set("burst", tasks)?;
    scene.runtime.block_on(choose(&scene, due))?;
    let (scene, mut subjects) = (&scene, Vec::new());
    let told = [("limit", 0), ("one executor", 1), ("two executors", 2)].map(|(name, executors)| {
        let told = Told::default();
        let round = told.keep(MIDDLE, move || scene.runtime.block_on(burst(scene, due, executors)));
        subjects.push(Subject::new("late, p50", name, "ns", round));
        (name, told)
    });
    for (name, told) in &told {
        subjects.push(Subject::told("late, p99", name, told, WORST));
    }
    for (name, told) in &told {
        let last = Subject::told("late, last", name, told, LAST);
        subjects.push(if due == DUE && *name != "limit" { last.goal(LAST_GOAL) } else { last });
    }
    let [(_, limit), executors @ ..] = &told;
    for (name, told) in executors {
        let ratio = Subject::ratio("last to limit", name, (told, limit), LAST);
        subjects.push(if due == DUE { ratio } else { ratio.goal(RATIO_GOAL) });
    }
    interleaved(rounds.try_into()?, subjects)
}

/// Those that will be due, of all agents alike.
async fn choose(scene: &Scene, due: u32) -> anyhow::Result<()> {
    let chosen = format!("create table chosen as select id from task order by md5(id::text) limit {due}");
    scene.sql(&format!("{chosen}; analyze chosen")).await
}

/// Nanoseconds from the instant to each start.
async fn burst(scene: &Scene, due: u32, executors: u32) -> anyhow::Result<Vec<f64>> {
    scene.empty().await?;
    let executors = if executors > 0 { Some(scene.executors(executors).await?) } else { None };
    // Far enough ahead for the rows to be written, and the tables looked after.
    let at = (scene.now().await? + 3.0 + f64::from(due) / 8_000.0).ceil();
    scene
        .sql(&format!(
            "
            update task
            set next_occurrence_at = to_timestamp({at}),
                next_due_at = to_timestamp({at}),
                last_occurrence_at = null,
                runs_planned = 0
            where id in (select id from chosen)
            "
        ))
        .await?;
    scene.settle().await?;
    scene.sql("notify ordinaut_due, '0'").await?;
    scene.until(at).await?;
    if executors.is_none() {
        plan_and_drain(scene.owner()).await?;
    }
    scene.until_ended(due).await?;
    if let Some(executors) = executors {
        executors.stop();
    }
    scene
        .numbers("select (extract(epoch from started_at - occurrence_at) * 1000000000)::double precision from run")
        .await
}
