//! A real executor that is killed at each named point, and what the next one makes of what it left.
//!
//! It needs a build with the feature `faults`, so it is left out unless `ORDINAUT_FAULTS_EXECUTOR` names one:
//! `./just crash-points` makes it and asks.

#![expect(clippy::print_stderr, reason = "what each point gave is what the recipe is run for")]

use std::{
    collections::BTreeSet, os::unix::process::ExitStatusExt as _, path::PathBuf, process::Stdio, time::Duration,
};

use ordinaut_schema::{run::RunState, schedule::ScheduleKind};
use ordinaut_store::{faults::POINTS, runs::RunFilter};
use serde_json::json;
use tokio::{process::Command, time::timeout};

use crate::support::{House, Web, eventually};

/// At which pass it strikes, and how often each step has been called in the end.
///
/// What the journal had is not called again; what was under way, and came back to nobody, is, under its key.
fn expected(point: &str) -> (&'static str, [usize; 2]) {
    match point {
        // The result of the first step was not written yet.
        "before-journal" => ("1*off->return", [2, 1]),
        "after-journal" | "before-call" => ("1*off->return", [1, 1]),
        "after-call" => ("1*off->return", [1, 2]),
        "before-conclude" => ("return", [1, 2]),
        _ => ("return", [1, 1]),
    }
}

async fn killed_at(program: &PathBuf, point: &str) {
    let (house, web) = (House::new().await, Web::start().await);
    let step = |id: &str| {
        let with = json!({ "url": web.url(&format!("/{id}")) });
        json!({ "id": id, "uses": "http.post", "with": with, "idempotent": true })
    };
    let due = house.store.now().await.unwrap() + Duration::from_secs(5);
    house
        .task("told", (ScheduleKind::Once, &due.to_string()), json!({ "pipeline": [step("first"), step("second")] }))
        .await;

    let (strikes, calls) = expected(point);
    let home = std::env::temp_dir().join(format!("ordinaut-faults-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&home).unwrap();
    let mut executor = Command::new(program)
        .env_clear()
        .envs(house.environment())
        .env("HOME", &home)
        .env("ORDINAUT_CONFIG_DIR", &home)
        .env("ORDINAUT_HTTP_ALLOW", web.allowed())
        .env("FAILPOINTS", format!("{point}={strikes}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ended = timeout(Duration::from_mins(1), executor.wait()).await.expect("it comes by this point").unwrap();
    assert_eq!(ended.signal(), Some(9), "{point}: {ended}");
    std::fs::remove_dir_all(home).unwrap();

    let _next = house.executor(&[web.allowed()]).await;
    let runs = eventually("the run is over", async || {
        let runs = house.store.list_runs(&house.caller, &RunFilter::default(), None, 10).await.unwrap();
        runs.iter().any(|run| run.state.is_terminal()).then_some(runs)
    })
    .await;
    assert_eq!(runs.len(), 1, "{point}: {runs:?}");
    let run = house.find(runs[0].id).await;
    assert_eq!(run.state, RunState::Succeeded, "{point}: {:?}", run.error);
    for (id, calls) in ["first", "second"].into_iter().zip(calls) {
        assert_eq!(web.keys(&format!("/{id}")), vec![format!("{}/{id}", run.id); calls], "{point}: {id}");
    }
    let told = eventually("what happened is told", async || {
        let stream = house.stream("ordinaut:events").await;
        let told: Vec<_> = stream.into_iter().filter(|event| event.fields.contains_key("sequence")).collect();
        ["task.created", "run.succeeded"]
            .iter()
            .all(|topic| told.iter().any(|event| event.topic == *topic))
            .then_some(told)
    })
    .await;
    let ids: BTreeSet<_> = told.iter().map(|event| (&event.topic, &event.fields["event_id"])).collect();
    let topics: BTreeSet<_> = told.iter().map(|event| &event.topic).collect();
    assert_eq!(ids.len(), topics.len(), "{point}: what is told twice is told under its id: {told:?}");
    eprintln!("{point}: attempts {}, crashes {}, calls {calls:?}, told {}", run.attempts, run.crashes, told.len());
}

#[tokio::test]
async fn killed_at_any_point_a_run_ends_once_and_repeats_only_what_came_back_to_nobody() {
    #[expect(clippy::disallowed_methods, reason = "the recipe says so here")]
    let Some(program) = std::env::var_os("ORDINAUT_FAULTS_EXECUTOR") else {
        eprintln!("left out: ORDINAUT_FAULTS_EXECUTOR names no executor built with the feature `faults`");
        return;
    };
    for point in POINTS {
        killed_at(&PathBuf::from(&program), point).await;
    }
}
