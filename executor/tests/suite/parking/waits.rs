//! `wait.for` and `wait.until`.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use ordinaut_schema::{
    run::{RunState, StepRecord},
    schedule::ScheduleKind,
};
use serde_json::json;

use crate::support::{House, eventually};

const MANUAL: (ScheduleKind, &str) = (ScheduleKind::Manual, "");

fn until(step: &StepRecord) -> Timestamp {
    step.output["waited_until"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_run_that_waits_holds_no_permit_and_others_run_meanwhile() {
    let house = House::new().await;
    let _executor = house.executor_with(&[("ORDINAUT_PERMITS", "1")]).await;
    let wait = json!({ "pipeline": [{ "id": "wait", "uses": "wait.for", "with": { "duration": "1h" } }] });
    let quick = json!({ "pipeline": [{ "id": "a", "uses": "data.transform", "with": { "expr": "now" } }] });
    let waiting = house.run_now(&house.task("waiting", MANUAL, wait).await, "x").await;
    let parked = house.parked(waiting).await;
    assert_eq!((parked.failures, parked.crashes, parked.attempts), (0, 0, 1));
    assert!(parked.steps[0].is_parked());
    assert_eq!(parked.steps[0].output["waiting_for"], "instant");

    let quick = house.run_now(&house.task("quick", MANUAL, quick).await, "y").await;
    assert_eq!(house.ended(quick).await.state, RunState::Succeeded);
    assert_eq!(house.find(waiting).await.state, RunState::Waiting);
}

#[tokio::test]
async fn a_wait_survives_the_executor_and_is_counted_from_its_first_call() {
    let house = House::new().await;
    let first = house.executor(&[]).await;
    let pipeline = json!({ "pipeline": [
        { "id": "before", "uses": "inbox.post", "with": { "text": "before" } },
        { "id": "wait", "uses": "wait.for", "with": { "duration": "5s" } },
        { "id": "after", "uses": "data.transform", "with": { "expr": "steps.wait.waited_until" } },
    ] });
    let run = house.run_now(&house.task("patient", MANUAL, pipeline).await, "x").await;
    let parked = house.parked(run).await;
    first.kill();
    let _second = house.executor(&[]).await;
    let ended = house.ended(run).await;
    assert_eq!(ended.state, RunState::Succeeded, "{:?}", ended.error);
    assert_eq!((ended.attempts, ended.crashes, ended.steps[0].calls), (2, 0, 1));
    assert_eq!(Some(until(&ended.steps[1])), parked.wake_at);
    assert_eq!(ended.steps[1].started_at, parked.steps[1].started_at);
    assert!(ended.finished_at.unwrap() >= until(&ended.steps[1]), "it never wakes early");
    let inbox = house.store.check_inbox(&house.caller, None, 10).await.unwrap();
    assert_eq!(inbox.len(), 1, "a step before the wait is not repeated");
}

#[tokio::test]
async fn a_local_time_is_read_in_the_tasks_zone_and_one_that_is_past_is_not_waited_for() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let zone = TimeZone::get("Asia/Tokyo").unwrap();
    let end = house.store.now().await.unwrap() + Duration::from_secs(2);
    let civil = zone.to_datetime(end).strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let pipeline = json!({ "timezone": "Asia/Tokyo", "pipeline": [
        { "id": "past", "uses": "wait.until", "with": { "until": "2020-01-01T00:00" } },
        { "id": "wait", "uses": "wait.until", "with": { "until": civil } },
    ] });
    let run = house.ended(house.run_now(&house.task("Tokyo", MANUAL, pipeline).await, "x").await).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(until(&run.steps[0]).to_string(), "2019-12-31T15:00:00Z");
    assert_eq!(until(&run.steps[1]).as_second(), end.as_second());
}

#[tokio::test]
async fn a_run_that_waits_is_cancelled_at_once() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let wait = json!({ "pipeline": [{ "id": "wait", "uses": "wait.for", "with": { "duration": "1h" } }] });
    let run = house.run_now(&house.task("waiting", MANUAL, wait).await, "x").await;
    house.parked(run).await;
    house.store.cancel_run(&house.caller, run, Some("enough")).await.unwrap();
    assert_eq!(house.find(run).await.state, RunState::Cancelled);
}

#[tokio::test]
async fn a_waiting_run_counts_as_running_unless_its_task_says_otherwise() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    for (title, ignores, second) in [("counts", false, RunState::Blocked), ("ignores", true, RunState::Waiting)] {
        let fields = json!({
            "overlap": "queue",
            "overlap_ignores_waiting": ignores,
            "pipeline": [{ "id": "wait", "uses": "wait.for", "with": { "duration": "1h" } }],
        });
        let task = house.task(title, MANUAL, fields).await;
        house.parked(house.run_now(&task, &format!("{title} one")).await).await;
        let run = house.run_now(&task, &format!("{title} two")).await;
        eventually("the second run stands where it should", async || {
            (house.find(run).await.state == second).then_some(())
        })
        .await;
    }
}
