//! The engine against actions that misbehave and a journal that stops in the middle.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use ordinaut_schema::{
    action::{Effect, Grants},
    id::{AgentId, LeaseToken, RunId, TaskId},
    limits::Limits,
    run::{ErrorKind, StepFailure, StepRecord, StepState, Trigger},
    task::TaskSpec,
};
use ordinaut_store::{StoreError, claims::ClaimedRun};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Attempted, Engine, Halt, Surroundings,
    journal::{Journal, Pages},
    orders::Orders,
    scope::Pinned,
};
use crate::{
    actions::{Action, ActionRegistry, Answer, StepCall},
    clock::DatabaseClock,
    progress::Progress,
};

/// A journal that may be cut off: after so many writes its process is as good as dead.
#[derive(Default)]
struct Memory {
    records: Mutex<Vec<StepRecord>>,
    writes: Mutex<Vec<usize>>,
    writes_left: Mutex<Option<usize>>,
}

#[async_trait]
impl Pages for Memory {
    async fn write(&self, records: &[StepRecord]) -> Result<(), StoreError> {
        if let Some(left) = self.writes_left.lock().unwrap().as_mut() {
            if *left == 0 {
                return Err(StoreError::LeaseLost { run: RunId::from_uuid(uuid::Uuid::nil()) });
            }
            *left -= 1;
        }
        self.writes.lock().unwrap().push(records.len());
        let mut kept = self.records.lock().unwrap();
        for record in records {
            match kept.iter_mut().find(|it| it.step == record.step && it.index == record.index) {
                Some(place) => *place = record.clone(),
                None => kept.push(record.clone()),
            }
        }
        Ok(())
    }
}

/// `svc.*`. What a call does is in its input: `fail` (how many calls of this key fail first), `kind`, `sent`,
/// `hang`, else it answers `answer`.
#[derive(Default)]
struct Scripted {
    calls: Mutex<HashMap<String, u32>>,
    inputs: Mutex<Vec<Value>>,
}

#[async_trait]
impl Action for Scripted {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            let number = calls.entry(call.idempotency_key.clone()).or_default();
            *number += 1;
            *number
        };
        self.inputs.lock().unwrap().push(call.input.clone());
        if call.input["hang"] == json!(true) {
            std::future::pending::<()>().await;
        }
        if u64::from(number) <= call.input["fail"].as_u64().unwrap_or(0) {
            let kind = call.input["kind"].as_str().and_then(ErrorKind::from_text).unwrap_or(ErrorKind::ServerError);
            return Err(StepFailure::new(kind, "as told").sent(call.input["sent"] == json!(true)));
        }
        if let Some(waiting) = call.input.get("park").filter(|_| number == 1) {
            return Ok(Answer::Parked { until: Timestamp::UNIX_EPOCH, waiting: waiting.clone() });
        }
        Ok(call.input.get("answer").cloned().unwrap_or(Value::Null).into())
    }

    fn effect(&self, uses: &str) -> Option<Effect> {
        uses.ends_with("again").then_some(Effect::Idempotent)
    }
}

struct Bench {
    spec: TaskSpec,
    run: ClaimedRun,
    pages: Arc<Memory>,
    service: Arc<Scripted>,
    around: Surroundings,
}

impl Bench {
    fn new(pipeline: Value) -> Self {
        Self::with(Value::from_iter([("pipeline", pipeline)]))
    }

    fn with(fields: Value) -> Self {
        let mut stored = json!({
            "title": "a task", "schedule_kind": "manual", "timezone": "UTC",
            "anchored_at": "2026-11-23T08:30:00Z", "misfire": "run_latest", "misfire_limit": 100,
            "overlap": "queue", "queue_limit": 100, "concurrency_limit": 1, "priority": 5, "run_timeout": "1h",
            "pause_after_failures": 10, "params": { "city": "Chisinau", "list": [1, 2, 3] },
            "retry": { "max_attempts": 3, "backoff": "fixed", "initial": "1s", "max": "1s" },
        });
        if let (Value::Object(stored), Value::Object(fields)) = (&mut stored, fields) {
            stored.extend(fields);
        }
        let now = "2026-11-23T08:30:00Z".parse().unwrap();
        let service = Arc::new(Scripted::default());
        Self {
            spec: TaskSpec::from_stored(stored).unwrap(),
            run: claimed(now),
            pages: Arc::default(),
            around: Surroundings {
                actions: ActionRegistry::default().with_tools(service.clone()),
                limits: Limits::DEFAULT,
                clock: DatabaseClock::new(now),
                progress: Progress::silent(),
            },
            service,
        }
    }

    /// One attempt, from what earlier ones wrote.
    async fn attempt(&mut self) -> Result<Value, Halt> {
        self.attempt_under(&Orders::new(Instant::now(), Duration::from_hours(10))).await
    }

    async fn attempt_under(&mut self, orders: &Orders) -> Result<Value, Halt> {
        self.run.attempt += 1;
        let written = self.pages.records.lock().unwrap().clone();
        let journal = Journal::open(self.pages.clone(), written);
        let grants = Grants::local();
        let attempted = Attempted { run: &self.run, spec: &self.spec, journal: &journal, orders, grants: &grants };
        let pinned = Pinned::new(self.run.started_at, &self.spec, Value::Null);
        let walked = Engine::new(attempted, pinned, &self.around).run().await;
        // As the worker does, unless the process is dead.
        if !matches!(walked, Err(Halt::Lost)) {
            journal.flush().await?;
        }
        walked
    }

    /// Attempts until the run is over, however often it must be tried again.
    async fn finish(&mut self) -> Result<Value, StepFailure> {
        for _ in 0..200 {
            match self.attempt().await {
                Ok(output) => return Ok(output),
                Err(Halt::Failed(failure)) => return Err(failure),
                Err(Halt::Retry { .. } | Halt::Lost) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        panic!("the run never ended");
    }

    fn calls(&self, step: &str) -> u32 {
        let key = format!("{}/{step}", self.run.root_run);
        self.service.calls.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    fn record(&self, step: &str) -> StepRecord {
        let records = self.pages.records.lock().unwrap();
        records.iter().find(|it| it.step == step && it.index.is_none()).cloned().expect("the step was journaled")
    }
}

fn claimed(now: jiff::Timestamp) -> ClaimedRun {
    let run = RunId::from_uuid(uuid::Uuid::from_u128(7));
    ClaimedRun {
        id: run,
        task: TaskId::new(),
        agent: AgentId::new(),
        revision: 1,
        lease_token: LeaseToken::from_uuid(uuid::Uuid::nil()),
        attempt: 0,
        failures: 0,
        crashes: 0,
        rank: 0,
        trigger: Trigger::Manual,
        occurrence_key: "m:x".to_owned(),
        occurrence_at: now,
        root_run: run,
        cause_depth: 0,
        event: None,
        params: None,
        pinned: None,
        last_error: None,
        planned_at: now,
        started_at: now,
        ran_for: Duration::ZERO,
        cancel_asked: false,
        traceparent: None,
    }
}

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

#[tokio::test]
async fn a_cancel_ends_the_call_in_hand() {
    let mut bench = Bench::new(json!([{ "id": "a", "uses": "svc.once", "with": { "hang": true } }]));
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
