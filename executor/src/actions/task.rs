//! `task.run`: another task of the agent's, as a sub-run that this run is parked for.

use std::time::Duration;

use async_trait::async_trait;
use ordinaut_schema::run::{ErrorKind, StepFailure};
use ordinaut_store::{
    Caller, Store, StoreError,
    requests::{SubRun, SubRunState},
    tasks::TaskRef,
};
use serde_json::{Value, json};

use super::{Action, Answer, StepCall, store_failure};
use crate::clock::DatabaseClock;

/// Its end wakes this run; should that be lost, it is looked at this often.
const POLL: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct RunTask {
    store: Store,
    clock: DatabaseClock,
}

impl RunTask {
    pub fn new(store: Store, clock: DatabaseClock) -> Self {
        Self { store, clock }
    }
}

#[async_trait]
impl Action for RunTask {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let refused = |message: String| StepFailure::new(ErrorKind::ClientError, message);
        let name = call.input.get("task").and_then(Value::as_str).map(str::trim).unwrap_or_default();
        if name.is_empty() {
            return Err(refused("task.run needs `task`: the title or id of another task".to_owned()));
        }
        let params = match call.input.get("params") {
            None | Some(Value::Null) => None,
            Some(Value::Object(params)) => Some(params.clone()),
            Some(other) => return Err(refused(format!("`params` must be an object, and is {other}"))),
        };
        let awaited = match call.input.get("wait") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(wait)) => *wait,
            Some(other) => return Err(refused(format!("`wait` is {other}; it may be true or false"))),
        };
        let caller = Caller::of(call.agent, "executor");
        let task = self.store.find_task(&caller, &TaskRef::from(name)).await.map_err(|error| failure(&error))?;
        let (root, step) = call.idempotency_key.split_once('/').unwrap_or(("", &call.idempotency_key));
        let asked = SubRun {
            agent: call.agent,
            parent: call.run,
            root: root.parse().unwrap_or(call.run),
            step: step.to_owned(),
            task: task.id,
            params,
            cause_depth: call.cause_depth,
            awaited,
        };
        match self.store.sub_run(&asked).await.map_err(|error| failure(&error))? {
            SubRunState::Live(run) if awaited => Ok(Answer::Parked {
                until: self.clock.now().saturating_add(POLL).unwrap_or(jiff::Timestamp::MAX),
                waiting: json!({ "waiting_for": "run", "run": run, "task": task.id, "title": task.spec.title }),
            }),
            SubRunState::Live(run) => Ok(json!({ "run": run }).into()),
            SubRunState::Succeeded { run, .. } | SubRunState::Failed { run, .. } if !awaited => {
                Ok(json!({ "run": run }).into())
            }
            SubRunState::Succeeded { output, .. } => Ok(output.into()),
            SubRunState::Failed { run, state, error } => {
                let why = error.map_or_else(String::new, |error| {
                    let at = if error.step.is_empty() { String::new() } else { format!(" at step `{}`", error.step) };
                    format!(": {}{at}: {}", error.kind, error.message)
                });
                let message = format!("run {run} of \"{}\" was not successful ({state}){why}", task.spec.title);
                Err(StepFailure::new(ErrorKind::ToolError, message))
            }
        }
    }
}

/// A queue that is full now may have room later; the rest does not pass by itself.
fn failure(error: &StoreError) -> StepFailure {
    match error {
        StoreError::TaskState { .. } => StepFailure { kind: ErrorKind::ToolError, ..store_failure(error) },
        StoreError::OverBudget { .. } => StepFailure { kind: ErrorKind::Denied, ..store_failure(error) },
        StoreError::TaskNotFound { near, .. } if !near.is_empty() => {
            let message = format!("{error}; there is \"{}\"", near.join("\", \""));
            StepFailure::new(ErrorKind::ClientError, message)
        }
        error => store_failure(error),
    }
}
