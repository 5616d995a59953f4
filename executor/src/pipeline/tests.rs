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
    run::{ErrorKind, StepFailure, StepRecord, Trigger},
    task::TaskSpec,
};
use ordinaut_store::{StoreError, claims::ClaimedRun};
use serde_json::{Value, json};
use tokio::time::Instant;

mod calls;
mod ends;
mod resuming;
mod shapes;

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

/// `svc.*`. What a call does is in its input: `last` (how many seconds), `fail` (how many calls of this key fail first),
/// `kind`, `sent`, `retry_after`, `hang`, `park`, else it answers `answer`.
#[derive(Default)]
struct Scripted {
    calls: Mutex<HashMap<String, u32>>,
    inputs: Mutex<Vec<Value>>,
    limits: Mutex<Vec<Duration>>,
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
        self.limits.lock().unwrap().push(call.limit);
        if let Some(seconds) = call.input["last"].as_u64() {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        if call.input["hang"] == json!(true) {
            std::future::pending::<()>().await;
        }
        if u64::from(number) <= call.input["fail"].as_u64().unwrap_or(0) {
            let kind = call.input["kind"].as_str().and_then(ErrorKind::from_text).unwrap_or(ErrorKind::ServerError);
            let asked = call.input["retry_after"].as_u64().map(Duration::from_secs);
            return Err(StepFailure::new(kind, "as told").sent(call.input["sent"] == json!(true)).retry_after(asked));
        }
        if let Some(waiting) = call.input.get("park").filter(|waiting| number == 1 && !waiting.is_null()) {
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
                actions: ActionRegistry::default()
                    .with("llm.generate", service.clone())
                    .with("notify.send", service.clone())
                    .with_tools(service.clone()),
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
        crashes_in_row: 0,
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
