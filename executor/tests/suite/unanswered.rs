//! Questions to the database whose answer never comes.

use ordinaut_schema::{run::RunState, schedule::ScheduleKind};
use serde_json::json;

use crate::support::{
    House, Web, eventually,
    half_open::{Commit, HalfOpen},
};

/// A run whose conclusion meets a connection that goes deaf at its commit, and what becomes of the executor.
async fn concludes_although(commit: Commit) {
    let (house, web) = (House::new().await, Web::start().await);
    let way = HalfOpen::before(house.database_url()).await;
    let settings = [
        ("DATABASE_URL", &*way.url),
        ("ORDINAUT_DATABASE_TIMEOUT", "1s"),
        ("ORDINAUT_LEASE", "3s"),
        ("ORDINAUT_HTTP_ALLOW", &web.allowed()),
    ];
    let _executor = house.executor_with(&settings).await;
    let step = json!({ "id": "a", "uses": "http.get", "with": { "url": web.url("/fine") } });
    let task = house.task("told", (ScheduleKind::Manual, ""), json!({ "pipeline": [step] })).await;

    way.deafen("insert into run (", commit).await;
    let run = house.ended(house.run_now(&task, "1").await).await;
    assert_eq!((run.state, run.attempts, run.crashes), (RunState::Succeeded, 1, 0), "{:?}", run.error);
    eventually("its connection was deaf, and is closed", async || (way.deaf() == (0, 1)).then_some(())).await;

    let next = house.ended(house.run_now(&task, "2").await).await;
    assert_eq!((next.state, next.attempts), (RunState::Succeeded, 1), "{:?}", next.error);
    assert_eq!(web.hits("/fine"), 2);
}

#[tokio::test]
async fn a_conclusion_that_was_committed_and_never_answered_is_there_once_and_nothing_is_stuck() {
    concludes_although(Commit::Arrives).await;
}

#[tokio::test]
async fn a_conclusion_that_was_lost_on_its_way_is_written_again_and_nothing_is_stuck() {
    concludes_although(Commit::IsLost).await;
}
