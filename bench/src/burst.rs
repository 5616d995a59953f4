//! `burst`: 10,000 tasks of 100 agents are due at one instant; how late each starts.
//!
//! A start is the claim's instant, as history keeps it, by the same clock that the schedule goes by. Beside it the limit
//! program: bare planning, a thousand tasks a statement, then the bare drain, begun at that instant.

use std::{cell::RefCell, rc::Rc, time::Duration};

use crate::{
    limit::planning::plan_and_drain,
    measure::{Figure, Subject, interleaved, percentile},
    scene::Scene,
};

const ROUNDS: usize = 5;
const TASKS: u32 = 10_000;
const AGENTS: u32 = 100;
const BROKEN: &str = "a burst that was met before is met again";
const LAST_GOAL: f64 = 0.6e9;
/// Between setting the instant and the instant.
const AHEAD: u32 = 2;

type Told = Rc<RefCell<Vec<f64>>>;

pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let scene = Scene::set("burst", TASKS, AGENTS)?;
    let mut subjects = Vec::new();
    for (name, executors) in [("limit", 0), ("one executor", 1), ("two executors", 2)] {
        let told = Told::default();
        let (first, scene) = (told.clone(), &scene);
        subjects.push(Subject::new("late, p50", name, "ns", move || {
            *first.borrow_mut() = scene.runtime.block_on(burst(scene, executors)).expect(BROKEN);
            percentile(&mut first.borrow_mut(), 50)
        }));
        for (case, at) in [("late, p99", 99), ("late, last", 100)] {
            let told = told.clone();
            let subject = Subject::new(case, name, "ns", move || percentile(&mut told.borrow_mut(), at));
            subjects.push(if at == 100 && executors > 0 { subject.goal(LAST_GOAL) } else { subject });
        }
    }
    let mut figures = interleaved(ROUNDS, subjects);
    figures.sort_by_key(|figure| figure.case);
    Ok(figures)
}

/// Nanoseconds from the instant to each start.
async fn burst(scene: &Scene, executors: u32) -> anyhow::Result<Vec<f64>> {
    scene.empty().await?;
    let executors = if executors > 0 { Some(scene.executors(executors).await?) } else { None };
    scene
        .sql(&format!(
            "
            with instant as (select date_trunc('second', now()) + interval '{AHEAD} s' as at)
            update task_revision
            set definition = definition || jsonb_build_object(
                'schedule_kind', 'interval',
                'schedule_expr', '1h',
                'overlap', 'skip',
                'anchored_at', to_char((at - interval '1 h') at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
            )
            from instant;
            with instant as (select date_trunc('second', now()) + interval '{AHEAD} s' as at)
            update task
            set schedule_kind = 'interval',
                next_occurrence_at = at,
                next_due_at = at,
                last_occurrence_at = null,
                runs_planned = 0
            from instant
            "
        ))
        .await?;
    scene.sql("notify ordinaut_due, '0'").await?;
    let left = scene.number("select extract(epoch from min(next_due_at) - clock_timestamp()) from task").await?;
    if left <= 0.0 {
        anyhow::bail!("the instant was over before all was set for it");
    }
    tokio::time::sleep(Duration::from_secs_f64(left)).await;
    if executors.is_none() {
        plan_and_drain(scene.owner()).await?;
    }
    scene.until_ended(TASKS).await?;
    if let Some(executors) = executors {
        executors.stop();
    }
    scene
        .numbers("select (extract(epoch from started_at - occurrence_at) * 1000000000)::double precision from run")
        .await
}
