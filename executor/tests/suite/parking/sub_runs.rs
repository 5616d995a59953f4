//! `task.run`.

use ordinaut_schema::{
    id::RunId,
    run::{ErrorKind, RunState, Trigger},
    schedule::ScheduleKind,
};
use ordinaut_store::runs::RunFilter;
use serde_json::{Value, json};

use crate::support::{House, Web, eventually};

const MANUAL: (ScheduleKind, &str) = (ScheduleKind::Manual, "");

fn calls(task: &str) -> Value {
    json!({ "pipeline": [
        { "id": "other", "uses": "task.run", "with": { "task": task, "params": { "n": 20 } } },
        { "id": "after", "uses": "data.transform", "with": { "expr": "steps.other" } },
    ] })
}

async fn runs_of(house: &House, task: ordinaut_schema::id::TaskId) -> Vec<RunId> {
    let filter = RunFilter { task: Some(task), ..RunFilter::default() };
    house.store.list_runs(&house.caller, &filter, None, 50).await.unwrap().iter().map(|run| run.id).collect()
}

#[tokio::test]
async fn a_sub_run_gives_its_output_to_the_step_and_needs_no_second_permit() {
    let house = House::new().await;
    let _executor = house.executor_with(&[("ORDINAUT_PERMITS", "1")]).await;
    let double = json!({ "params": { "n": 1 }, "pipeline": [
        { "id": "a", "uses": "data.transform", "with": { "expr": "params.n" } } ] });
    let other = house.task("Double", MANUAL, double).await;
    let task = house.task("caller", MANUAL, calls("double")).await;
    let run = house.ended(house.run_now(&task, "x").await).await;
    assert_eq!((run.state, &run.output), (RunState::Succeeded, &json!(20)), "{:?}", run.error);
    let subs = runs_of(&house, other).await;
    assert_eq!(subs.len(), 1);
    let sub = house.find(subs[0]).await;
    assert_eq!((sub.trigger, sub.occurrence_key), (Trigger::Step, format!("s:{}/other", run.id)));
}

#[tokio::test]
async fn the_end_of_a_sub_run_wakes_its_parent_at_once_and_each_item_has_its_own() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let pause = json!({ "overlap": "allow", "pipeline": [
        { "id": "wait", "uses": "wait.for", "with": { "duration": "1s" } },
        { "id": "a", "uses": "data.transform", "with": { "expr": "params.n" } },
    ] });
    let other = house.task("Pause", MANUAL, pause).await;
    let each = json!({ "pipeline": [
        { "id": "each", "uses": "task.run", "foreach": "`[1, 2, 3]`", "max_parallel": 3,
          "with": { "task": other, "params": { "n": "${item}" } } },
    ] });
    let run = house.run_now(&house.task("each", MANUAL, each).await, "x").await;
    let ended = house.ended(run).await;
    assert_eq!((ended.state, &ended.output), (RunState::Succeeded, &json!([1, 2, 3])), "{:?}", ended.error);
    assert!(ended.attempts > 1, "it was parked");
    let own_look = ended.started_at.unwrap() + std::time::Duration::from_mins(1);
    assert!(ended.finished_at.unwrap() < own_look, "it was woken");
    assert_eq!(runs_of(&house, other).await.len(), 3);
}

#[tokio::test]
async fn a_group_that_fails_waits_for_its_sub_run_and_does_not_cancel_it() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let pause = json!({ "pipeline": [{ "id": "wait", "uses": "wait.for", "with": { "duration": "1s" } }] });
    let other = house.task("Pause", MANUAL, pause).await;
    let group = json!({ "pipeline": [{ "id": "both", "parallel": [
        { "id": "sub", "uses": "task.run", "with": { "task": "Pause" } },
        { "id": "no", "uses": "data.assert", "with": { "that": "false", "message": "not today" } },
    ] }] });
    let run = house.ended(house.run_now(&house.task("both", MANUAL, group).await, "x").await).await;
    let error = run.error.unwrap();
    assert_eq!((run.state, error.step.as_str()), (RunState::Failed, "no"), "{error:?}");
    let sub = house.find(runs_of(&house, other).await[0]).await;
    assert_eq!(sub.state, RunState::Succeeded, "{:?}", sub.error);
    assert!(run.finished_at >= sub.finished_at);
    let states: Vec<_> = run.steps.iter().map(|step| (step.step.as_str(), step.state.as_str())).collect();
    assert_eq!(states, [("sub", "succeeded"), ("no", "failed")]);
}

#[tokio::test]
async fn a_failed_sub_run_fails_the_step_with_its_error_and_a_retry_of_the_step_runs_it_again() {
    let (house, web) = (House::new().await, Web::start().await);
    let _executor = house.executor(&[web.allowed()]).await;
    let once = json!({ "max_attempts": 1, "backoff": "fixed", "initial": "1s", "max": "1s" });
    let flaky = json!({ "retry": once.clone(), "pipeline": [
        { "id": "get", "uses": "http.get", "with": { "url": web.url("/fail-twice") } } ] });
    let other = house.task("Flaky", MANUAL, flaky).await;
    let mut fails = calls("Flaky");
    fails["retry"] = once;
    let run = house.ended(house.run_now(&house.task("fails", MANUAL, fails).await, "x").await).await;
    let error = run.error.unwrap();
    assert_eq!((run.state, error.kind, error.step.as_str()), (RunState::Failed, ErrorKind::ToolError, "other"));
    assert!(error.message.contains("server_error") && error.message.contains("Flaky"), "{}", error.message);

    let mut retries = calls("Flaky");
    retries["retry"] = json!({ "max_attempts": 2, "backoff": "fixed", "initial": "1s", "max": "1s" });
    let run = house.ended(house.run_now(&house.task("retries", MANUAL, retries).await, "y").await).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(runs_of(&house, other).await.len(), 3);
}

#[tokio::test]
async fn a_cancelled_parent_cancels_its_sub_run_and_that_ones_approval() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let asks = json!({ "pipeline": [{ "id": "ask", "uses": "approval.request", "with": { "message": "Go?" } }] });
    let inner = house.task("Inner", MANUAL, asks).await;
    house.task("Middle", MANUAL, calls("Inner")).await;
    let run = house.run_now(&house.task("outer", MANUAL, calls("Middle")).await, "x").await;
    eventually("the innermost asks", async || {
        (house.store.list_approvals(None, 10).await.unwrap().len() == 1).then_some(())
    })
    .await;
    let deepest = runs_of(&house, inner).await[0];
    house.parked(deepest).await;
    house.parked(run).await;
    house.store.cancel_run(&house.caller, run, None).await.unwrap();
    assert_eq!(house.find(run).await.state, RunState::Cancelled);
    // Each that was being parked at that moment is asked, and ends by itself.
    assert_eq!(house.ended(deepest).await.state, RunState::Cancelled);
    assert_eq!(house.store.list_approvals(None, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_would_wait_for_itself_is_refused() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let itself = house.run_now(&house.task("itself", MANUAL, calls("itself")).await, "a").await;
    house.task("there", MANUAL, calls("back")).await;
    let circle = house.run_now(&house.task("back", MANUAL, calls("there")).await, "b").await;
    let keyed = |task: &str| {
        let mut fields = calls(task);
        fields["concurrency_key"] = json!("k");
        fields
    };
    house.task("holder", MANUAL, keyed("nothing")).await;
    let held = house.run_now(&house.task("holds", MANUAL, keyed("holder")).await, "c").await;
    let missing = house.run_now(&house.task("misses", MANUAL, calls("no such task")).await, "d").await;
    for (run, says) in
        [(itself, "itself"), (circle, "wait for ever"), (held, "concurrency key"), (missing, "does not exist")]
    {
        let run = house.ended(run).await;
        assert_eq!(run.state, RunState::Failed);
        let message = run.error.unwrap().message;
        assert!(message.contains(says), "{says}: {message}");
    }
}

#[tokio::test]
async fn a_sub_run_that_is_not_waited_for_outlives_its_parent() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let wait = json!({ "pipeline": [{ "id": "wait", "uses": "wait.for", "with": { "duration": "1h" } }] });
    house.task("Long", MANUAL, wait).await;
    let start = json!({ "pipeline": [
        { "id": "start", "uses": "task.run", "with": { "task": "Long", "wait": false } } ] });
    let run = house.ended(house.run_now(&house.task("starts", MANUAL, start).await, "x").await).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    let sub: RunId = run.output["run"].as_str().unwrap().parse().unwrap();
    assert_eq!(house.parked(sub).await.state, RunState::Waiting);
}
