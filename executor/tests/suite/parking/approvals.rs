//! `approval.request`.

use ordinaut_schema::{
    action::parking::ApprovalState,
    id::RunId,
    run::{ErrorKind, RunState},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller,
    approvals::{Approval, Authority, Decision},
};
use serde_json::{Value, json};

use crate::support::{House, eventually};

const MANUAL: (ScheduleKind, &str) = (ScheduleKind::Manual, "");

fn asking(with: Value) -> Value {
    json!({ "pipeline": [
        { "id": "ask", "uses": "approval.request", "with": with },
        { "id": "send", "if": "steps.ask.status == 'approved'", "uses": "data.transform",
          "with": { "expr": "steps.ask.approved_items" } },
    ] })
}

async fn waiting(house: &House, run: RunId) -> Approval {
    house.parked(run).await;
    let all = house.store.list_approvals(None, 10).await.unwrap();
    all.into_iter().find(|approval| approval.run == run).unwrap()
}

fn decision(approval: &Approval, approve: bool) -> Decision {
    Decision { approve, comment: Some("fine".to_owned()), items: None, shown_sha256: approval.shown_sha256.clone() }
}

async fn answer(house: &House, approval: &Approval, decision: &Decision) {
    house.store.answer_approval(&Caller::local("cli"), Authority::Person, approval.id, decision).await.unwrap();
}

#[tokio::test]
async fn what_a_person_approves_is_what_the_next_step_gets() {
    let house = House::new().await;
    let executor = house.executor(&[]).await;
    let task = house.task("asks", MANUAL, asking(json!({ "message": "Send?", "data": ["a", "b", "c"] }))).await;
    let run = house.run_now(&task, "x").await;
    let approval = waiting(&house, run).await;
    assert_eq!((approval.message.as_str(), &approval.data), ("Send?", &json!(["a", "b", "c"])));
    // The executor that asked is gone; the answer is for whoever comes.
    executor.kill();
    let _other = house.executor(&[]).await;
    answer(&house, &approval, &Decision { items: Some(vec![3, 1]), ..decision(&approval, true) }).await;
    let ended = house.ended(run).await;
    assert_eq!(ended.state, RunState::Succeeded, "{:?}", ended.error);
    let output = json!({ "status": "approved", "approved_items": ["a", "c"], "comment": "fine", "by": "cli" });
    assert_eq!(ended.steps[0].output, output);
    assert_eq!((ended.steps[1].output.clone(), ended.attempts, ended.failures), (json!(["a", "c"]), 2, 0));
}

#[tokio::test]
async fn a_rejection_does_not_fail_the_step() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let task = house.task("asks", MANUAL, asking(json!({ "message": "Send?", "data": { "n": 1 } }))).await;
    let run = house.run_now(&task, "x").await;
    let approval = waiting(&house, run).await;
    answer(&house, &approval, &decision(&approval, false)).await;
    let ended = house.ended(run).await;
    assert_eq!((ended.state, ended.steps[1].state.as_str()), (RunState::Succeeded, "skipped"));
    assert_eq!(
        (&ended.steps[0].output["status"], &ended.steps[0].output["approved_items"]),
        (&json!("rejected"), &json!([]))
    );
    eventually("both are told", async || {
        let told = house.stream("ordinaut:events").await;
        let topics: Vec<_> = told.iter().map(|it| it.topic.as_str()).filter(|it| it.starts_with("approval.")).collect();
        (topics == ["approval.requested", "approval.answered"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_approval_that_nobody_answers_counts_as_its_request_says() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let mut runs = Vec::new();
    for on_timeout in ["reject", "approve", "fail"] {
        let with = json!({ "message": "Send?", "data": [1], "timeout": "1s", "on_timeout": on_timeout });
        let task = house.task(on_timeout, MANUAL, asking(with)).await;
        runs.push(house.run_now(&task, on_timeout).await);
    }
    let rejected = house.ended(runs[0]).await;
    assert_eq!(rejected.state, RunState::Succeeded, "{:?}", rejected.error);
    assert_eq!((&rejected.steps[0].output["status"], &rejected.steps[1].output), (&json!("timed_out"), &Value::Null));
    let approved = house.ended(runs[1]).await;
    assert_eq!((&approved.steps[0].output["status"], &approved.output), (&json!("approved"), &json!([1])));
    assert_eq!(approved.steps[0].output["by"], "on_timeout");
    let failed = house.ended(runs[2]).await;
    assert_eq!((failed.state, failed.error.unwrap().kind, failed.failures), (RunState::Failed, ErrorKind::Denied, 1));
}

#[tokio::test]
async fn a_run_that_is_cancelled_closes_what_it_asked_and_a_retry_asks_anew() {
    let house = House::new().await;
    let _executor = house.executor(&[]).await;
    let task = house.task("asks", MANUAL, asking(json!({ "message": "Send?", "data": [1] }))).await;
    let run = house.run_now(&task, "x").await;
    let approval = waiting(&house, run).await;
    house.store.cancel_run(&house.caller, run, None).await.unwrap();
    assert_eq!(house.store.find_approval(&house.caller, approval.id).await.unwrap().state, ApprovalState::Closed);
    let late = house
        .store
        .answer_approval(&Caller::local("cli"), Authority::Person, approval.id, &decision(&approval, true))
        .await;
    assert!(late.unwrap_err().to_string().contains("is over"));

    let from = ordinaut_store::runs::RetryFrom::FailedStep;
    let retry = house.store.retry_run(&house.caller, run, from).await.unwrap();
    let anew = waiting(&house, retry).await;
    assert_ne!(anew.id, approval.id);
    answer(&house, &anew, &decision(&anew, true)).await;
    assert_eq!(house.ended(retry).await.output, json!([1]));
}
