//! `dedupe_key` on real PostgreSQL: of those that have one key within its window, one runs.

use std::{collections::BTreeSet, time::Duration};

use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{RunState, SkipReason, Trigger},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller,
    inbound::{NewEvent, Published},
    runs::{RunFilter, RunRecord},
    tasks::{Inserted, TaskRef},
    testing::{Fixture, accepted_with},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const MANUAL: (ScheduleKind, &str) = (ScheduleKind::Manual, "");
const PINGS: (ScheduleKind, &str) = (ScheduleKind::Event, "ping");
const HOURLY: (ScheduleKind, &str) = (ScheduleKind::Interval, "1h");

fn me() -> Caller {
    Caller::local("test")
}

async fn keep(f: &Fixture, title: &str, schedule: (ScheduleKind, &str), fields: Value) -> TaskId {
    let anchor = f.mcp.now().await.unwrap() - Duration::from_hours(10);
    let definition = accepted_with(title, schedule, anchor, fields);
    let (Inserted::Created(task) | Inserted::Existed(task)) =
        f.mcp.insert_task(&me(), &definition, None).await.unwrap();
    task.id
}

/// An hourly task of which so many occurrences are due.
async fn due(f: &Fixture, title: &str, occurrences: i32, fields: Value) -> TaskId {
    let task = keep(f, title, HOURLY, fields).await;
    sqlx::query(
        "update task set next_occurrence_at = next_occurrence_at - $2 * interval '1 hour', next_due_at = now() \
         where id = $1",
    )
    .bind(task.uuid())
    .bind(occurrences)
    .execute(&f.owner)
    .await
    .unwrap();
    task
}

async fn publish(f: &Fixture, payload: Value) -> Published {
    let event = NewEvent { id: None, topic: "ping".to_owned(), payload, cause_depth: 0 };
    f.mcp.publish_event(&me(), event).await.unwrap()
}

async fn runs(f: &Fixture, task: Option<TaskId>) -> Vec<RunRecord> {
    f.mcp.list_runs(&me(), &RunFilter { task, ..RunFilter::default() }, None, 100).await.unwrap()
}

/// (those that run, those skipped as duplicates)
fn told_apart(runs: &[RunRecord]) -> (Vec<RunId>, usize) {
    let going: Vec<_> = runs.iter().filter(|run| run.state != RunState::Skipped).map(|run| run.id).collect();
    let skipped = runs.iter().filter(|run| run.skip_reason == Some(SkipReason::Duplicate)).count();
    assert_eq!(going.len() + skipped, runs.len(), "{runs:?}");
    (going, skipped)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_tasks_with_one_key_planned_by_many_at_once_one_runs() {
    let (f, _database) = Fixture::fresh().await;
    let mut tasks = Vec::new();
    for n in 0..24 {
        tasks.push(due(&f, &format!("task {n}"), 1, json!({ "dedupe_key": "the same" })).await);
    }
    let mut planners = JoinSet::new();
    for _ in 0..6 {
        let store = f.executor.clone();
        planners.spawn(async move {
            let mut planned = 0;
            loop {
                planned += store.plan_due(1).await.unwrap().runs;
                let ahead = store.look_ahead(1).await.unwrap();
                if ahead.next_due_at.is_none_or(|next| next > ahead.now) {
                    return planned;
                }
            }
        });
    }
    assert_eq!(planners.join_all().await.into_iter().sum::<u32>(), 1);
    let mut open = 0;
    for task in tasks {
        let task = f.mcp.find_task(&me(), &TaskRef::Id(task)).await.unwrap();
        assert!(task.last_occurrence_at.is_some());
        open += task.open_stretch.map_or(0, |stretch| u32::from(stretch.reason == SkipReason::Duplicate));
    }
    assert_eq!(open, 23, "each of the others is covered by its open stretch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_an_event_and_people_who_come_with_one_key_at_once_run_once() {
    let (f, _database) = Fixture::fresh().await;
    let shared = json!({ "dedupe_key": "report", "overlap": "allow" });
    let clock = due(&f, "clock", 1, shared.clone()).await;
    keep(&f, "event", PINGS, shared.clone()).await;
    let manual = keep(&f, "manual", MANUAL, shared).await;
    let mut sides = JoinSet::new();
    for n in 0..4 {
        let fixture = f.clone();
        sides.spawn(async move { fixture.executor.plan_due(10).await.map(|_| ()).unwrap() });
        let fixture = f.clone();
        sides.spawn(async move { drop(publish(&fixture, json!({})).await) });
        let fixture = f.clone();
        sides.spawn(async move {
            fixture.mcp.run_now(&me(), manual, &n.to_string(), None).await.map(|_| ()).unwrap();
        });
    }
    sides.join_all().await;
    let (going, skipped) = told_apart(&runs(&f, None).await);
    let stretch = f.mcp.find_task(&me(), &TaskRef::Id(clock)).await.unwrap().open_stretch;
    assert_eq!((going.len(), skipped + stretch.map_or(0, |open| open.count as usize)), (1, 8));
}

#[tokio::test]
async fn a_request_that_is_a_duplicate_is_answered_with_the_run_that_took_the_key() {
    let (f, _database) = Fixture::fresh().await;
    let task = keep(&f, "asked", MANUAL, json!({ "dedupe_key": "${params.city}", "params": { "city": "a" } })).await;
    let ask = async |request: &str, city: &str| {
        let params = json!({ "city": city }).as_object().cloned();
        f.mcp.run_now(&me(), task, request, params).await.unwrap()
    };
    let first = ask("1", "b").await;
    assert_eq!(first.duplicate_of, None);
    let second = ask("2", "b").await;
    assert_eq!((second.duplicate_of, second.existed), (Some(first.run), false));
    let skipped = f.mcp.find_run(&me(), second.run).await.unwrap();
    assert_eq!((skipped.skip_reason, skipped.trigger), (Some(SkipReason::Duplicate), Trigger::Manual));
    let again = ask("2", "b").await;
    assert_eq!((again.run, again.duplicate_of, again.existed), (second.run, Some(first.run), true));
    assert_eq!(ask("3", "c").await.duplicate_of, None, "another key is no duplicate");
}

#[tokio::test]
async fn an_event_with_a_key_seen_before_is_skipped_and_one_without_a_key_is_not() {
    let (f, _database) = Fixture::fresh().await;
    let fields = json!({ "dedupe_key": "order-${event.payload.order}", "overlap": "allow" });
    keep(&f, "orders", PINGS, fields).await;
    let first = publish(&f, json!({ "order": 7 })).await.runs[0];
    let second = publish(&f, json!({ "order": 7 })).await;
    assert_eq!(second.skipped, [("orders".to_owned(), format!("duplicate of run {first}"))]);
    assert_eq!(publish(&f, json!({ "order": 8 })).await.runs.len(), 1);
    for _ in 0..2 {
        assert_eq!(publish(&f, json!({})).await.runs.len(), 1, "what cannot be rendered leaves out nothing");
    }
    assert_eq!(told_apart(&runs(&f, None).await).1, 1);
}

#[tokio::test]
async fn the_window_ends_by_the_databases_clock_and_another_run_opens_it_anew() {
    let (f, _database) = Fixture::fresh().await;
    let task =
        keep(&f, "hourly", MANUAL, json!({ "dedupe_key": "k", "dedupe_window": "1h", "overlap": "allow" })).await;
    let ask = async |request: &str| f.mcp.run_now(&me(), task, request, None).await.unwrap();
    let age = async |by: &str| {
        sqlx::query("update received set first_seen_at = first_seen_at - $1::interval, answer = jsonb_set(answer, '{occurrence_at}', to_jsonb((answer ->> 'occurrence_at')::timestamptz - $1::interval)) where key = 'd:k'")
            .bind(by)
            .execute(&f.owner)
            .await
            .unwrap();
    };
    let first = ask("1").await.run;
    age("59 minutes").await;
    assert_eq!(ask("2").await.duplicate_of, Some(first), "a duplicate does not prolong the window either");
    age("2 minutes").await;
    let second = ask("3").await;
    assert_eq!(second.duplicate_of, None);
    assert_eq!(ask("4").await.duplicate_of, Some(second.run));
}

#[tokio::test]
async fn a_window_as_long_as_the_period_leaves_out_no_turn_however_late_the_planner() {
    let (f, _database) = Fixture::fresh().await;
    let fields = json!({ "dedupe_key": "k", "dedupe_window": "1h", "misfire": "run_all", "overlap": "allow" });
    let task = due(&f, "late", 4, fields).await;
    f.executor.plan_due(10).await.unwrap();
    let planned = told_apart(&runs(&f, Some(task)).await);
    assert_eq!((planned.0.len(), planned.1), (4, 0));
    // A person who asks now is a minute late, not three hours.
    assert!(f.mcp.run_now(&me(), task, "1", None).await.unwrap().duplicate_of.is_some());
}

#[tokio::test]
async fn what_does_not_run_takes_no_key_and_other_agents_keys_are_their_own() {
    let (f, _database) = Fixture::fresh().await;
    let fields = json!({ "dedupe_key": "k" });
    let paused = keep(&f, "paused", PINGS, fields.clone()).await;
    f.mcp.pause_task(&me(), paused, None, None).await.unwrap();
    assert_eq!(publish(&f, json!({})).await.skipped, [("paused".to_owned(), "paused".to_owned())]);
    let held = keep(&f, "full", MANUAL, json!({ "overlap": "queue", "queue_limit": 1 })).await;
    f.mcp.run_now(&me(), held, "1", None).await.unwrap();
    f.mcp.run_now(&me(), held, "2", None).await.unwrap();
    let keyed = accepted_with(
        "full",
        MANUAL,
        f.mcp.now().await.unwrap(),
        json!({ "overlap": "queue", "queue_limit": 1, "dedupe_key": "k" }),
    );
    f.mcp.update_task(&me(), held, &keyed, None, false).await.unwrap();
    assert!(f.mcp.run_now(&me(), held, "3", None).await.is_err(), "its queue is full");

    let manual = keep(&f, "manual", MANUAL, fields.clone()).await;
    assert_eq!(f.mcp.run_now(&me(), manual, "4", None).await.unwrap().duplicate_of, None);
    let other = f.agent("other").await.unwrap();
    let theirs = accepted_with("manual", MANUAL, f.mcp.now().await.unwrap(), fields);
    let (Inserted::Created(theirs) | Inserted::Existed(theirs)) =
        f.mcp.insert_task(&other, &theirs, None).await.unwrap();
    assert_eq!(f.mcp.run_now(&other, theirs.id, "4", None).await.unwrap().duplicate_of, None);
}

#[tokio::test]
async fn two_tasks_that_hear_one_event_with_one_key_run_once_and_with_keys_of_their_own_twice() {
    let (f, _database) = Fixture::fresh().await;
    for title in ["a", "b"] {
        keep(&f, title, PINGS, json!({ "dedupe_key": "${event.payload.n}" })).await;
    }
    let first = publish(&f, json!({ "n": 1 })).await;
    assert_eq!((first.runs.len(), first.skipped.len()), (1, 1));
    for title in ["c", "d"] {
        keep(&f, title, PINGS, json!({ "dedupe_key": "${task.id}-${event.payload.n}" })).await;
    }
    let second = publish(&f, json!({ "n": 2 })).await;
    assert_eq!(second.runs.iter().collect::<BTreeSet<_>>().len(), 3);
}
