//! What a later attempt, or another executor, finds in the journal and makes of it.

use jiff::Timestamp;
use ordinaut_schema::run::{ErrorKind, StepState};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Bench, Halt};

#[tokio::test]
async fn a_finished_step_is_not_called_again_and_its_output_is_there() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.once", "with": { "answer": { "n": 1 } } },
        { "id": "b", "uses": "svc.again", "with": { "answer": "${steps.a.n}", "fail": 1 } },
    ]));
    assert!(matches!(bench.attempt().await, Err(Halt::Retry { .. })));
    assert_eq!(bench.attempt().await.unwrap(), json!(1));
    assert_eq!((bench.calls("a"), bench.calls("b")), (1, 2));
    assert_eq!(bench.record("b").calls, 2);
}

#[tokio::test]
async fn a_steps_input_is_rendered_once_and_reused_by_every_later_call() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "svc.again", "with": { "answer": "attempt ${run.attempt}", "fail": 1 } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!("attempt 1")));
    let inputs = bench.service.inputs.lock().unwrap();
    assert_eq!(inputs[0], inputs[1]);
}

#[tokio::test]
async fn a_parked_step_is_called_again_until_it_has_an_output_and_spends_no_budget() {
    let waiting = json!({ "waiting_for": "an answer" });
    for uses in ["svc.again", "svc.once"] {
        let mut bench = Bench::new(json!([
            { "id": "a", "uses": "svc.once", "with": { "answer": 1 } },
            { "id": "b", "uses": uses, "with": { "park": waiting, "answer": 2 } },
        ]));
        assert!(matches!(bench.attempt().await, Err(Halt::Parked { until }) if until == Timestamp::UNIX_EPOCH));
        let parked = bench.record("b");
        assert!(parked.is_parked());
        assert_eq!((&parked.output, parked.calls), (&waiting, 0));
        assert_eq!(bench.attempt().await.unwrap(), json!(2));
        assert_eq!((bench.calls("a"), bench.calls("b")), (1, 2));
        assert_eq!(bench.record("b").calls, 1);
    }
}

#[tokio::test]
async fn a_parked_member_keeps_no_other_from_starting() {
    let member = |id: &str| json!({ "id": id, "uses": "svc.again", "with": { "park": { "for": id }, "answer": id } });
    let mut bench = Bench::new(json!([{ "id": "both", "parallel": [member("a"), member("b")] }]));
    assert!(matches!(bench.attempt().await, Err(Halt::Parked { .. })));
    assert!(bench.record("a").is_parked() && bench.record("b").is_parked());
    assert_eq!(bench.attempt().await.unwrap(), json!("b"));
}

#[tokio::test]
async fn on_failure_goes_on_after_a_crash_and_the_pipeline_does_not() {
    let fields = json!({
        "pipeline": [{ "id": "a", "uses": "svc.again", "with": { "fail": 1, "kind": "denied" } }],
        "on_failure": [{ "id": "tell", "uses": "svc.again" }],
    });
    let mut bench = Bench::with(fields);
    // Dead after the start of `a` and, with its failure, of `tell`.
    *bench.pages.writes_left.lock().unwrap() = Some(2);
    assert!(bench.attempt().await.is_err());
    *bench.pages.writes_left.lock().unwrap() = None;
    assert_eq!(bench.finish().await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(bench.calls("a"), 1);
    assert_eq!(bench.record("tell").state, StepState::Succeeded);
}

#[tokio::test]
async fn pure_steps_are_written_with_the_next_write() {
    let mut bench = Bench::new(json!([
        { "id": "a", "uses": "data.transform", "with": { "expr": "params.city" } },
        { "id": "b", "uses": "data.transform", "with": { "expr": "upper(steps.a)" } },
        { "id": "c", "uses": "svc.once", "with": { "answer": "${steps.b}" } },
    ]));
    assert_eq!(bench.finish().await, Ok(json!("CHISINAU")));
    assert_eq!(*bench.pages.writes.lock().unwrap(), [3, 1]);
}

/// A step of some kind, which may fail a few times before it succeeds.
fn steps() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0_u8..4, 0_u8..2), 1..6)
}

fn element(n: usize, (kind, fail): (u8, u8)) -> Value {
    let id = format!("s{n}");
    match kind {
        0 => json!({ "id": id, "uses": "svc.once", "with": { "answer": n, "fail": fail } }),
        1 => json!({ "id": id, "uses": "svc.again", "with": { "answer": n, "fail": fail } }),
        2 => json!({ "id": id, "uses": "data.transform", "with": { "expr": "now" } }),
        _ => json!({ "id": id, "uses": "svc.once", "foreach": "params.list", "max_parallel": 2,
                     "with": { "answer": "${item}", "fail": fail } }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Kill the executor after any of its journal writes, and again: no call that may do harm is made twice without
    /// its failure being known, a finished step is never repeated, and the run ends.
    #[test]
    fn a_killed_run_resumes_without_a_harmful_repeat(steps in steps(), kills in prop::collection::vec(0_usize..6, 0..4)) {
        let pipeline: Vec<Value> = steps.iter().enumerate().map(|(n, step)| element(n, *step)).collect();
        let own = json!({ "max_attempts": 10, "backoff": "fixed", "initial": "1s", "max": "1s" });
        let mut bench = Bench::with(json!({ "pipeline": pipeline, "retry": own }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let ended = runtime.block_on(async {
            for writes in kills {
                *bench.pages.writes_left.lock().unwrap() = Some(writes);
                if let Ok(output) = bench.attempt().await {
                    return Ok(output);
                }
            }
            *bench.pages.writes_left.lock().unwrap() = None;
            bench.finish().await
        });

        for (key, calls) in bench.service.calls.lock().unwrap().iter() {
            let n: usize = key.split("/s").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
            let (kind, fail) = steps[n];
            if kind != 1 {
                prop_assert!(*calls <= u32::from(fail) + 1, "{key} was called {calls} times");
            }
        }
        match ended {
            Ok(_) => {
                let records = bench.pages.records.lock().unwrap();
                prop_assert!(records.iter().all(|record| record.state == StepState::Succeeded));
            }
            Err(failure) => prop_assert_eq!(failure.kind, ErrorKind::OutcomeUnknown),
        }
    }
}
