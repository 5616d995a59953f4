//! `steady`: an hour's share of many tasks, all the time.
//!
//! 1,000,000 tasks of 200 agents run every hour with a jitter of a minute, spread evenly: 278 a second. One executor, for
//! some minutes, in the middle of which somebody holds a snapshot for a minute. How late each run starts, what processor
//! time and memory that takes, and what grows.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use ordinaut_schema::{id::RunId, schedule::ScheduleKind, schedule::jitter_offset};
use serde_json::json;
use sqlx::types::Uuid;
use tokio::time::sleep;

use crate::{
    measure::{Figure, LAST, MIDDLE, Told, WORST, by_case},
    programs::{memory, processor_time},
    scene::{Scene, Tasks, amount, nothing},
};

const STORED: u32 = 1_000_000;
const AGENTS: u32 = 200;
const MINUTES: u32 = 5;
const HOUR: Duration = Duration::from_hours(1);
const JITTER: Duration = Duration::from_mins(1);
/// Seconds in which the tables are looked after before the first is due.
const AHEAD: f64 = 60.0;
/// Seconds past the jitter of the first.
const SETTLED: f64 = 70.0;
const HELD: Duration = Duration::from_mins(1);

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let stored = amount("ORDINAUT_BENCH_TASKS", STORED)?;
    let minutes = amount("ORDINAUT_BENCH_MINUTES", MINUTES)?.max(3);
    let fields = json!({ "pipeline": nothing(1), "overlap": "skip", "jitter": "1m" });
    let tasks = Tasks { count: stored, agents: AGENTS, schedule: (ScheduleKind::Interval, "1h"), fields };
    let scene = Scene::set("steady", tasks)?;
    scene.runtime.block_on(steady(&scene, minutes))
}

async fn steady(scene: &Scene, minutes: u32) -> anyhow::Result<Vec<Figure>> {
    spread(scene).await?;
    let executors = scene.executors(1).await?;
    let process = executors.ids().next().context("one was started")?;
    scene.sql("notify ordinaut_due, '0'").await?;
    // What came due while all was set up, if anything did, is over by then.
    let first = scene.number("select extract(epoch from min(next_due_at)) from task").await?;
    let waits = (first - scene.now().await?).max(0.0) + SETTLED;
    sleep(Duration::from_secs_f64(waits)).await;

    let beside = Duration::from_mins(minutes.into()).saturating_sub(HELD) / 2;
    let mut figures = Vec::new();
    for (name, lasts, hold) in [("before", beside, false), ("a snapshot held", HELD, true), ("after", beside, false)] {
        let held = if hold { Some(scene.hold_snapshot().await?) } else { None };
        let began = (scene.now().await?, scene.size().await?, processor_time(process)?, scene.processor_time()?);
        sleep(lasts).await;
        let took = scene.now().await? - began.0;
        let of_a_core = |now: f64, before: f64| (now - before) / took * 100.0;
        figures.push(Figure::once("executor, of one core", name, "%", of_a_core(processor_time(process)?, began.2)));
        figures.push(Figure::once("PostgreSQL, of one core", name, "%", of_a_core(scene.processor_time()?, began.3)));
        figures.push(Figure::once("executor, resident", name, "MiB", memory(process, "VmRSS")?));
        figures.push(Figure::once("growth", name, "MiB/min", (scene.size().await? - began.1) / took * 60.0));
        let late = Told::default();
        late.set(lateness(scene, began.0, began.0 + took).await?);
        figures.push(Figure::once("started", name, "runs/s", late.count() / took));
        for (case, at) in [("late, p50", MIDDLE), ("late, p99", WORST), ("late, last", LAST)] {
            figures.push(Figure::once(case, name, "ns", late.at(at)));
        }
        if let Some(held) = held {
            held.rollback().await?;
        }
    }
    executors.stop();
    Ok(by_case(figures))
}

/// Spreads the tasks over the hour that begins now, with cursors as the planner leaves them: the jitter is the run id's.
async fn spread(scene: &Scene) -> anyhow::Result<()> {
    let first = (scene.now().await? + AHEAD).ceil();
    scene
        .sql(&format!(
            "
            update task
            set next_occurrence_at = spread.at,
                next_due_at = spread.at + (
                    ('x' || substr(encode(sha256(uuid_send(task.id) || convert_to(
                        't:' || to_char(spread.at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), 'UTF8'
                    )), 'hex'), 5, 14))::bit(56)::bigint / power(2, 56) * {jitter} * interval '1 s'
                )
            from (
                select
                    id,
                    to_timestamp({first})
                    + floor(3600.0 * (row_number() over (order by md5(id::text)) - 1) / count(*) over ()) * interval '1 s' as at
                from task
            ) as spread
            where task.id = spread.id;
            update task_revision
            set definition = definition || jsonb_build_object(
                'anchored_at',
                to_char((next_occurrence_at - interval '1 h') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
            )
            from task
            where task.id = task_revision.task_id
            ",
            jitter = JITTER.as_secs(),
        ))
        .await?;
    scene.sql("vacuum analyze task_revision").await?;
    scene.settle().await
}

/// Nanoseconds from when a run was due to its start, of those that were due within.
async fn lateness(scene: &Scene, from: f64, to: f64) -> anyhow::Result<Vec<f64>> {
    let runs: Vec<(Uuid, i64, i64)> = sqlx::query_as(
        "
        select id, (extract(epoch from occurrence_at) * 1000000)::bigint, (extract(epoch from started_at) * 1000000)::bigint
        from run
        where started_at between to_timestamp($1) and to_timestamp($2)
        ",
    )
    .bind(from)
    .bind(to)
    .fetch_all(scene.owner())
    .await?;
    runs.into_iter()
        .map(|(id, occurrence, started)| {
            let (occurrence, started) =
                (Timestamp::from_microsecond(occurrence)?, Timestamp::from_microsecond(started)?);
            let due = occurrence + jitter_offset(RunId::from_uuid(id), JITTER, Some(HOUR));
            Ok(started.duration_since(due).as_secs_f64() * 1e9)
        })
        .collect()
}
