//! Events cause runs: once each, within their agent, whatever is delivered how often.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    id::TaskId,
    run::{RunState, SkipReason, Trigger, Verdict},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller,
    claims::ClaimedRun,
    conclusions::Conclusion,
    inbound::NewEvent,
    runs::RunFilter,
    tasks::Inserted,
    testing::{Fixture, accepted_with},
};
use serde_json::{Value, json};
use uuid::Uuid;

async fn listening(f: &Fixture, title: &str, topic: &str, fields: Value) -> TaskId {
    let now = f.mcp.now().await.unwrap();
    let mut all = json!({ "overlap": "queue", "queue_limit": 10_000 });
    if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
        all.extend(fields);
    }
    let definition = accepted_with(title, (ScheduleKind::Event, topic), now, all);
    match f.mcp.insert_task(&Caller::local("test"), &definition, None).await.unwrap() {
        Inserted::Created(task) | Inserted::Existed(task) => task.id,
    }
}

fn event(id: &str, topic: &str, payload: Value) -> NewEvent {
    NewEvent { id: Some(id.to_owned()), topic: topic.to_owned(), payload, cause_depth: 0 }
}

async fn claim(f: &Fixture) -> Vec<ClaimedRun> {
    let limit = NonZeroU16::new(100).expect("not zero");
    f.executor.claim_runs(Uuid::now_v7(), limit, Duration::from_mins(1), i64::MIN).await.unwrap()
}

async fn succeed(f: &Fixture, run: &ClaimedRun) {
    let conclusion = Conclusion {
        lease: run.lease(),
        verdict: Verdict::Succeeded { output: Value::Null },
        steps: Vec::new(),
        ran_for: Duration::ZERO,
    };
    f.executor.conclude_runs(vec![conclusion]).await.unwrap();
}

#[tokio::test]
async fn the_same_event_twice_causes_one_run_also_after_it_ended() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    listening(&f, "mail", "user.email.*", json!({})).await;
    let first = f.mcp.publish_event(&local, event("1", "user.email.received", json!({ "n": 1 }))).await.unwrap();
    assert_eq!((first.duplicate, first.runs.len()), (false, 1));
    let again = f.mcp.publish_event(&local, event("1", "user.email.received", json!({ "n": 1 }))).await.unwrap();
    assert_eq!((again.duplicate, &again.runs), (true, &first.runs));

    let run = claim(&f).await.remove(0);
    assert_eq!(run.trigger, Trigger::Event);
    assert_eq!(run.event, Some(json!({ "id": "1", "topic": "user.email.received", "payload": { "n": 1 } })));
    succeed(&f, &run).await;
    let late = f.executor.publish_event(&local, event("1", "user.email.received", json!({ "n": 1 }))).await.unwrap();
    assert!(late.duplicate);
    assert!(claim(&f).await.is_empty());
}

#[tokio::test]
async fn an_event_reaches_a_task_that_is_being_edited() {
    let (f, _database) = Fixture::fresh().await;
    let task = listening(&f, "mail", "ping", json!({})).await;
    let edit = f.edit(task).await;
    let store = f.mcp.clone();
    let publishing =
        tokio::spawn(async move { store.publish_event(&Caller::local("test"), event("1", "ping", Value::Null)).await });
    f.until_waiting(1).await;
    edit.commit().await.unwrap();
    assert_eq!(publishing.await.unwrap().unwrap().runs.len(), 1);
    assert_eq!(claim(&f).await.remove(0).revision, 2);
}

#[tokio::test]
async fn an_event_reaches_only_its_own_agents_tasks() {
    let (f, _database) = Fixture::fresh().await;
    let other = f.agent("other").await.unwrap();
    listening(&f, "mine", "ping", json!({})).await;
    assert!(f.mcp.publish_event(&other, event("1", "ping", Value::Null)).await.unwrap().runs.is_empty());
    let mine = f.mcp.publish_event(&Caller::local("test"), event("1", "ping", Value::Null)).await.unwrap();
    assert_eq!((mine.duplicate, mine.runs.len()), (false, 1), "event ids are the agent's own");
}

#[tokio::test]
async fn a_filter_lets_only_matching_events_pass() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    listening(&f, "hot", "weather", json!({ "event_filter": "event.payload.temperature > `25`" })).await;
    let cold = f.mcp.publish_event(&local, event("1", "weather", json!({ "temperature": 12 }))).await.unwrap();
    let hot = f.mcp.publish_event(&local, event("2", "weather", json!({ "temperature": 31 }))).await.unwrap();
    let odd = f.mcp.publish_event(&local, event("3", "weather", json!({ "temperature": "hot" }))).await.unwrap();
    assert_eq!((cold.runs.len(), hot.runs.len(), odd.runs.len()), (0, 1, 0));
    assert!(odd.skipped[0].1.contains("event_filter"), "{:?}", odd.skipped);
}

#[tokio::test]
async fn a_paused_task_records_the_event_as_skipped() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    let task = listening(&f, "paused", "ping", json!({})).await;
    f.mcp.pause_task(&local, task, None, None).await.unwrap();
    let published = f.mcp.publish_event(&local, event("1", "ping", Value::Null)).await.unwrap();
    assert_eq!(published.skipped, [("paused".to_owned(), "paused".to_owned())]);
    let runs = f.mcp.list_runs(&local, &RunFilter::default(), None, 10).await.unwrap();
    assert_eq!((runs[0].state, runs[0].skip_reason), (RunState::Skipped, Some(SkipReason::Paused)));
}

#[tokio::test]
async fn ordinauts_own_events_cause_runs_and_a_chain_of_causes_ends() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    // It listens to its own end: the shortest circle there is.
    listening(&f, "circle", "run.succeeded", json!({})).await;
    listening(&f, "start", "go", json!({})).await;
    f.mcp.publish_event(&local, event("1", "go", Value::Null)).await.unwrap();
    let mut depths = Vec::new();
    while let Some(run) = claim(&f).await.pop() {
        depths.push(run.cause_depth);
        succeed(&f, &run).await;
    }
    assert_eq!(depths, (1..=8).collect::<Vec<u16>>());
}
