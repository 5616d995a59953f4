//! Runs that are asked for: asking twice asks once.
use std::collections::BTreeSet;

use ordinaut_schema::{id::TaskId, run::RunState, schedule::ScheduleKind};
use ordinaut_store::{
    Caller, StoreError,
    inbound::NewEvent,
    runs::RunFilter,
    tasks::Inserted,
    testing::{Fixture, accepted_with},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn me() -> Caller {
    Caller::local("test")
}

async fn keep(f: &Fixture, title: &str, schedule: (ScheduleKind, &str), fields: Value) -> TaskId {
    let now = f.mcp.now().await.unwrap();
    let definition = accepted_with(title, schedule, now, fields);
    let (Inserted::Created(task) | Inserted::Existed(task)) =
        f.mcp.insert_task(&me(), &definition, None).await.unwrap();
    task.id
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_id_many_times_at_once_plans_one_run() {
    let (f, _database) = Fixture::fresh().await;
    let task = keep(&f, "asked", (ScheduleKind::Manual, ""), json!({ "overlap": "allow" })).await;
    let mut askers = JoinSet::new();
    for _ in 0..8 {
        let store = f.mcp.clone();
        askers.spawn(async move { store.run_now(&me(), task, "the same", None).await.unwrap() });
    }
    let answers = askers.join_all().await;
    assert_eq!(answers.iter().map(|asked| asked.run).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(answers.iter().filter(|asked| !asked.existed).count(), 1);
    assert_eq!(f.mcp.list_runs(&me(), &RunFilter::default(), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_task_that_is_being_edited_runs_as_it_is_then() {
    let (f, _database) = Fixture::fresh().await;
    let task = keep(&f, "edited", (ScheduleKind::Manual, ""), json!({})).await;
    let edit = f.edit(task).await;
    let store = f.mcp.clone();
    let asking = tokio::spawn(async move { store.run_now(&me(), task, "1", None).await });
    f.until_waiting(1).await;
    edit.commit().await.unwrap();
    let run = asking.await.unwrap().unwrap().run;
    assert_eq!(f.mcp.find_run(&me(), run).await.unwrap().revision, 2);
}

#[tokio::test]
async fn a_request_id_of_another_tasks_run_is_refused() {
    let (f, _database) = Fixture::fresh().await;
    let one = keep(&f, "one", (ScheduleKind::Manual, ""), json!({})).await;
    let two = keep(&f, "two", (ScheduleKind::Manual, ""), json!({})).await;
    f.mcp.run_now(&me(), one, "r1", None).await.unwrap();
    let refused = f.mcp.run_now(&me(), two, "r1", None).await;
    assert!(matches!(&refused, Err(StoreError::RequestUsed { request }) if request == "r1"), "{refused:?}");
}

#[tokio::test]
async fn another_agents_task_cannot_be_run_in_either_role() {
    let (f, _database) = Fixture::fresh().await;
    let other = f.agent("other").await.unwrap();
    let task = keep(&f, "mine", (ScheduleKind::Manual, ""), json!({})).await;
    for store in [&f.mcp, &f.executor] {
        let refused = store.run_now(&other, task, "1", None).await;
        assert!(matches!(refused, Err(StoreError::TaskNotFound { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_newer_event_cancels_the_run_of_the_one_before() {
    let (f, _database) = Fixture::fresh().await;
    keep(&f, "newest", (ScheduleKind::Event, "ping"), json!({ "overlap": "cancel_running" })).await;
    let publish = async |id: &str| {
        let event = NewEvent { id: Some(id.to_owned()), topic: "ping".to_owned(), payload: json!({}), cause_depth: 0 };
        f.mcp.publish_event(&me(), event).await.unwrap().runs[0]
    };
    let (first, second) = (publish("1").await, publish("2").await);
    assert_eq!(f.mcp.find_run(&me(), first).await.unwrap().state, RunState::Cancelled);
    assert_eq!(f.mcp.find_run(&me(), second).await.unwrap().state, RunState::Pending, "nothing is in its way");
}
