//! Two transactions that wait for each other: both get done, and nobody who asked hears of it.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    run::{RunState, Verdict},
    schedule::ScheduleKind,
    task::TaskState,
};
use ordinaut_store::{
    Caller,
    conclusions::{Conclusion, Written},
    inbound::NewEvent,
    tasks::Inserted,
    testing::{Fixture, accepted_with},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// Any number: what [`hold_back_ends`] waits for.
const HELD: i64 = 7;

/// Whoever tells of a run that succeeded waits for [`HELD`] first: its run is locked by then, and no listener yet.
async fn hold_back_ends(owner: &PgPool) {
    sqlx::raw_sql(
        "create function hold_back() returns trigger language plpgsql as $$
         begin
             perform pg_advisory_xact_lock(7);
             return new;
         end $$;
         create trigger hold_back before insert on outbox
         for each row when (new.topic = 'run.succeeded') execute function hold_back();",
    )
    .execute(owner)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conclusion_and_a_cancel_that_wait_for_each_other_are_both_done() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    let now = f.mcp.now().await.unwrap();
    // It listens to the end of its own runs: the conclusion locks the run and then the task, the cancel the task and
    // then its runs.
    let definition = accepted_with("circle", (ScheduleKind::Event, "*.*"), now, json!({ "overlap": "queue" }));
    let (Inserted::Created(task) | Inserted::Existed(task)) =
        f.mcp.insert_task(&local, &definition, None).await.unwrap();
    let go = NewEvent { id: None, topic: "go.on".to_owned(), payload: Value::Null, cause_depth: 0 };
    f.mcp.publish_event(&local, go).await.unwrap();
    let limit = NonZeroU16::new(10).expect("not zero");
    let run = f.executor.claim_runs(Uuid::now_v7(), limit, Duration::from_mins(1), i64::MIN).await.unwrap().remove(0);
    hold_back_ends(&f.owner).await;

    let mut holding = f.owner.acquire().await.unwrap();
    sqlx::query("select pg_advisory_lock($1)").bind(HELD).execute(&mut *holding).await.unwrap();
    let conclusion = Conclusion {
        lease: run.lease(),
        verdict: Verdict::Succeeded { output: Value::Null },
        steps: Vec::new(),
        ran_for: Duration::ZERO,
    };
    let executor = f.executor.clone();
    let concluding = tokio::spawn(async move { executor.conclude_runs(vec![conclusion]).await });
    f.until_waiting(1).await;
    let (mcp, caller) = (f.mcp.clone(), local.clone());
    let cancelling = tokio::spawn(async move { mcp.cancel_task(&caller, task.id).await });
    f.until_waiting(2).await;
    sqlx::query("select pg_advisory_unlock($1)").bind(HELD).execute(&mut *holding).await.unwrap();

    assert_eq!(concluding.await.unwrap().unwrap(), [Written::Yes]);
    assert_eq!(cancelling.await.unwrap().unwrap().0.state, TaskState::Cancelled);
    assert_eq!(f.mcp.find_run(&local, run.id).await.unwrap().state, RunState::Succeeded);
    let live: i64 = sqlx::query_scalar("select count(*) from due_work").fetch_one(&f.owner).await.unwrap();
    assert_eq!(live, 0, "nothing of a cancelled task is left to run");
}
