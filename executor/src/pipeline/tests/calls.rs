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
async fn a_spent_budget_of_a_step_fails_the_run_whatever_the_tasks_budget_has_left() {
    let own = json!({ "max_attempts": 2, "backoff": "fixed", "initial": "1s", "max": "1s" });
    let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.again", "with": { "fail": 9 }, "retry": own }]));
    assert_eq!(bench.finish().await.unwrap_err().step, "a");
    assert_eq!(bench.calls("a"), 2, "the task's three are not added, nor multiplied");
}

#[tokio::test]
async fn client_errors_templates_denials_and_unknown_outcomes_are_not_retried_and_the_others_are() {
    for (kind, calls) in [
        ("timeout", 3),
        ("connection", 3),
        ("rate_limited", 3),
        ("server_error", 3),
        ("tool_error", 3),
        ("invalid_output", 3),
        ("client_error", 1),
        ("template", 1),
        ("denied", 1),
        ("outcome_unknown", 1),
    ] {
        let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.again", "with": { "fail": 9, "kind": kind } }]));
        assert_eq!(bench.finish().await.unwrap_err().kind.as_str(), kind);
        assert_eq!(bench.calls("a"), calls, "{kind}");
    }
}

#[tokio::test]
async fn a_retry_is_for_the_errors_that_it_names() {
    let own = json!({ "max_attempts": 3, "backoff": "fixed", "initial": "1s", "max": "1s", "errors": ["timeout"] });
    for (kind, calls) in [("timeout", 3), ("server_error", 1)] {
        let with = json!({ "fail": 9, "kind": kind });
        let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.again", "with": with, "retry": own }]));
        assert_eq!(bench.finish().await.unwrap_err().kind.as_str(), kind);
        assert_eq!(bench.calls("a"), calls, "{kind}");
    }
}

#[tokio::test]
async fn a_side_that_says_when_to_come_back_is_not_called_before() {
    let with = json!({ "fail": 1, "kind": "rate_limited", "retry_after": 40 });
    let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.again", "with": with }]));
    let halt = bench.attempt().await.unwrap_err();
    assert!(matches!(halt, Halt::Retry { delay, .. } if delay == Duration::from_secs(40)), "{halt:?}");
}

#[tokio::test]
async fn a_call_has_a_minute_one_of_a_model_three_and_none_more_than_an_hour() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.again" },
        { "id": "b", "uses": "llm.generate" },
        { "id": "c", "uses": "llm.generate", "timeout": "5s" },
        { "id": "d", "uses": "svc.again", "timeout": "2h" },
    ]));
    bench.finish().await.unwrap();
    let limits: Vec<_> = bench.service.limits.lock().unwrap().iter().map(Duration::as_secs).collect();
    assert_eq!(limits, [60, 180, 5, 3600]);
}

#[tokio::test]
async fn a_calls_key_is_the_root_run_the_step_and_in_a_foreach_the_index() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.once", "with": { "answer": 1 } },
        { "id": "b", "uses": "svc.once", "foreach": "`[1, 2]`", "with": { "answer": 1 } },
        { "id": "g", "parallel": [{ "id": "c", "uses": "svc.once", "with": { "answer": 1 } }] },
    ]));
    // As a run that resumes another has it.
    let root = ordinaut_schema::id::RunId::from_uuid(uuid::Uuid::from_u128(99));
    bench.run.root_run = root;
    bench.finish().await.unwrap();
    let mut keys: Vec<_> = bench.service.calls.lock().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["a", "b/0", "b/1", "c"].map(|step| format!("{root}/{step}")));
}

#[tokio::test]
async fn a_notification_whose_call_may_have_left_is_sent_again() {
    let with = json!({ "fail": 1, "kind": "timeout", "sent": true, "answer": 1 });
    let mut bench = Bench::new(json!([{ "id": "a", "uses": "notify.send", "with": with }]));
    assert_eq!(bench.finish().await, Ok(json!(1)));
    assert_eq!(bench.calls("a"), 2, "a message twice beats none");
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

/// What a step comes to whose agent has these grants when it is called, and how often it was.
async fn called_with(grants: Grants, step: Value) -> (Option<ErrorKind>, u32) {
    let mut bench = Bench::new(json!([step]));
    let journal = Journal::open(bench.pages.clone(), Vec::new());
    let orders = Orders::new(Instant::now(), Duration::from_mins(1));
    bench.run.attempt = 1;
    let attempted =
        Attempted { run: &bench.run, spec: &bench.spec, journal: &journal, orders: &orders, grants: &grants };
    let pinned = Pinned::new(bench.run.started_at, &bench.spec, Value::Null);
    let ended = Engine::new(attempted, pinned, &bench.around).run().await;
    match ended {
        Err(Halt::Failed(failure)) => (Some(failure.kind), bench.calls("a")),
        Ok(_) => (None, bench.calls("a")),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_granted_any_more_is_denied_at_the_call() {
    let tool = json!({ "id": "a", "uses": "svc.once" });
    let channel = json!({ "id": "a", "uses": "notify.send", "with": { "channel": "${'te'}am", "text": "x" } });
    let asks = json!({ "id": "a", "uses": "approval.request", "with": { "channel": "team", "message": "x" } });
    let secret = json!({ "id": "a", "uses": "http.get", "with": {
        "url": "https://a.example", "headers": { "Authorization": "${secrets.KEY}" } } });
    for step in [tool, channel, asks, secret.clone()] {
        assert_eq!(called_with(Grants::default(), step.clone()).await, (Some(ErrorKind::Denied), 0), "{step}");
    }
    let granted = Grants { secrets: vec!["KEY".to_owned()], ..Grants::default() };
    assert_eq!(called_with(granted, secret).await, (None, 1));
}
