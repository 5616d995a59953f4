//! The JSON Schema of a definition as people write it: for editors, and for models that read resources.
//!
//! The types here are never filled in: `accept` is what reads a definition, and says more about a fault than a schema
//! can. What they say is held against `accept` by tests.

#![expect(dead_code, reason = "read by the derive of `JsonSchema` only")]

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

use crate::{
    action::built_in,
    pipeline::OnError,
    retry::Backoff,
    run::ErrorKind,
    schedule::{Misfire, Overlap, ScheduleKind},
};

/// A standing order: when (schedule), what (pipeline), and how (policies). JSON or YAML 1.2.
#[derive(JsonSchema)]
#[schemars(title = "An Ordinaut task", deny_unknown_fields)]
struct Task {
    /// The short name by which people and tools find the task: unique among an agent's standing tasks.
    #[schemars(length(min = 1, max = 200), example = "Weekday morning briefing")]
    title: String,
    /// What it is for.
    description: Option<String>,
    /// How `schedule_expr` is read.
    schedule_kind: ScheduleKind,
    /// When. cron: five fields, or `@daily` and its like. rrule: RFC 5545. once: an ISO 8601 instant, or a delay such as
    /// `+20m`. interval: a duration such as `15m`. event: a topic, `*` for a whole segment. manual: left out.
    #[schemars(example = "30 8 * * MON-FRI")]
    schedule_expr: Option<String>,
    /// The IANA zone of its times; the agent's, else the configured one, where this is left out.
    #[schemars(example = "Europe/Chisinau")]
    timezone: Option<String>,
    /// What a delay, an interval and a rule without DTSTART count from; the instant of acceptance by default.
    anchored_at: Option<String>,
    /// Of `event` tasks: JMESPath that must hold.
    #[schemars(example = "event.payload.amount > 100")]
    event_filter: Option<String>,
    /// The first instant that counts.
    #[schemars(example = "2027-01-31T09:00")]
    starts_at: Option<String>,
    /// The end, exclusive.
    #[schemars(example = "2027-12-31T00:00")]
    ends_at: Option<String>,
    /// Ends after so many runs that the schedule planned.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    max_runs: Option<u32>,
    /// Spreads starts by up to this.
    jitter: Option<Span>,
    /// Occurrences noticed late: one run for the latest, none, or all.
    #[schemars(extend("default" = "run_latest"))]
    misfire: Option<Misfire>,
    /// With `run_all`: at most so many.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 100))]
    misfire_limit: Option<u32>,
    /// An occurrence noticed later than this is skipped.
    misfire_grace: Option<Span>,
    /// What an occurrence does while a run is not over; `queue` by default for event and manual, else `skip`.
    overlap: Option<Overlap>,
    /// Waiting runs (a retry, a wait, an approval) do not count as running.
    overlap_ignores_waiting: Option<bool>,
    /// With `queue`: how many runs may wait; 10,000 by default for event, else 100.
    #[schemars(range(min = 1, max = 100_000))]
    queue_limit: Option<u32>,
    /// Tasks of an agent with the same key share `concurrency_limit`.
    #[schemars(length(min = 1, max = 200))]
    concurrency_key: Option<String>,
    /// Runs at once under the key; of several limits the lowest holds.
    #[schemars(range(min = 1, max = 1_000), extend("default" = 1))]
    concurrency_limit: Option<u32>,
    /// 1 first, 9 last: a head start of 30 seconds a level, not a barrier.
    #[schemars(range(min = 1, max = 9), extend("default" = 5))]
    priority: Option<u8>,
    /// Runs with a key that was seen within `dedupe_window` are skipped as `duplicate`.
    #[schemars(length(min = 1, max = 200))]
    dedupe_key: Option<String>,
    /// How long a `dedupe_key` is remembered.
    dedupe_window: Option<Span>,
    /// Occurrences above so many runs a day, in the task's zone, are skipped.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    max_runs_per_day: Option<u32>,
    /// What models may cost in a month of the task's zone, in the operator's currency: a run that may pass it is skipped.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1_000_000_000))]
    max_cost_per_month: Option<f64>,
    /// Tokens of models, prompts included, that one run may use; the next call is denied.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    max_tokens_per_run: Option<u32>,
    /// The limit of a whole run, waiting not counted; an hour by default.
    run_timeout: Option<Span>,
    /// After so many failures in a row the task pauses itself; 0: never.
    #[schemars(range(min = 0, max = 1_000_000), extend("default" = 10))]
    pause_after_failures: Option<u32>,
    /// Messages of the task that stay unread so long are sent to `escalate_to` once; a minute to 30 days.
    escalate_after: Option<Span>,
    /// A channel, as in `notify.send`; `me` by default.
    #[schemars(length(min = 1, max = 200))]
    escalate_to: Option<String>,
    /// For steps without one of their own.
    retry: Option<Retry>,
    /// Values for `${params…}`; `run_now` may set others over them.
    params: Option<Map<String, Value>>,
    /// Steps in order.
    #[schemars(length(min = 1))]
    pipeline: Vec<Element>,
    /// Steps that run once, after the last retry failed; they see `error.message`.
    on_failure: Option<Vec<Step>>,
}

/// How often a failed call is made again, and how long it waits.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Retry {
    /// Calls in all, the first included.
    #[schemars(range(min = 1, max = 100), extend("default" = 4))]
    max_attempts: Option<u32>,
    #[schemars(extend("default" = "exponential_jitter"))]
    backoff: Option<Backoff>,
    /// The first wait; a second by default.
    initial: Option<Span>,
    /// The longest wait; five minutes by default.
    max: Option<Span>,
    /// Only these are retried; by default all that another call may mend.
    errors: Option<Vec<ErrorKind>>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Element {
    Step(Step),
    Parallel(Parallel),
}

/// Plain steps that run side by side.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Parallel {
    id: Option<Name>,
    #[schemars(length(min = 1))]
    parallel: Vec<Step>,
}

/// One step: an action and its input.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Step {
    /// Unique over the definition; `step_1`, … by default. Later steps find its output as `steps.<id>`.
    id: Option<Name>,
    /// The action: one of ours, or `<server>.<tool>` of an MCP server.
    #[schemars(example = "http.get")]
    uses: String,
    /// The action's input; `${…}` holds JMESPath over params, steps, event, now, previous.
    with: Option<Map<String, Value>>,
    /// A further name of its output under `steps`.
    save_as: Option<Name>,
    /// JMESPath; when it is falsy the step is skipped.
    #[schemars(rename = "if", example = "steps.weather.body.temperature > 25")]
    condition: Option<Condition>,
    /// JMESPath that gives a list, or a list: the step is called for each item, which sees `item` and `index`.
    foreach: Option<List>,
    /// With `foreach`: calls at once.
    #[schemars(range(min = 1, max = 100), extend("default" = 1))]
    max_parallel: Option<u16>,
    /// Of one call; a minute by default, an hour at most.
    timeout: Option<Span>,
    retry: Option<Retry>,
    /// JSON Schema 2020-12 that the whole output must meet.
    expect: Option<Map<String, Value>>,
    #[schemars(extend("default" = "fail"))]
    on_error: Option<OnError>,
    /// Whether a repeated call does no harm; says more than the action does of itself.
    idempotent: Option<bool>,
}

/// A duration: `90s`, `15m`, `1h30m`, `2d`, ISO 8601 `PT15M`, or a whole number of seconds.
struct Span;

/// Letters, digits and `_`, no digit first.
struct Name;

/// JMESPath, bare or in `${…}`.
struct Condition;

struct List;

macro_rules! written {
    ($($type:ident = $schema:tt),* $(,)?) => {
        $(impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })*
    };
}

written! {
    Span = { "type": ["string", "integer"], "minLength": 1, "minimum": 0, "examples": ["90s", "1h30m"] },
    Name = { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$" },
    Condition = { "type": ["string", "boolean", "number"] },
    List = { "type": ["string", "array"] },
}

/// The schema of a definition, in the form that `schema/task.schema.json` publishes.
pub(super) fn json_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Task>().to_value();
    tidy(&mut schema);
    if let Some(step) = schema.pointer_mut("/$defs/Step").and_then(Value::as_object_mut) {
        step.insert(
            "allOf".to_owned(),
            built_in().iter().map(|action| input_of(&action.name, &action.input_schema)).collect(),
        );
    }
    schema
}

/// What `with` must be where a step uses one of our actions.
fn input_of(name: &str, input: &Value) -> Value {
    let mut input = input.clone();
    if let Some(properties) = input.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(or_template);
    }
    let needed = input.get("required").and_then(Value::as_array).is_some_and(|required| !required.is_empty());
    let mut then = json!({ "properties": { "with": input } });
    if needed {
        then["required"] = json!(["with"]);
    }
    json!({ "if": { "properties": { "uses": { "const": name } }, "required": ["uses"] }, "then": then })
}

/// A template may stand for any value, and inside any text; what it gives is judged when it is rendered.
fn or_template(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let description = fields.shift_remove("description");
    let judged = std::mem::take(fields);
    if !judged.is_empty() {
        fields
            .insert("anyOf".to_owned(), json!([{ "type": "string", "pattern": "\\$\\{" }, holding_templates(judged)]));
    }
    fields.extend(description.map(|text| ("description".to_owned(), text)));
}

/// The same, for the values inside a list or an object.
fn holding_templates(mut schema: Map<String, Value>) -> Value {
    for inner in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get_mut(inner) {
            or_template(schema);
        }
    }
    Value::Object(schema)
}

/// An absent field is left out, never `null`; descriptions are one line.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    fields.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice != &json!({ "type": "null" }));
                if let [one] = choices.as_slice() {
                    let one = one.clone();
                    fields.shift_remove("anyOf");
                    if let Value::Object(one) = one {
                        fields.extend(one);
                    }
                }
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
