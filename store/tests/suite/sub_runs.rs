//! Sub-runs under the keys of their step: one whoever asks again, another where a repeat asks for just that.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{ErrorKind, RunState, StepFailure, Verdict},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, StoreError,
    claims::ClaimedRun,
    conclusions::{Conclusion, Written},
    requests::{SubRun, SubRunState},
    runs::RetryFrom,
    tasks::Inserted,
    testing::{Database, Fixture, accepted_with},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// A task that asks, the one that is asked for, and a run of the first that is being attempted.
struct House {
    f: Fixture,
    _database: Database,
    other: TaskId,
    parent: ClaimedRun,
}

fn local() -> Caller {
    Caller::local("test")
}

impl House {
    async fn new() -> Self {
        let (f, database) = Fixture::fresh().await;
        let mut tasks = Vec::new();
        for title in ["caller", "other"] {
            let now = f.mcp.now().await.unwrap();
            let definition = accepted_with(title, (ScheduleKind::Manual, ""), now, json!({ "overlap": "allow" }));
            let (Inserted::Created(task) | Inserted::Existed(task)) =
                f.mcp.insert_task(&local(), &definition, None).await.unwrap();
            tasks.push(task.id);
        }
        f.mcp.run_now(&local(), tasks[0], "x", None).await.unwrap();
        let parent = claim(&f).await;
        Self { f, _database: database, other: tasks[1], parent }
    }

    /// What a call of the step of `parent` comes to.
    async fn call(&self, parent: &ClaimedRun, n: u32, awaited: bool) -> SubRunState {
        let asked = SubRun {
            agent: parent.agent,
            parent: parent.id,
            root: parent.root_run,
            step: "other".to_owned(),
            task: self.other,
            params: Some(
                [("n".to_owned(), json!(n)), ("a".to_owned(), json!({ "z": 1, "b": 2 }))].into_iter().collect(),
            ),
            cause_depth: 0,
            awaited,
        };
        self.f.executor.sub_run(&asked).await.unwrap()
    }

    async fn live(&self, parent: &ClaimedRun, n: u32) -> RunId {
        match self.call(parent, n, true).await {
            SubRunState::Live(run) => run,
            other => panic!("{other:?}"),
        }
    }

    async fn conclude(&self, run: &ClaimedRun, verdict: Verdict) {
        assert_eq!(self.f.executor.conclude_runs(vec![conclusion(run, verdict)]).await.unwrap(), [Written::Yes]);
    }

    /// Ends the parent and has another run resume it.
    async fn resumed(&self, parent: &ClaimedRun) -> ClaimedRun {
        self.conclude(parent, failed()).await;
        let retry = self.f.mcp.retry_run(&local(), parent.id, RetryFrom::FailedStep).await.unwrap();
        let resumed = claim(&self.f).await;
        assert_eq!((resumed.id, resumed.root_run), (retry, self.parent.root_run));
        resumed
    }

    async fn state(&self, run: RunId) -> RunState {
        self.f.mcp.find_run(&local(), run).await.unwrap().state
    }
}

fn conclusion(run: &ClaimedRun, verdict: Verdict) -> Conclusion {
    let lease = run.lease();
    Conclusion { lease, verdict, steps: Vec::new(), ran_for: Duration::ZERO }
}

fn failed() -> Verdict {
    Verdict::Failed { error: StepFailure::new(ErrorKind::Timeout, "late") }
}

fn succeeded(output: Value) -> Verdict {
    Verdict::Succeeded { output }
}

async fn claim(f: &Fixture) -> ClaimedRun {
    f.executor.claim_runs(Uuid::now_v7(), NonZeroU16::MIN, Duration::from_mins(1), i64::MIN).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_run_that_resumes_takes_what_the_sub_run_gave_and_starts_none() {
    let house = House::new().await;
    let sub = house.live(&house.parent, 1).await;
    assert_eq!(house.live(&house.parent, 1).await, sub, "however often it is asked for");
    let claimed = claim(&house.f).await;
    assert_eq!(claimed.id, sub);
    house.conclude(&claimed, succeeded(json!(7))).await;

    let resumed = house.resumed(&house.parent).await;
    assert_eq!(house.call(&resumed, 1, true).await, SubRunState::Succeeded { run: sub, output: json!(7) });
    let again = house.resumed(&resumed).await;
    assert_eq!(house.call(&again, 1, true).await, SubRunState::Succeeded { run: sub, output: json!(7) });
    // The step was edited meanwhile.
    assert_ne!(house.live(&again, 2).await, sub);
}

#[tokio::test]
async fn a_run_that_resumes_starts_another_where_the_first_ended_with_its_parent_and_is_woken_by_it() {
    let house = House::new().await;
    let sub = house.live(&house.parent, 1).await;
    let resumed = house.resumed(&house.parent).await;
    assert_eq!(house.state(sub).await, RunState::Cancelled);

    let another = house.live(&resumed, 1).await;
    assert_ne!(another, sub);
    house.conclude(&resumed, Verdict::Parked { until: jiff::Timestamp::MAX }).await;
    let claimed = claim(&house.f).await;
    assert_eq!(claimed.id, another);
    house.conclude(&claimed, succeeded(json!(7))).await;
    house.f.executor.look_ahead(10).await.unwrap();
    let woken = claim(&house.f).await;
    assert_eq!(woken.id, resumed.id);
    assert_eq!(house.call(&woken, 1, true).await, SubRunState::Succeeded { run: another, output: json!(7) });
}

#[tokio::test]
async fn a_failure_is_told_once_and_the_call_after_it_starts_another() {
    let house = House::new().await;
    let sub = house.live(&house.parent, 1).await;
    house.conclude(&claim(&house.f).await, failed()).await;
    assert!(matches!(house.call(&house.parent, 1, true).await, SubRunState::Failed { run, .. } if run == sub));
    assert_ne!(house.live(&house.parent, 1).await, sub);
}

#[tokio::test]
async fn a_run_that_resumes_starts_no_second_one_that_nobody_waits_for() {
    let house = House::new().await;
    let SubRunState::Live(sub) = house.call(&house.parent, 1, false).await else { panic!("it is live") };
    let claimed = claim(&house.f).await;
    assert_eq!(claimed.id, sub);
    let resumed = house.resumed(&house.parent).await;
    assert_eq!(house.call(&resumed, 1, false).await, SubRunState::Live(sub));
}

#[tokio::test]
async fn a_run_is_resumed_by_one_at_a_time() {
    let house = House::new().await;
    house.conclude(&house.parent, failed()).await;
    let retry = house.f.mcp.retry_run(&local(), house.parent.id, RetryFrom::FailedStep).await.unwrap();
    let second = house.f.mcp.retry_run(&local(), house.parent.id, RetryFrom::FailedStep).await.unwrap_err();
    assert!(matches!(&second, StoreError::RunState { reason, .. } if reason.contains(&retry.to_string())), "{second}");
    // New keys: it is no resume.
    house.f.mcp.retry_run(&local(), house.parent.id, RetryFrom::Start).await.unwrap();
}

/// Whoever tells of a cancelled run waits: its row is locked by then, and its sub-runs are not.
async fn hold_back_cancels(owner: &PgPool) {
    sqlx::raw_sql(
        "create function hold_back() returns trigger language plpgsql as $$
         begin
             perform pg_advisory_xact_lock(7);
             return new;
         end $$;
         create trigger hold_back before insert on outbox
         for each row when (new.topic = 'run.cancelled') execute function hold_back();",
    )
    .execute(owner)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_run_that_ends_while_its_parent_is_cancelled_holds_nothing_that_the_cancel_needs() {
    let house = House::new().await;
    house.live(&house.parent, 1).await;
    house.conclude(&house.parent, Verdict::Parked { until: jiff::Timestamp::MAX }).await;
    let sub = claim(&house.f).await;
    hold_back_cancels(&house.f.owner).await;
    let mut holding = house.f.owner.acquire().await.unwrap();
    sqlx::query("select pg_advisory_lock(7)").execute(&mut *holding).await.unwrap();

    let (mcp, parent) = (house.f.mcp.clone(), house.parent.id);
    let cancelling = tokio::spawn(async move { mcp.cancel_run(&local(), parent, None).await });
    house.f.until_waiting(1).await;
    let (executor, ended) = (house.f.executor.clone(), conclusion(&sub, succeeded(json!(7))));
    let concluding = tokio::spawn(async move { executor.conclude_runs(vec![ended]).await });
    house.f.until_waiting(2).await;
    // It waits for its parent, and until then the cancel may have it.
    sqlx::query("select run_id from due_work where run_id = $1 for update nowait")
        .bind(sub.id.uuid())
        .execute(&house.f.owner)
        .await
        .expect("nobody holds the sub-run");
    sqlx::query("select pg_advisory_unlock(7)").execute(&mut *holding).await.unwrap();

    cancelling.await.unwrap().unwrap();
    assert_eq!(concluding.await.unwrap().unwrap(), [Written::Yes]);
    assert_eq!(house.state(parent).await, RunState::Cancelled);
    assert_eq!(house.state(sub.id).await, RunState::Succeeded, "what is done is done");
}
