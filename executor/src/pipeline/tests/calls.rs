//! One call: when it is made again, and when never.

use std::time::Duration;

use ordinaut_schema::{
    action::Grants,
    limits::Limits,
    run::{ErrorKind, StepState},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Attempted, Bench, Engine, Halt, Journal, Orders, Pinned};

#[tokio::test]
async fn a_call_that_may_have_left_is_not_repeated_where_that_could_do_harm() {
    for (uses, calls) in [("svc.once", 1), ("svc.again", 2)] {
        let mut bench = Bench::new(json!([
            { "id": "a", "uses": uses, "with": { "fail": 1, "kind": "connection", "sent": true, "answer": 1 } },
        ]));
        let ended = bench.finish().await;
        assert_eq!(bench.calls("a"), calls);
        match uses {
            "svc.once" => assert_eq!(ended.unwrap_err().kind, ErrorKind::OutcomeUnknown),
            _ => assert_eq!(ended, Ok(json!(1))),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlasts_its_limit_may_have_left() {
    let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.once", "timeout": "5s", "with": { "hang": true } }]));
    assert_eq!(bench.finish().await.unwrap_err().kind, ErrorKind::OutcomeUnknown);

    let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.again", "timeout": "5s", "with": { "hang": true } }]));
    assert_eq!(bench.finish().await.unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(bench.calls("a"), 3, "the task's budget");
}

#[tokio::test]
async fn a_step_spends_its_own_budget_and_the_others_share_the_tasks() {
    let own = json!({ "max_attempts": 5, "backoff": "fixed", "initial": "1s", "max": "1s" });
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.again", "with": { "fail": 4 }, "retry": own },
        { "id": "b", "uses": "svc.again", "with": { "fail": 1 } },
        { "id": "c", "uses": "svc.again", "with": { "fail": 9 } },
    ]));
    assert_eq!(bench.finish().await.unwrap_err().step, "c");
    assert_eq!((bench.calls("a"), bench.calls("b"), bench.calls("c")), (5, 2, 2));
}

#[tokio::test]
async fn errors_that_another_call_cannot_mend_are_not_retried() {
    for kind in ["client_error", "denied"] {
        let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.again", "with": { "fail": 1, "kind": kind } }]));
        assert_eq!(bench.finish().await.unwrap_err().kind.as_str(), kind);
        assert_eq!(bench.calls("a"), 1);
    }
}

#[tokio::test]
async fn an_output_that_was_not_expected_fails_the_step_before_it_is_kept() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.again", "with": { "answer": { "x": "no" } }, "expect":
            { "type": "object", "properties": { "x": { "type": "number" } } } },
    ]));
    assert_eq!(bench.finish().await.unwrap_err().kind, ErrorKind::InvalidOutput);
    assert_eq!(bench.record("a").output, Value::Null);
}

#[tokio::test]
async fn an_answer_that_cannot_be_accepted_is_asked_for_again_only_where_that_does_no_harm() {
    for (uses, calls) in [("svc.once", 1), ("svc.again", 3)] {
        let own = json!({ "max_attempts": 3, "backoff": "fixed", "initial": "1s", "max": "1s" });
        for refused in [json!({ "answer": 1 }), json!({ "answer": "x".repeat(Limits::DEFAULT.step_output_bytes) })] {
            let mut bench = Bench::new(json!([
                { "id": "a", "uses": uses, "with": refused, "expect": { "type": "string" }, "retry": own },
            ]));
            bench.around.limits.journal_bytes = usize::MAX;
            assert_eq!(bench.finish().await.unwrap_err().kind, ErrorKind::InvalidOutput);
            assert_eq!((bench.calls("a"), bench.record("a").state), (calls, StepState::Failed), "{uses}");
        }
    }
}

#[tokio::test]
async fn a_tool_that_is_not_granted_any_more_is_denied_at_the_call() {
    let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.once" }]));
    let journal = Journal::open(bench.pages.clone(), Vec::new());
    let (orders, grants) = (Orders::new(Instant::now(), Duration::from_mins(1)), Grants::default());
    bench.run.attempt = 1;
    let attempted =
        Attempted { run: &bench.run, spec: &bench.spec, journal: &journal, orders: &orders, grants: &grants };
    let pinned = Pinned::new(bench.run.started_at, &bench.spec, Value::Null);
    let ended = Engine::new(attempted, pinned, &bench.around).run().await;
    assert!(matches!(ended, Err(Halt::Failed(failure)) if failure.kind == ErrorKind::Denied));
    assert_eq!(bench.calls("a"), 0);
}
