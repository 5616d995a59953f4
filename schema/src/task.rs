//! A whole definition: from untrusted text to a [`TaskSpec`], which is valid by construction.
//!
//! The way in is [`accept`]: it reads JSON or YAML or a parsed value, fills in defaults, checks everything that
//! can be known, and answers with a spec or with every fault at once. What is stored is the spec's own JSON,
//! which [`TaskSpec::from_stored`] reads back.
//!
//! - `text` reads JSON and YAML; `shape` bounds what was read; `original` turns the ancestor's form into ours
//! - `written` is the JSON Schema of what people write
//! - `accept` notes every fault, with `timing` for the schedule; `definition` and `amend` go the other way
//! - `budget` is what a run sets aside of one; `dedupe` is what a `dedupe_key` comes to for one occurrence

mod accept;
mod amend;
mod budget;
mod dedupe;
mod definition;
mod original;
mod shape;
mod text;
mod timing;
mod written;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    action::{Catalogue, data},
    budget::Cost,
    fault::Faults,
    limits::Limits,
    pipeline::{self, Element, Step},
    retry::Retry,
    run::text_enum,
    schedule::{Misfire, Overlap, Schedule, ScheduleKind, ScheduleSource},
    time::{Zone, duration_text},
};

pub use dedupe::Dedupe;

text_enum! {
    TaskState {
        Active = "active",
        Paused = "paused",
        /// No occurrence is left.
        Ended = "ended",
        /// Final; the history is kept.
        Cancelled = "cancelled",
    }
}

/// A task's title: trimmed, and unique per agent by its [`TitleKey`].
pub type Title = String;

/// The form in which titles are compared: trimmed, white space folded, full case folding.
pub fn title_key(title: &str) -> String {
    use unicode_casefold::UnicodeCaseFold;
    title.split_whitespace().collect::<Vec<_>>().join(" ").case_fold().collect()
}

/// A valid definition, normalised, defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    pub title: Title,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub schedule_kind: ScheduleKind,
    /// Normalised; empty for `manual`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schedule_expr: String,
    /// The zone that was used, by its canonical name.
    pub timezone: String,
    /// What a delay, an interval and a rule without `DTSTART` count from.
    pub anchored_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_filter: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// Exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<u32>,
    #[serde(default, with = "duration_text::option", skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    pub misfire: Misfire,
    pub misfire_limit: u32,
    #[serde(default, with = "duration_text::option", skip_serializing_if = "Option::is_none")]
    pub misfire_grace: Option<Duration>,
    pub overlap: Overlap,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overlap_ignores_waiting: bool,
    pub queue_limit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    pub concurrency_limit: u32,
    /// 1 (first) to 9; 5 by default.
    pub priority: u8,
    /// A text with templates over `params`, `event` and `task`; see [`TaskSpec::dedupe`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe_key: Option<String>,
    #[serde(default, with = "duration_text::option", skip_serializing_if = "Option::is_none")]
    pub dedupe_window: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runs_per_day: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_per_month: Option<Cost>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_per_run: Option<u32>,
    #[serde(with = "duration_text")]
    pub run_timeout: Duration,
    /// 0: never paused for failing.
    pub pause_after_failures: u32,
    /// Messages that stay unread so long are sent to a channel once.
    #[serde(default, with = "duration_text::option", skip_serializing_if = "Option::is_none")]
    pub escalate_after: Option<Duration>,
    /// The channel; `me` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_to: Option<String>,
    pub retry: Retry,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    pub pipeline: Vec<Element>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<Step>,
}

/// What a definition is read against.
#[derive(Debug, Clone, Copy)]
pub struct Acceptance<'a> {
    /// The database's clock.
    pub now: Timestamp,
    /// The zone to use where the definition names none, and why that one.
    pub default_zone: Option<(&'a Zone, ZoneSource)>,
    pub catalogue: &'a Catalogue,
    pub limits: &'a Limits,
}

text_enum! {
    /// Where the zone of a task came from; every answer says so.
    ZoneSource {
        Task = "task",
        Agent = "agent",
        Machine = "machine",
        /// `ORDINAUT_TIMEZONE`.
        Configuration = "configuration",
        /// Nobody knew one, and the person who was asked named it.
        Person = "person",
        /// The schedule needs none.
        NotNeeded = "not_needed",
    }
}

/// A definition that may be stored.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub spec: TaskSpec,
    pub schedule: Schedule,
    pub zone_source: ZoneSource,
    /// What is odd, and allowed.
    pub warnings: Vec<String>,
}

/// Reads and judges a definition.
///
/// # Errors
/// Every fault, each with its JSON path.
pub fn accept(definition: &Value, against: Acceptance<'_>) -> Result<Accepted, Faults> {
    accept::accept(definition, against)
}

/// Reads text, JSON or YAML 1.2, into a value for [`accept`]. A list (or several YAML documents) gives several.
///
/// # Errors
/// `syntax`, with line and column.
pub fn read(text: &str, limits: &Limits) -> Result<Vec<Value>, Faults> {
    text::read(text, limits)
}

/// The JSON Schema (2020-12) of a definition, for editors and models; `schema/task.schema.json` is this.
///
/// The original's form, which [`accept`] reads too, is not in it.
pub fn json_schema() -> Value {
    written::json_schema()
}

/// The definition that `changes`, `clear` and `steps` (SPEC section 7, `update_task`) make of a stored one.
///
/// The result is a definition again, for [`accept`] to judge. `anchored_at` is kept unless the schedule changes.
///
/// # Errors
/// A field to clear that cannot be, a step that does not exist.
pub fn amend(
    stored: &TaskSpec,
    changes: &Map<String, Value>,
    clear: &[String],
    steps: &Map<String, Value>,
) -> Result<Value, Faults> {
    amend::amend(stored, changes, clear, steps)
}

impl TaskSpec {
    /// The JSON that is stored.
    ///
    /// # Panics
    /// Never: a spec has text keys and plain values.
    pub fn to_stored(&self) -> Value {
        serde_json::to_value(self).expect("a spec has string keys and no foreign types")
    }

    /// Reads back what [`TaskSpec::to_stored`] wrote.
    ///
    /// # Errors
    /// A row that this version cannot read.
    pub fn from_stored(stored: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(stored)
    }

    /// The definition as a person would write it: defaults left out. Accepting it again gives this spec.
    pub fn to_definition(&self) -> Value {
        definition::definition(self)
    }

    /// The schedule, parsed again.
    ///
    /// # Errors
    /// A row that this version cannot read.
    pub fn schedule(&self, limits: &Limits) -> Result<Schedule, Faults> {
        let zone = Zone::find(&self.timezone);
        let source = ScheduleSource {
            kind: self.schedule_kind,
            expr: &self.schedule_expr,
            zone: zone.as_ref(),
            anchor: self.anchored_at,
        };
        Schedule::parse(source, limits).map_err(Faults::from_iter)
    }

    /// Whether accepting `definition` at the instant this one was accepted gives this spec: the same task again.
    ///
    /// The present does not matter: a delay and a rule without `DTSTART` would count from another instant today.
    pub fn is_made_by(&self, definition: &Value, against: Acceptance<'_>) -> bool {
        let then = Acceptance { now: self.anchored_at, ..against };
        accept(definition, then).is_ok_and(|accepted| accepted.spec == *self)
    }

    /// Every step, `on_failure` last.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        pipeline::steps(&self.pipeline).chain(&self.on_failure)
    }

    /// Whether all it does is compute: no step reaches out of the engine, in `on_failure` neither.
    pub fn is_pure(&self) -> bool {
        self.steps().all(|step| data::is_pure(&step.uses))
    }

    /// Nothing but the defaults of a kind of schedule: what a definition that leaves them out means.
    fn bare(kind: ScheduleKind) -> Self {
        Self {
            title: Title::new(),
            description: String::new(),
            schedule_kind: kind,
            schedule_expr: String::new(),
            timezone: String::new(),
            anchored_at: Timestamp::UNIX_EPOCH,
            event_filter: None,
            starts_at: None,
            ends_at: None,
            max_runs: None,
            jitter: None,
            misfire: Misfire::RunLatest,
            misfire_limit: 100,
            misfire_grace: None,
            overlap: Overlap::default_for(kind),
            overlap_ignores_waiting: false,
            queue_limit: if kind == ScheduleKind::Event { 10_000 } else { 100 },
            concurrency_key: None,
            concurrency_limit: 1,
            priority: 5,
            dedupe_key: None,
            dedupe_window: None,
            max_runs_per_day: None,
            max_cost_per_month: None,
            max_tokens_per_run: None,
            run_timeout: Duration::from_hours(1),
            pause_after_failures: 10,
            escalate_after: None,
            escalate_to: None,
            retry: Retry::default(),
            params: Map::new(),
            pipeline: Vec::new(),
            on_failure: Vec::new(),
        }
    }
}
