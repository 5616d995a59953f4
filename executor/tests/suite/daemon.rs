//! The whole daemon against PostgreSQL and Redis: tasks fire, runs survive their executor, events go out and in.

use std::{collections::BTreeSet, time::Duration};

use ordinaut_schema::{
    run::{ErrorKind, RunState},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    inbound::NewEvent,
    runs::{Cancelling, RetryFrom, RunFilter},
};
use serde_json::json;

use crate::support::{House, Web, eventually};

#[tokio::test]
async fn a_task_runs_its_steps_and_history_has_them() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let task = house
        .task("briefing", (ScheduleKind::Manual, ""), json!({
            "params": { "city": "Chisinau" },
            "pipeline": [
                { "id": "weather", "uses": "data.transform", "with": { "expr": "{city: params.city, degrees: `30`}" } },
                { "id": "cold", "if": "steps.weather.degrees < 0", "uses": "inbox.post", "with": { "text": "cold" } },
                { "id": "tell", "uses": "inbox.post",
                  "with": { "title": "Hot", "text": "Hot in ${steps.weather.city}: ${steps.weather.degrees}°C" } },
            ],
        }))
        .await;
    let run = house.run_now(&task, "first").await;
    let run = house.ended(run).await;

    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    let steps: Vec<_> = run.steps.iter().map(|step| (step.step.as_str(), step.state.as_str())).collect();
    assert_eq!(steps, [("weather", "succeeded"), ("cold", "skipped"), ("tell", "succeeded")]);
    let inbox = house.store.check_inbox(&house.caller, None, 10).await.unwrap();
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].body, "Hot in Chisinau: 30°C");
}

#[tokio::test]
async fn many_executors_run_each_due_task_once() {
    let house = House::new().await;
    let (_one, _other) = tokio::join!(house.executor(&[]), house.executor(&[]));
    // Late enough that all tasks are there before it, on a loaded machine too: a past instant never comes.
    let due = house.store.now().await.unwrap() + Duration::from_secs(15);
    let pipeline = json!({ "pipeline": [{ "id": "a", "uses": "data.transform", "with": { "expr": "now" } }] });
    for n in 0..100 {
        house.task(&format!("task {n}"), (ScheduleKind::Once, &due.to_string()), pipeline.clone()).await;
    }
    let filter = RunFilter { states: vec![RunState::Succeeded], ..RunFilter::default() };
    let runs = eventually("all runs succeeded", async || {
        let runs = house.store.list_runs(&house.caller, &filter, None, 500).await.unwrap();
        (runs.len() >= 100).then_some(runs)
    })
    .await;
    let tasks: BTreeSet<_> = runs.iter().map(|run| run.task).collect();
    assert_eq!((runs.len(), tasks.len()), (100, 100));
    assert!(runs.iter().all(|run| run.attempts == 1));
}

#[tokio::test]
async fn a_run_outlives_its_executor_and_finished_steps_are_not_repeated() {
    let (house, web) = (House::new().await.with_short_leases(), Web::start().await);
    let first = house.executor(&[web.allowed()]).await;
    let task = house
        .task(
            "fragile",
            (ScheduleKind::Manual, ""),
            json!({
                "pipeline": [
                    { "id": "post", "uses": "http.post", "with": { "url": web.url("/quick") } },
                    { "id": "get", "uses": "http.get", "with": { "url": web.url("/hang-once") } },
                ],
            }),
        )
        .await;
    let run = house.run_now(&task, "x").await;
    eventually("the second step hangs", async || (web.hits("/hang-once") == 1).then_some(())).await;
    first.kill();

    let _second = house.executor(&[web.allowed()]).await;
    let run = house.ended(run).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!((web.hits("/quick"), web.hits("/hang-once")), (1, 2));
    assert_eq!((run.attempts, run.crashes), (2, 1));
}

#[tokio::test]
async fn a_harmful_step_in_the_hands_of_a_killed_executor_is_unknown_and_not_repeated() {
    let (house, web) = (House::new().await.with_short_leases(), Web::start().await);
    let first = house.executor(&[web.allowed()]).await;
    let task = house
        .task(
            "harmful",
            (ScheduleKind::Manual, ""),
            json!({
                "pipeline": [{ "id": "post", "uses": "http.post", "with": { "url": web.url("/hang-once") } }],
                "on_failure": [{ "id": "tell", "uses": "inbox.post", "with": { "text": "failed: ${error.kind}" } }],
            }),
        )
        .await;
    let run = house.run_now(&task, "x").await;
    eventually("the step hangs", async || (web.hits("/hang-once") == 1).then_some(())).await;
    first.kill();

    let _second = house.executor(&[web.allowed()]).await;
    let run = house.ended(run).await;
    assert_eq!(run.state, RunState::Failed);
    assert_eq!(run.error.unwrap().kind, ErrorKind::OutcomeUnknown);
    assert_eq!(web.hits("/hang-once"), 1);
    let inbox = house.store.check_inbox(&house.caller, None, 10).await.unwrap();
    assert!(inbox.iter().any(|message| message.body == "failed: outcome_unknown"), "{inbox:?}");
}

#[tokio::test]
async fn a_failed_call_is_retried_without_holding_a_slot_and_under_the_same_key() {
    let (house, web) = (House::new().await, Web::start().await);
    let _executor = house.executor(&[web.allowed()]).await;
    let task = house
        .task(
            "flaky",
            (ScheduleKind::Manual, ""),
            json!({
                "retry": { "max_attempts": 4, "backoff": "fixed", "initial": "1s", "max": "1s" },
                "pipeline": [{ "id": "a", "uses": "http.post", "with": { "url": web.url("/fail-twice") } }],
            }),
        )
        .await;
    let run = house.ended(house.run_now(&task, "x").await).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!((run.attempts, run.failures, run.steps[0].calls), (3, 2, 3));
    let keys: BTreeSet<String> = web.keys("/fail-twice").into_iter().collect();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), [format!("{}/a", run.id)]);
}

#[tokio::test]
async fn now_previous_and_event_are_those_of_the_first_start_in_every_attempt() {
    let (house, web) = (House::new().await, Web::start().await);
    let _executor = house.executor(&[web.allowed()]).await;
    let before = json!({ "expr": "[now, previous.run.id, event.payload.path]" });
    let task = house
        .task(
            "pinned",
            (ScheduleKind::Event, "go.*"),
            json!({
                "overlap": "allow",
                "timezone": "Asia/Tokyo",
                "retry": { "max_attempts": 4, "backoff": "fixed", "initial": "1s", "max": "1s" },
                "pipeline": [
                    { "id": "first", "uses": "data.transform", "with": before },
                    { "id": "get", "uses": "http.get", "with": { "url": "${event.payload.path}" } },
                    { "id": "then", "uses": "data.transform", "with": before },
                ],
            }),
        )
        .await;
    let start = async |path: &str| {
        let payload = json!({ "path": web.url(path) });
        let event = NewEvent { id: None, topic: "go.on".to_owned(), payload, cause_depth: 0 };
        house.store.publish_event(&house.caller, event).await.unwrap().runs[0]
    };
    let slow = start("/fail-twice").await;
    eventually("it failed once", async || (web.hits("/fail-twice") == 1).then_some(())).await;
    // Between its attempts another run of the task succeeds.
    let quick = house.ended(start("/fine").await).await;
    let slow = house.ended(slow).await;
    assert_eq!((slow.state, slow.attempts), (RunState::Succeeded, 3), "{:?}", slow.error);
    assert_eq!(slow.steps[2].output, slow.steps[0].output);
    let seen = &slow.output;
    assert!(seen[0].as_str().unwrap().ends_with("+09:00"), "{seen}");
    assert_eq!((&seen[1], &seen[2]), (&serde_json::Value::Null, &json!(web.url("/fail-twice"))));
    let next = house.ended(start("/fine").await).await;
    assert_eq!((&next.output[1], next.task), (&json!(quick.id), task), "the last by its occurrence");
}

#[tokio::test]
async fn a_run_that_resumes_calls_under_the_keys_of_the_first_with_the_same_words() {
    let (house, web) = (House::new().await, Web::start().await);
    let _executor = house.executor(&[web.allowed()]).await;
    let task = house
        .task(
            "resumed",
            (ScheduleKind::Manual, ""),
            json!({
                "retry": { "max_attempts": 1, "backoff": "fixed", "initial": "1s", "max": "1s" },
                "pipeline": [
                    { "id": "a", "uses": "http.post", "with": { "url": web.url("/fine") } },
                    { "id": "b", "uses": "http.post", "with": { "url": web.url("/fail-twice"), "body": "${run.id}" } },
                ],
            }),
        )
        .await;
    let root = house.ended(house.run_now(&task, "x").await).await.id;
    let mut run = root;
    for _ in 0..2 {
        run = house.store.retry_run(&house.caller, run, RetryFrom::FailedStep).await.unwrap();
        run = house.ended(run).await.id;
    }
    let ended = house.find(run).await;
    assert_eq!((ended.state, ended.root_run), (RunState::Succeeded, root), "{:?}", ended.error);
    assert_eq!(web.keys("/fine"), [format!("{root}/a")]);
    assert_eq!(web.keys("/fail-twice"), vec![format!("{root}/b"); 3]);
    assert_eq!(ended.steps[1].input["body"], json!(root), "what was rendered then");

    let anew = house.store.retry_run(&house.caller, root, RetryFrom::Start).await.unwrap();
    house.ended(anew).await;
    assert_eq!(web.keys("/fine")[1], format!("{anew}/a"));
}

#[tokio::test]
async fn a_running_run_is_cancelled_when_asked() {
    let (house, web) = (House::new().await, Web::start().await);
    let _executor = house.executor(&[web.allowed()]).await;
    let task = house
        .task(
            "slow",
            (ScheduleKind::Manual, ""),
            json!({
                "pipeline": [{ "id": "a", "uses": "http.get", "with": { "url": web.url("/hang-once") } }],
            }),
        )
        .await;
    let run = house.run_now(&task, "x").await;
    eventually("the step hangs", async || (web.hits("/hang-once") == 1).then_some(())).await;
    let asked = house.store.cancel_run(&house.caller, run, Some("enough")).await.unwrap();
    assert_eq!(asked, Cancelling::Requested);
    eventually("the remote side hears of it", async || (web.abandoned("/hang-once") == 1).then_some(())).await;
    assert_eq!(house.ended(run).await.state, RunState::Cancelled);
}

#[tokio::test]
async fn a_drained_executor_gives_back_what_it_cannot_finish() {
    let (house, web) = (House::new().await, Web::start().await);
    let first = house.executor(&[web.allowed()]).await;
    let task = house
        .task(
            "handed over",
            (ScheduleKind::Manual, ""),
            json!({
                "pipeline": [{ "id": "a", "uses": "http.get", "with": { "url": web.url("/hang-once") } }],
            }),
        )
        .await;
    let run = house.run_now(&task, "x").await;
    eventually("the step hangs", async || (web.hits("/hang-once") == 1).then_some(())).await;
    first.drain().await;

    let _second = house.executor(&[web.allowed()]).await;
    let run = house.ended(run).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!((run.attempts, run.failures, run.crashes), (2, 0, 0));
}

#[tokio::test]
async fn an_event_starts_the_tasks_that_listen_and_the_same_event_only_once() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let _listening = house
        .task(
            "listening",
            (ScheduleKind::Event, "user.*"),
            json!({
                "pipeline": [{ "id": "a", "uses": "data.transform", "with": { "expr": "event.payload.name" } }],
            }),
        )
        .await;
    let event = || NewEvent {
        id: Some("one".to_owned()),
        topic: "user.joined".to_owned(),
        payload: json!({ "name": "Ana" }),
        cause_depth: 0,
    };
    let published = house.store.publish_event(&house.caller, event()).await.unwrap();
    let run = house.ended(published.runs[0]).await;
    assert_eq!((run.state, run.output), (RunState::Succeeded, json!("Ana")));
    assert!(house.store.publish_event(&house.caller, event()).await.unwrap().duplicate);
}

#[tokio::test]
async fn events_follow_in_order_and_a_redis_that_lost_them_is_filled_again() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let task = house
        .task(
            "told",
            (ScheduleKind::Manual, ""),
            json!({
                "pipeline": [{ "id": "a", "uses": "data.transform", "with": { "expr": "now" } }],
            }),
        )
        .await;
    let run = house.ended(house.run_now(&task, "x").await).await;
    let told = async || {
        let topics: Vec<String> = house.stream("ordinaut:events").await.into_iter().map(|event| event.topic).collect();
        let outbox: Vec<String> =
            topics.into_iter().filter(|it| !it.starts_with("step.") && it != "run.started").collect();
        (outbox == ["task.created", "run.succeeded"]).then_some(())
    };
    eventually("the outbox was told", told).await;
    house.empty_redis().await;
    eventually("it was told again", told).await;
    assert_eq!(run.state, RunState::Succeeded);
}

#[tokio::test]
async fn other_systems_start_tasks_by_xadd_and_what_cannot_be_read_is_kept_with_the_reason() {
    let house = House::new().await;
    let _listening = house
        .task(
            "listening",
            (ScheduleKind::Event, "shop.order"),
            json!({
                "pipeline": [{ "id": "a", "uses": "data.transform", "with": { "expr": "event.payload.n" } }],
            }),
        )
        .await;
    let executor = house.executor(&[]).await;
    house.xadd(&[("topic", "shop..order"), ("data", "{}")]).await;
    house.xadd(&[("topic", "shop.order"), ("data", "hello")]).await;
    house.xadd(&[("topic", "shop.order"), ("data", r#"{"n": 7}"#), ("id", "order-7")]).await;
    house.xadd(&[("topic", "shop.order"), ("data", r#"{"n": 7}"#), ("id", "order-7")]).await;

    let filter = RunFilter { states: vec![RunState::Succeeded], ..RunFilter::default() };
    let runs = eventually("a run succeeded", async || {
        let runs = house.store.list_runs(&house.caller, &filter, None, 10).await.unwrap();
        (!runs.is_empty()).then_some(runs)
    })
    .await;
    assert_eq!(runs.len(), 1);
    let run = house.ended(runs[0].id).await;
    assert_eq!(run.output, json!(7));
    eventually("all is acknowledged", async || (house.unacknowledged().await == 0).then_some(())).await;
    let dead = house.stream("ordinaut:inbound:dead").await;
    assert_eq!(dead.len(), 2);
    assert!(dead[0].fields["reason"].contains("shop..order"), "{dead:?}");
    assert!(dead[1].fields["reason"].contains("data"), "{dead:?}");
    let filter = RunFilter::default();
    assert_eq!(house.store.list_runs(&house.caller, &filter, None, 10).await.unwrap().len(), 1, "one run an event");

    eventually("what is done is deleted", async || house.stream("ordinaut:inbound").await.is_empty().then_some(()))
        .await;
    executor.drain().await;
    assert_eq!(house.readers().await, 0, "nothing was left in its hands");
}

#[tokio::test]
async fn health_is_told_and_what_happened_is_counted() {
    let house = House::new().await;
    let executor = house.executor(&[]).await;
    let task = house
        .task(
            "counted",
            (ScheduleKind::Manual, ""),
            json!({
                "pipeline": [{ "id": "a", "uses": "data.transform", "with": { "expr": "now" } }],
            }),
        )
        .await;
    house.ended(house.run_now(&task, "x").await).await;
    assert_eq!(executor.ask("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(executor.ask("/readyz").await.0, 200);
    // Counted after the commit that the test has seen.
    eventually("the run is counted", async || {
        let (status, metrics) = executor.ask("/metrics").await;
        assert_eq!(status, 200);
        metrics.contains("ordinaut_runs_concluded").then_some(())
    })
    .await;
}
