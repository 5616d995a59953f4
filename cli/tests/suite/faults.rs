//! Nothing is lost: executors, Redis and PostgreSQL are killed, and every occurrence still ends as one row.

use std::{collections::BTreeSet, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ordinaut_schema::{
    id::TaskId,
    run::{ErrorKind, RunState, StepState},
};
use ordinaut_store::runs::RunFilter;
use serde_json::json;
use tokio::{process::Child, time::timeout};

use crate::support::lab::{Lab, me, output, until, until_after, written};
use crate::support::programs;

/// Two steps: one that may not be repeated, one that is held until the test lets it go.
const TWO_STEPS: &str = "
title: two steps
schedule_kind: manual
pipeline:
  - { id: first, uses: http.post, with: { url: SINK/hit/first } }
  - { id: second, uses: http.get, with: { url: SINK/hold/second } }
";

async fn kill_9(mut executor: Child) {
    executor.start_kill().unwrap();
    timeout(programs::PATIENCE, executor.wait()).await.unwrap().unwrap();
}

fn terminate(executor: &Child) {
    let id = i32::try_from(executor.id().expect("it runs")).unwrap();
    kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
}

/// A thousand tasks, due together after `delay`, if they were all kept before it: a past instant never comes. And how long
/// it is until then.
async fn kept_before_they_are_due(delay: Duration) -> Option<(Lab, BTreeSet<TaskId>, Duration)> {
    let lab = Lab::open().await;
    let due = lab.store.now().await.unwrap() + delay;
    let mut tasks = BTreeSet::new();
    for n in 0..1000 {
        let task = format!(
            "{{title: task {n}, schedule_kind: once, schedule_expr: '{}', pipeline: [{{uses: data.transform, with: {{expr: '`{n}`'}}}}]}}",
            written(due)
        );
        tasks.insert(lab.keep(&task).await);
        if lab.store.now().await.unwrap() >= due {
            return None;
        }
    }
    let left = due.duration_since(lab.store.now().await.unwrap());
    Some((lab, tasks, left.try_into().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_due_in_one_second_run_once_each_on_two_executors() {
    let soon = kept_before_they_are_due(Duration::from_secs(20)).await;
    let (lab, tasks, left) = match soon {
        Some(kept) => kept,
        None => kept_before_they_are_due(Duration::from_mins(2)).await.expect("a thousand tasks kept in two minutes"),
    };
    let _executors = [lab.executor("one"), lab.executor("two")];
    until_after(left, "a thousand runs", async || (lab.database.history().await.len() >= 1000).then_some(())).await;
    let history = lab.database.history().await;
    assert_eq!(history.len(), 1000);
    assert!(history.iter().all(|run| (run.state, run.attempts) == (RunState::Succeeded, 1)), "each ran once");
    assert_eq!(history.iter().map(|run| run.task).collect::<BTreeSet<_>>(), tasks);
    assert_eq!(lab.database.live_runs().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_executor_is_killed_is_finished_by_another_and_journaled_steps_are_not_repeated() {
    let lab = Lab::open().await.with_short_leases();
    let victim = lab.executor("victim");
    let task = lab.keep(TWO_STEPS).await;
    let run = lab.run_now(task, "1").await;
    lab.sink.saw("second", 1).await;
    kill_9(victim).await;

    let _survivor = lab.executor("survivor");
    lab.sink.saw("second", 2).await;
    lab.sink.let_go();
    let run = lab.end_of(run).await;
    assert_eq!((run.state, run.attempts, run.crashes), (RunState::Succeeded, 2, 1));
    assert_eq!(lab.sink.calls("first").len(), 1, "a journaled step is never called again");
    assert_eq!(lab.sink.calls("first")[0].key.as_deref(), Some(format!("{}/first", run.id).as_str()));
    assert_eq!(output(&run, "second")["body"], "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_must_not_be_repeated_ends_as_unknown_when_its_executor_dies() {
    let lab = Lab::open().await.with_short_leases();
    let victim = lab.executor("victim");
    let task = lab.keep(&TWO_STEPS.replace("http.get", "http.post")).await;
    let run = lab.run_now(task, "1").await;
    lab.sink.saw("second", 1).await;
    kill_9(victim).await;

    let _survivor = lab.executor("survivor");
    let run = lab.end_of(run).await;
    assert_eq!(run.state, RunState::Failed);
    assert_eq!(run.error.map(|error| (error.kind, error.step)), Some((ErrorKind::OutcomeUnknown, "second".to_owned())));
    assert_eq!(lab.sink.calls("second").len(), 1);
    assert!(run.steps.iter().any(|step| step.step == "first" && step.state == StepState::Succeeded));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_executor_finishes_what_it_has_and_ends() {
    let lab = Lab::open().await;
    let mut executor = lab.executor("drained");
    let task = lab.keep(TWO_STEPS).await;
    let run = lab.run_now(task, "1").await;
    lab.sink.saw("second", 1).await;
    terminate(&executor);
    // What comes now is not claimed any more by it.
    lab.sink.let_go();
    let status = timeout(programs::PATIENCE, executor.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    let run = lab.end_of(run).await;
    assert_eq!((run.state, run.attempts, run.failures), (RunState::Succeeded, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everything_runs_and_events_follow_when_it_returns() {
    let mut lab = Lab::open().await;
    let _executor = lab.executor("one");
    lab.keep("{title: listens, schedule_kind: event, schedule_expr: ping, pipeline: [{uses: data.transform, with: {expr: '`1`'}}]}")
        .await;
    let task = lab
        .keep("{title: works, schedule_kind: manual, pipeline: [{uses: data.transform, with: {expr: '`1`'}}]}")
        .await;
    let before = lab.run_now(task, "before").await;
    lab.end_of(before).await;
    until("the first event", async || {
        lab.redis(&["xrange", "ordinaut:events", "-", "+"]).await.contains(&before.to_string()).then_some(())
    })
    .await;

    lab.servers.redis.process.signal(Signal::SIGKILL);
    let mut during = Vec::new();
    for n in 0..5 {
        during.push(lab.run_now(task, &format!("during {n}")).await);
    }
    for run in &during {
        assert_eq!(lab.end_of(*run).await.state, RunState::Succeeded);
    }
    let event =
        ordinaut_store::inbound::NewEvent { id: None, topic: "ping".to_owned(), payload: json!({}), cause_depth: 0 };
    let caused = lab.store.publish_event(&me(), event).await.unwrap().runs;
    assert_eq!(lab.end_of(caused[0]).await.state, RunState::Succeeded, "events cause runs without Redis");

    lab.servers.restart().await;
    until("the events that waited", async || {
        let stream = lab.redis(&["xrange", "ordinaut:events", "-", "+"]).await;
        during.iter().chain(&caused).all(|run| stream.contains(&run.to_string())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_filled_again() {
    let lab = Lab::open().await;
    let _executor = lab.executor("one");
    let task = lab
        .keep("{title: works, schedule_kind: manual, pipeline: [{uses: data.transform, with: {expr: '`1`'}}]}")
        .await;
    let run = lab.run_now(task, "1").await;
    let told =
        async || lab.redis(&["xrange", "ordinaut:events", "-", "+"]).await.contains(&run.to_string()).then_some(());
    until("the event", told).await;
    lab.redis(&["flushall"]).await;
    until("the event again", told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_postgres_is_found_again() {
    let mut lab = Lab::open().await;
    let mut executor = lab.executor("one");
    let task = lab
        .keep("{title: works, schedule_kind: manual, pipeline: [{uses: data.transform, with: {expr: '`1`'}}]}")
        .await;
    let before = lab.run_now(task, "before").await;
    lab.end_of(before).await;
    for n in 0..2 {
        lab.servers.postgres.stop().await.unwrap();
        lab.servers.restart().await;
        let run = until("PostgreSQL answers again", async || {
            lab.store.run_now(&me(), task, &format!("after {n}"), None).await.ok()
        })
        .await
        .run;
        assert_eq!(lab.end_of(run).await.state, RunState::Succeeded);
    }
    assert!(executor.try_wait().unwrap().is_none(), "the executor itself never ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_added_by_redis_cli_causes_one_run_however_often_it_comes() {
    let lab = Lab::open().await;
    let _executor = lab.executor("one");
    let task = lab
        .keep("{title: mail, schedule_kind: event, schedule_expr: 'user.email.*', pipeline: [{id: who, uses: data.transform, with: {expr: event.payload.from}}]}")
        .await;
    let add = [
        "xadd",
        "ordinaut:inbound",
        "*",
        "topic",
        "user.email.received",
        "data",
        r#"{"from": "anna"}"#,
        "id",
        "mail-1",
    ];
    lab.redis(&add).await;
    let runs = async || {
        lab.store.list_runs(&me(), &RunFilter { task: Some(task), ..RunFilter::default() }, None, 10).await.unwrap()
    };
    let run = until("a run of the event", async || runs().await.first().map(|run| run.id)).await;
    assert_eq!(lab.end_of(run).await.state, RunState::Succeeded);

    lab.redis(&add).await;
    // The group has nothing left to do: the second delivery was read, and acknowledged.
    until("the second delivery is done", async || {
        let groups = lab.redis(&["xinfo", "groups", "ordinaut:inbound"]).await;
        let lines: Vec<&str> = groups.lines().collect();
        let field = |name: &str| lines.iter().position(|line| *line == name).and_then(|at| lines.get(at + 1));
        (field("pending") == Some(&"0") && field("lag") == Some(&"0")).then_some(())
    })
    .await;
    assert_eq!(runs().await.len(), 1);
}
