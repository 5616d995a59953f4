//! Conditions, lists and groups.

use ordinaut_schema::run::{ErrorKind, StepState};
use serde_json::json;

use super::Bench;

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
