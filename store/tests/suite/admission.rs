//! Serial tasks and concurrency keys: no more at a time than allowed, and nobody left behind.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{RunState, Verdict},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, StoreError,
    claims::ClaimedRun,
    conclusions::Conclusion,
    runs::Cancelling,
    tasks::Inserted,
    testing::{Fixture, accepted_with},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

async fn manual_task(f: &Fixture, title: &str, fields: Value) -> TaskId {
    let now = f.mcp.now().await.unwrap();
    let definition = accepted_with(title, (ScheduleKind::Manual, ""), now, fields);
    match f.mcp.insert_task(&Caller::local("test"), &definition, None).await.unwrap() {
        Inserted::Created(task) | Inserted::Existed(task) => task.id,
    }
}

async fn claim(f: &Fixture) -> Vec<ClaimedRun> {
    let limit = NonZeroU16::new(100).expect("not zero");
    f.executor.claim_runs(Uuid::now_v7(), limit, Duration::from_mins(1), i64::MIN).await.unwrap()
}

/// Claims as soon as there is something: admission that met a lock looks again after its commit.
async fn claim_next(f: &Fixture) -> Vec<ClaimedRun> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let claimed = claim(f).await;
        if !claimed.is_empty() || Instant::now() > deadline {
            return claimed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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
async fn runs_of_a_queueing_task_take_turns_in_the_order_they_came() {
    let (f, _database) = Fixture::fresh().await;
    let task = manual_task(&f, "turns", json!({ "overlap": "queue" })).await;
    let mut asked = Vec::new();
    for n in 0..4 {
        asked.push(f.mcp.run_now(&Caller::local("test"), task, &n.to_string(), None).await.unwrap().run);
    }
    let mut ran = Vec::new();
    for _ in 0..4 {
        let claimed = claim_next(&f).await;
        assert_eq!(claimed.len(), 1, "one at a time");
        ran.push(claimed[0].id);
        succeed(&f, &claimed[0]).await;
    }
    assert_eq!(ran, asked);
    assert!(claim(&f).await.is_empty());
}

#[tokio::test]
async fn a_queue_keeps_its_order_whatever_else_its_agent_has_pending() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    let queue = manual_task(&f, "turns", json!({ "overlap": "queue" })).await;
    let crowd = manual_task(&f, "crowd", json!({ "overlap": "allow" })).await;
    let ask = async |task, request: String| f.mcp.run_now(&local, task, &request, None).await.unwrap().run;
    let first = ask(queue, "first".to_owned()).await;
    for n in 0..300 {
        ask(crowd, n.to_string()).await;
    }
    // Asked for behind a crowd, and after it is gone, well within what the crowd would have set the former back.
    let second = ask(queue, "second".to_owned()).await;
    sqlx::query("delete from due_work where task_id = $1").bind(crowd.uuid()).execute(&f.owner).await.unwrap();
    let third = ask(queue, "third".to_owned()).await;
    let mut ran = Vec::new();
    for _ in 0..3 {
        let claimed = claim_next(&f).await;
        ran.extend(claimed.iter().map(|run| run.id));
        succeed(&f, &claimed[0]).await;
    }
    assert_eq!(ran, [first, second, third]);
}

#[tokio::test]
async fn a_full_queue_refuses_a_run_that_is_asked_for() {
    let (f, _database) = Fixture::fresh().await;
    let task = manual_task(&f, "full", json!({ "overlap": "queue", "queue_limit": 1 })).await;
    let local = Caller::local("test");
    for n in 0..2 {
        f.mcp.run_now(&local, task, &n.to_string(), None).await.unwrap();
    }
    let refused = f.mcp.run_now(&local, task, "third", None).await;
    assert!(matches!(refused, Err(StoreError::TaskState { .. })), "{refused:?}");
    // A refused request leaves no trace: it may be asked again once there is room.
    let first = claim(&f).await.remove(0);
    succeed(&f, &first).await;
    assert_eq!(claim_next(&f).await.len(), 1);
    assert!(!f.mcp.run_now(&local, task, "third", None).await.unwrap().existed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrency_key_never_holds_more_than_its_limit_under_a_race() {
    let (f, _database) = Fixture::fresh().await;
    let keyed = json!({ "overlap": "allow", "concurrency_key": "printer", "concurrency_limit": 2 });
    let tasks = [manual_task(&f, "a", keyed.clone()).await, manual_task(&f, "b", keyed).await];
    let mut askers = JoinSet::new();
    for n in 0..20 {
        let (store, task) = (f.mcp.clone(), tasks[n % 2]);
        askers.spawn(async move { store.run_now(&Caller::local("test"), task, &n.to_string(), None).await.unwrap() });
    }
    askers.join_all().await;

    let mut held = Vec::new();
    let mut ran = 0;
    while ran < 20 {
        f.executor.admit_blocked(100).await.unwrap();
        held.extend(if held.is_empty() { claim_next(&f).await } else { claim(&f).await });
        assert!(held.len() <= 2, "{} hold a key of 2", held.len());
        let run = held.pop().expect("a run is admitted while others wait");
        succeed(&f, &run).await;
        ran += 1;
    }
}

#[tokio::test]
async fn with_different_limits_the_lowest_holds() {
    let (f, _database) = Fixture::fresh().await;
    let keyed = |limit: u32| json!({ "overlap": "allow", "concurrency_key": "db", "concurrency_limit": limit });
    let (wide, narrow) = (manual_task(&f, "wide", keyed(5)).await, manual_task(&f, "narrow", keyed(1)).await);
    let local = Caller::local("test");
    f.mcp.run_now(&local, narrow, "1", None).await.unwrap();
    f.mcp.run_now(&local, wide, "2", None).await.unwrap();
    let first = claim(&f).await;
    assert_eq!(first.iter().map(|run| run.task).collect::<Vec<_>>(), [narrow]);
    succeed(&f, &first[0]).await;
    assert_eq!(claim_next(&f).await.iter().map(|run| run.task).collect::<Vec<_>>(), [wide]);
}

#[tokio::test]
async fn a_run_left_blocked_with_room_is_admitted_by_the_sweep() {
    let (f, _database) = Fixture::fresh().await;
    let task = manual_task(&f, "swept", json!({ "overlap": "queue" })).await;
    f.mcp.run_now(&Caller::local("test"), task, "1", None).await.unwrap();
    sqlx::query("update due_work set state = 'blocked'").execute(&f.owner).await.unwrap();
    assert!(claim(&f).await.is_empty());
    assert_eq!(f.executor.admit_blocked(100).await.unwrap(), 1);
    assert_eq!(claim(&f).await.len(), 1);
}

/// The state of a run, once it is that one.
async fn becomes(f: &Fixture, run: RunId, state: RunState) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let now = f.mcp.find_run(&Caller::local("test"), run).await.unwrap().state;
        if now == state {
            return;
        }
        assert!(Instant::now() < deadline, "run {run} is still {now}, not {state}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_cancel_could_not_admit_because_of_a_lock_is_admitted_when_that_is_gone() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    let task = manual_task(&f, "locked", json!({ "overlap": "queue" })).await;
    let first = f.mcp.run_now(&local, task, "1", None).await.unwrap().run;
    let second = f.mcp.run_now(&local, task, "2", None).await.unwrap().run;
    let mut other = f.owner.begin().await.unwrap();
    sqlx::query("select from task for update").execute(&mut *other).await.unwrap();
    assert_eq!(f.mcp.cancel_run(&local, first, None).await.unwrap(), Cancelling::Cancelled);
    f.until_waiting(1).await;
    assert_eq!(f.mcp.find_run(&local, second).await.unwrap().state, RunState::Blocked);
    other.rollback().await.unwrap();
    becomes(&f, second, RunState::Pending).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_enters_while_the_one_before_it_ends_is_not_left_behind() {
    for fields in [json!({ "overlap": "queue" }), json!({ "overlap": "allow", "concurrency_key": "one" })] {
        let (f, _database) = Fixture::fresh().await;
        let local = Caller::local("test");
        let task = manual_task(&f, "passing", fields).await;
        f.mcp.run_now(&local, task, "1", None).await.unwrap();
        let first = claim(&f).await.remove(0);
        // A conclusion that has looked for whom to admit, and is not committed.
        sqlx::raw_sql(
            "create function hold_back() returns trigger language plpgsql as $$
             begin
                 perform pg_advisory_xact_lock(7);
                 return null;
             end $$;
             create constraint trigger hold_back after delete on due_work
             deferrable initially deferred for each row execute function hold_back();",
        )
        .execute(&f.owner)
        .await
        .unwrap();
        let mut holding = f.owner.acquire().await.unwrap();
        sqlx::query("select pg_advisory_lock(7)").execute(&mut *holding).await.unwrap();
        let (executor, concluding) = (f.clone(), first.clone());
        let concluding = tokio::spawn(async move { succeed(&executor, &concluding).await });
        f.until_waiting(1).await;

        let second = f.mcp.run_now(&local, task, "2", None).await.unwrap().run;
        f.until_waiting(2).await;
        assert_eq!(f.mcp.find_run(&local, second).await.unwrap().state, RunState::Blocked);
        sqlx::query("select pg_advisory_unlock(7)").execute(&mut *holding).await.unwrap();
        concluding.await.unwrap();
        becomes(&f, second, RunState::Pending).await;
    }
}
