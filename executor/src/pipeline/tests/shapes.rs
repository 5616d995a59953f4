//! Conditions, lists and groups.

use ordinaut_schema::run::{ErrorKind, StepState};
use serde_json::json;

use super::{Bench, Halt};

#[tokio::test]
async fn a_falsy_condition_skips_the_step_and_its_output_is_null() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.once", "if": "params.city == 'Riga'", "with": { "answer": 1 } },
        { "id": "b", "uses": "svc.once", "with": { "answer": "${default(steps.a, 'none')}" } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!("none")));
    assert_eq!(bench.record("a").state, StepState::Skipped);
    assert_eq!(bench.calls("a"), 0);
}

#[tokio::test]
async fn a_foreach_yields_its_outputs_in_the_order_of_the_list() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.again", "foreach": "params.list", "max_parallel": 3,
          "with": { "answer": "${item}-${index}" } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!(["1-0", "2-1", "3-2"])));
    assert_eq!(bench.calls("a/1"), 1);
}

#[tokio::test]
async fn the_first_failed_item_keeps_the_rest_from_starting() {
    let pipeline = |on_error: &str| {
        json!([
            { "id": "a", "uses": "svc.once", "foreach": "params.list", "on_error": on_error,
              "with": { "kind": "client_error", "fail": "${item == `2` && `1` || `0`}", "answer": "${item}" } },
        ])
    };
    let mut bench = Bench::new(pipeline("fail"));
    assert_eq!(bench.finish().await.unwrap_err().kind, ErrorKind::ClientError);
    assert_eq!((bench.calls("a/0"), bench.calls("a/1"), bench.calls("a/2")), (1, 1, 0));
    assert_eq!(bench.record("a").state, StepState::Failed);

    let mut bench = Bench::new(pipeline("continue"));
    let output = bench.finish().await.unwrap();
    assert_eq!((&output[0], &output[1]["error"]["kind"], &output[2]), (&json!(1), &json!("client_error"), &json!(3)));
}

#[tokio::test]
async fn members_of_a_group_run_side_by_side_and_each_is_retried_by_itself() {
    let mut bench = Bench::new(json!([
        { "id": "g", "parallel": [
            { "id": "a", "uses": "svc.again", "with": { "answer": 1, "fail": 1 } },
            { "id": "b", "uses": "svc.once", "with": { "answer": 2 } } ] },
        { "id": "c", "uses": "data.transform", "with": { "expr": "[steps.a, steps.b]" } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!([1, 2])));
    assert_eq!((bench.calls("a"), bench.calls("b")), (2, 1));
}

#[tokio::test]
async fn an_if_is_judged_once_before_the_list_and_not_again_by_a_later_attempt() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.again", "if": "run.attempt == 1", "foreach": "params.list",
          "with": { "answer": "${item}", "fail": 1 } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!([1, 2, 3])));

    // A list that could not be: nobody looks at it.
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.again", "if": "false", "foreach": "params.city", "with": { "answer": 1 } },
        { "id": "b", "uses": "svc.again", "with": { "answer": "${[steps.a, steps.a[0].x]}" } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!([null, null])));
}

#[tokio::test]
async fn references_through_a_skipped_step_are_null_and_so_is_a_list_of_it() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.once", "if": "false", "with": { "answer": 1 } },
        { "id": "b", "uses": "svc.once", "foreach": "steps.a.body.items", "with": { "answer": "${item}" } },
        { "id": "c", "uses": "svc.once", "if": "steps.a.body.n", "with": { "answer": 1 } },
        { "id": "d", "uses": "svc.once", "with": { "answer": "${[steps.b, steps.c.x]}" } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!([[], null])));
}

#[tokio::test]
async fn of_steps_that_share_a_name_the_last_that_ran_wins_also_after_a_resume() {
    let last = |cold: &str| {
        json!([
            { "id": "hot", "uses": "svc.once", "save_as": "text", "with": { "answer": "hot" } },
            { "id": "cold", "uses": "svc.once", "save_as": "text", "if": cold, "with": { "answer": "cold" } },
            { "id": "pause", "uses": "svc.again", "with": { "fail": 1 } },
            { "id": "tell", "uses": "svc.once", "with": { "answer": "${[steps.text, steps.hot, steps.cold]}" } },
        ])
    };
    for (cold, expected) in [("true", json!(["cold", "hot", "cold"])), ("false", json!(["hot", "hot", null]))] {
        assert_eq!(Bench::new(last(cold)).finish().await, Ok(expected));
    }
}

#[tokio::test]
async fn what_a_step_returned_is_never_read_as_a_template_again() {
    let mut bench = Bench::new(json!([
        // As a remote side would answer it.
        { "id": "a", "uses": "svc.once", "with": { "answer": "$${params.city} {{x}}" } },
        { "id": "b", "uses": "svc.again", "with": { "answer": "got ${steps.a}", "fail": 1 } },
        { "id": "c", "uses": "svc.once", "with": { "answer": "${steps.b}" } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!("got ${params.city} {{x}}")));
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_member_fails_waits_for_the_others_then_fails() {
    let mut bench = Bench::with(json!({
        "pipeline": [
            { "id": "g", "parallel": [
                { "id": "a", "uses": "svc.once", "with": { "fail": 1, "kind": "client_error" } },
                { "id": "b", "uses": "svc.once", "with": { "last": 20, "answer": 2 } } ] },
            { "id": "c", "uses": "svc.once" },
        ],
        "on_failure": [{ "id": "tell", "uses": "svc.once", "with": { "answer": "${steps.b}" } }],
    }));
    assert_eq!(bench.finish().await.unwrap_err().step, "a");
    assert_eq!((bench.record("b").state, bench.calls("c")), (StepState::Succeeded, 0));
    assert_eq!(bench.record("tell").output, json!(2), "what ended well is seen by on_failure");
}

#[tokio::test]
async fn a_member_that_is_continued_from_leaves_its_error_as_its_output() {
    let mut bench = Bench::new(json!([
        { "id": "g", "parallel": [
            { "id": "a", "uses": "svc.once", "with": { "fail": 1, "kind": "denied" }, "on_error": "continue" },
            { "id": "b", "uses": "svc.once", "with": { "answer": 2 } } ] },
        { "id": "c", "uses": "svc.once", "with": { "answer": "${[steps.a.error.kind, steps.b]}" } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!(["denied", 2])));
}

#[tokio::test]
async fn a_group_whose_member_fails_waits_for_a_parked_one() {
    let mut bench = Bench::new(json!([{ "id": "g", "parallel": [
        { "id": "a", "uses": "svc.once", "with": { "fail": 9, "kind": "client_error" } },
        { "id": "b", "uses": "svc.again", "with": { "park": { "for": "b" }, "answer": 2 } },
        { "id": "c", "uses": "svc.again", "with": { "fail": 9 } },
    ] }]));
    assert!(matches!(bench.attempt().await, Err(Halt::Parked { .. })));
    assert!(bench.record("b").is_parked());
    assert_eq!(bench.attempt().await.map_err(|halt| matches!(halt, Halt::Failed(it) if it.step == "a")), Err(true));
    assert_eq!((bench.calls("a"), bench.calls("b"), bench.calls("c")), (1, 2, 1));
    assert_eq!(bench.record("b").output, json!(2));
}

#[tokio::test]
async fn a_list_whose_item_fails_starts_no_more_and_waits_for_a_parked_one() {
    let with = json!({
        "park": "${item == 1 && 'x' || null}", "fail": "${item == 2 && 1 || 0}", "kind": "client_error",
        "answer": "${item}",
    });
    let each = json!([{ "id": "a", "uses": "svc.again", "foreach": "params.list", "max_parallel": 2, "with": with }]);
    let mut bench = Bench::new(each);
    assert!(matches!(bench.attempt().await, Err(Halt::Parked { .. })));
    assert!(matches!(bench.attempt().await, Err(Halt::Failed(failure)) if failure.kind == ErrorKind::ClientError));
    assert_eq!((bench.calls("a/0"), bench.calls("a/1"), bench.calls("a/2")), (2, 1, 0));
    assert_eq!(bench.record("a").state, StepState::Failed);
}

#[tokio::test]
async fn a_foreach_over_anything_but_a_list_or_over_too_many_is_a_template_error() {
    for (list, says) in [("params.city", "is text"), ("params.many", "1001 items")] {
        let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.once", "foreach": list }]));
        bench.spec.params.insert("many".to_owned(), json!(vec![0; 1_001]));
        let failure = bench.finish().await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Template);
        assert!(failure.message.contains(says), "{}", failure.message);
        assert_eq!(bench.calls("a/0"), 0);
    }
}

#[tokio::test]
async fn expressions_name_the_run_the_task_and_what_was_set_over_its_params() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.once", "with": { "answer": "${[run, task.title, params, event, previous, now]}" } },
    ]));
    bench.spec.params = json!({ "city": "Chisinau", "days": 2 }).as_object().cloned().unwrap();
    bench.run.params = json!({ "city": "Riga" }).as_object().cloned();
    let run = json!({
        "id": bench.run.id, "scheduled_at": "2026-11-23T08:30:00Z", "attempt": 1, "trigger": "manual",
    });
    let params = json!({ "city": "Riga", "days": 2 });
    let now = "2026-11-23T08:30:00+00:00";
    assert_eq!(bench.finish().await, Ok(json!([run, "a task", params, null, null, now])));
}
