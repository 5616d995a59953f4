//! A run that kills whoever runs it, and those that happen to be beside it.

use ordinaut_schema::{id::RunId, run::RunState, schedule::ScheduleKind};
use serde_json::json;

use crate::support::{House, Web, eventually};

const INNOCENT: usize = 20;

async fn plan(house: &House, title: &str, url: &str, runs: usize) -> Vec<RunId> {
    let step = json!({ "id": "a", "uses": "http.get", "with": { "url": url }, "timeout": "5m" });
    let fields = json!({ "overlap": "allow", "pipeline": [step] });
    let task = house.task(title, (ScheduleKind::Manual, ""), fields).await;
    let mut planned = Vec::new();
    for n in 0..runs {
        planned.push(house.run_now(&task, &format!("{title} {n}")).await);
    }
    planned
}

#[tokio::test]
async fn a_poisonous_run_is_quarantined_and_none_of_those_that_ran_beside_it() {
    let (house, web) = (House::new().await, Web::start().await);
    // First in rank, so that it is the first suspect; whoever calls it dies.
    let poison = plan(&house, "poison", &web.url("/poison"), 1).await[0];
    let innocent = plan(&house, "innocent", &web.url("/wait"), INNOCENT).await;
    for crash in 1..=2 {
        let executor = house.executor(&[web.allowed()]).await;
        eventually("all are in hand, and the poison strikes", async || {
            (web.hits("/poison") == crash && web.hits("/wait") == crash * INNOCENT).then_some(())
        })
        .await;
        executor.kill();
    }

    // Some that were never beside it before.
    let fresh = plan(&house, "fresh", &web.url("/wait"), 5).await;
    let executor = house.executor(&[web.allowed()]).await;
    eventually("it strikes once more, with fresh ones beside it", async || {
        (web.hits("/poison") == 3 && web.hits("/wait") == 2 * INNOCENT + fresh.len()).then_some(())
    })
    .await;
    executor.kill();
    web.open();

    let _last = house.executor(&[web.allowed()]).await;
    let run = house.ended(poison).await;
    assert_eq!((run.state, run.crashes), (RunState::Quarantined, 3));
    for run in innocent.into_iter().chain(fresh) {
        let run = house.ended(run).await;
        assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    }
    assert_eq!(web.hits("/poison"), 3);
}
