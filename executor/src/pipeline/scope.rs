//! What expressions may name, for one run.

use jiff::Timestamp;
use ordinaut_schema::{
    task::TaskSpec,
    template::Scope,
    time::{Zone, with_offset},
};
use ordinaut_store::claims::ClaimedRun;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is fixed when the run first starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pinned {
    /// RFC 3339 in the task's zone.
    pub now: String,
    /// `{run, steps}` of the last succeeded run, or `null`.
    #[serde(default)]
    pub previous: Value,
}

impl Pinned {
    pub fn new(started_at: Timestamp, spec: &TaskSpec, previous: Value) -> Self {
        // A zone that this program's database no longer has is read as UTC: the offset in the text tells.
        let zone = Zone::find(&spec.timezone).unwrap_or_else(Zone::utc);
        Self { now: with_offset(started_at, &zone), previous }
    }
}

/// Whether any expression of the definition names `previous`: only then it is looked up, and must be pinned.
pub fn names_previous(spec: &TaskSpec) -> bool {
    let steps = serde_json::to_string(&(&spec.pipeline, &spec.on_failure)).unwrap_or_default();
    steps.contains("previous")
}

/// The scope at the start of the walk, without steps.
pub(crate) fn scope(run: &ClaimedRun, spec: &TaskSpec, pinned: Pinned) -> Scope {
    Scope {
        params: Value::Object(params(spec, run.params.as_ref())),
        event: run.event.clone().unwrap_or(Value::Null),
        now: pinned.now,
        run: json!({
            "id": run.id,
            "scheduled_at": run.occurrence_at,
            "attempt": run.attempt,
            "trigger": run.trigger,
        }),
        task: json!({ "id": run.task, "title": spec.title }),
        previous: pinned.previous,
        ..Scope::default()
    }
}

/// The task's params, and over them what the caller of `run_now` set, name by name.
fn params(spec: &TaskSpec, over: Option<&Map<String, Value>>) -> Map<String, Value> {
    let mut params = spec.params.clone();
    for (name, value) in over.into_iter().flatten() {
        params.insert(name.clone(), value.clone());
    }
    params
}
