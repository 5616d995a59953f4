//! The short way to history: nothing goes it that is not its writer's to end, or whose end means something for others.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    id::LeaseToken,
    run::{ErrorKind, RunState, StepFailure, StepState, Verdict},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller,
    claims::ClaimedRun,
    conclusions::{Conclusion, Written},
    tasks::{Inserted, TaskRef},
    testing::{Fixture, accepted_with, step},
};
use serde_json::json;
use uuid::Uuid;

const LEASE: Duration = Duration::from_mins(1);

/// A conclusion that goes the short way if its run does.
fn plain(run: &ClaimedRun) -> Conclusion {
    let conclusion = Conclusion {
        lease: run.lease(),
        verdict: Verdict::Succeeded { output: json!("done") },
        steps: vec![step("a", StepState::Succeeded)],
        ran_for: Duration::from_millis(5),
    };
    assert!(conclusion.is_plain());
    conclusion
}

async fn claim(f: &Fixture) -> Vec<ClaimedRun> {
    let all = NonZeroU16::new(100).expect("not zero");
    f.executor.claim_runs(Uuid::now_v7(), all, LEASE, i64::MIN).await.unwrap()
}

/// So many runs of one task, claimed.
async fn claimed_runs(f: &Fixture, n: usize) -> Vec<ClaimedRun> {
    let local = Caller::local("test");
    let now = f.mcp.now().await.unwrap();
    let definition = accepted_with("plain", (ScheduleKind::Manual, ""), now, json!({ "overlap": "allow" }));
    let (Inserted::Created(task) | Inserted::Existed(task)) =
        f.mcp.insert_task(&local, &definition, None).await.unwrap();
    for i in 0..n {
        f.mcp.run_now(&local, task.id, &format!("request {i}"), None).await.unwrap();
    }
    claim(f).await
}

#[tokio::test]
async fn of_a_plain_batch_only_what_is_under_its_lease_is_written_and_with_its_timeline() {
    let (f, _database) = Fixture::fresh().await;
    let local = Caller::local("test");
    let runs = claimed_runs(&f, 3).await;
    let mut conclusions: Vec<_> = runs.iter().map(plain).collect();
    conclusions[1].lease.token = LeaseToken::from_uuid(Uuid::new_v4());
    let written = f.executor.conclude_runs(conclusions).await.unwrap();
    assert_eq!(written, [Written::Yes, Written::LeaseLost, Written::Yes]);

    assert_eq!(f.mcp.find_run(&local, runs[1].id).await.unwrap().state, RunState::Running);
    let ended = f.mcp.find_run(&local, runs[2].id).await.unwrap();
    assert_eq!((ended.state, ended.output, ended.attempts), (RunState::Succeeded, json!("done"), 1));
    assert_eq!(ended.steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["a"]);
    let again = f.executor.conclude_runs(vec![plain(&runs[2])]).await.unwrap();
    assert_eq!(again, [Written::LeaseLost], "it is over");
}

#[tokio::test]
async fn a_plain_success_ends_a_row_of_failures() {
    let (f, _database) = Fixture::fresh().await;
    let runs = claimed_runs(&f, 2).await;
    let verdict = Verdict::Failed { error: StepFailure::new(ErrorKind::ClientError, "404") };
    for (conclusion, failures) in [(Conclusion { verdict, ..plain(&runs[0]) }, 1), (plain(&runs[1]), 0)] {
        assert_eq!(f.executor.conclude_runs(vec![conclusion]).await.unwrap(), [Written::Yes]);
        let task = f.mcp.find_task(&Caller::local("test"), &TaskRef::Id(runs[0].task)).await.unwrap();
        assert_eq!(task.failures_in_row, failures);
    }
}

#[tokio::test]
async fn a_task_that_listens_hears_of_a_plain_success() {
    let (f, _database) = Fixture::fresh().await;
    let now = f.mcp.now().await.unwrap();
    let listening = accepted_with("listening", (ScheduleKind::Event, "run.succeeded"), now, json!({}));
    f.mcp.insert_task(&Caller::local("test"), &listening, None).await.unwrap();
    let runs = claimed_runs(&f, 1).await;
    assert_eq!(f.executor.conclude_runs(vec![plain(&runs[0])]).await.unwrap(), [Written::Yes]);
    let heard = claim(&f).await;
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].event.as_ref().map(|event| &event["topic"]), Some(&json!("run.succeeded")));
}
