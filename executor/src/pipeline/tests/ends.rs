//! How a run ends before its pipeline does: failed, out of time, cancelled.

use std::time::Duration;

use ordinaut_schema::run::{ErrorKind, StepState};
use serde_json::json;
use tokio::time::Instant;

use super::{Bench, Halt, Orders};

#[tokio::test]
async fn on_failure_runs_once_after_the_last_retry_and_its_own_failure_changes_nothing() {
    let mut bench = Bench::with(json!({
        "pipeline": [{ "id": "a", "uses": "svc.again", "with": { "fail": 9 } }],
        "on_failure": [
            { "id": "tell", "uses": "svc.again", "with": { "answer": "failed: ${error.message} in ${error.step}" } },
            { "id": "more", "uses": "svc.again", "with": { "fail": 9 } },
        ],
    }));
    let failure = bench.finish().await.unwrap_err();
    assert_eq!(failure.step, "a");
    assert_eq!((bench.calls("a"), bench.calls("tell"), bench.calls("more")), (3, 1, 1));
    assert_eq!(bench.record("tell").output, json!("failed: as told in a"));
    assert_eq!(bench.record("more").state, StepState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_outlasts_its_timeout_fails_and_waiting_does_not_count() {
    let mut bench = Bench::with(json!({
        "run_timeout": "30s",
        "pipeline": [{ "id": "a", "uses": "svc.again", "timeout": "1m", "with": { "hang": true } }],
        "on_failure": [{ "id": "tell", "uses": "svc.again" }],
    }));
    bench.run.ran_for = Duration::from_secs(20);
    let begun = Instant::now();
    let failure = bench.finish().await.unwrap_err();
    assert_eq!((failure.kind, begun.elapsed()), (ErrorKind::Timeout, Duration::from_secs(10)));
    assert!(failure.message.contains("run_timeout"), "{}", failure.message);
    assert_eq!(bench.calls("tell"), 1);
    assert_eq!(bench.record("a").state, StepState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_call_whose_action_does_not_react_and_runs_no_on_failure() {
    let mut bench = Bench::with(json!({
        "pipeline": [{ "id": "a", "uses": "svc.once", "with": { "hang": true }, "on_error": "continue" }],
        "on_failure": [{ "id": "tell", "uses": "svc.again" }],
    }));
    let begun = Instant::now();
    let orders = Orders::new(Instant::now(), Duration::from_hours(10));
    let asked = orders.cancelled.clone();
    let service = bench.service.clone();
    let ask = async move {
        while service.inputs.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        asked.cancel();
    };
    let (ended, ()) = tokio::join!(bench.attempt_under(&orders), ask);
    assert!(matches!(ended, Err(Halt::Cancelled)));
    assert_eq!((begun.elapsed(), bench.calls("tell")), (Duration::from_secs(2), 0), "a farewell, not its limit");
}

#[tokio::test(start_paused = true)]
async fn a_harmful_call_in_hand_when_time_is_up_is_unknown_and_so_is_the_run() {
    let hang = json!({ "hang": true });
    let alone = json!([{ "id": "a", "uses": "svc.once", "timeout": "1m", "with": hang }]);
    let beside = json!([{ "id": "g", "parallel": [
        { "id": "b", "uses": "svc.again", "timeout": "1m", "with": hang },
        { "id": "a", "uses": "svc.once", "timeout": "1m", "with": hang } ] }]);
    let each = json!([{ "id": "a", "uses": "svc.once", "timeout": "1m", "foreach": "params.list", "with": hang }]);
    for (pipeline, records) in [
        (alone, vec![("a", None, "outcome_unknown")]),
        (beside, vec![("b", None, "timeout"), ("a", None, "outcome_unknown")]),
        // The list itself is no call.
        (each, vec![("a", None, "timeout"), ("a", Some(0), "outcome_unknown")]),
    ] {
        let mut bench = Bench::with(json!({
            "run_timeout": "30s",
            "pipeline": pipeline,
            "on_failure": [{ "id": "tell", "uses": "svc.again", "with": { "answer": "${error.kind}" } }],
        }));
        let failure = bench.finish().await.unwrap_err();
        assert_eq!((failure.kind, failure.step.as_str()), (ErrorKind::OutcomeUnknown, "a"));
        assert!(failure.message.contains("run_timeout of 30s"), "{}", failure.message);
        assert_eq!(bench.record("tell").output, json!("outcome_unknown"));
        let kept = bench.pages.records.lock().unwrap();
        let errors: Vec<_> = kept
            .iter()
            .filter_map(|record| Some((record.step.as_str(), record.index, record.error.as_ref()?.kind.as_str())))
            .collect();
        assert_eq!(errors, records);
    }
}

#[tokio::test(start_paused = true)]
async fn a_harmful_call_of_on_failure_that_is_cut_off_is_unknown_and_changes_nothing() {
    let mut bench = Bench::with(json!({
        "pipeline": [{ "id": "a", "uses": "svc.again", "with": { "fail": 1, "kind": "denied" } }],
        "on_failure": [{ "id": "tell", "uses": "svc.once", "timeout": "1h", "with": { "hang": true } }],
    }));
    assert_eq!(bench.finish().await.unwrap_err().kind, ErrorKind::Denied);
    let error = bench.record("tell").error.unwrap();
    assert_eq!(error.kind, ErrorKind::OutcomeUnknown);
    assert!(error.message.contains("on_failure took longer than 5m"), "{}", error.message);
}
