//! Tasks: created, read, listed, changed, paused, resumed, snoozed, cancelled.

mod create;
mod listing;
mod read;
mod rehearse;
mod standing;
mod update;

use ordinaut_schema::time::Zone;
use ordinaut_store::{
    View,
    tasks::{Standing, TaskRecord, TaskRef},
};
use serde_json::{Map, Value, json};

use crate::error::ToolError;

use super::{
    Adding, add_tool,
    answer::Answer,
    call::Desk,
    refusals::refuse,
    show::{Timing, because, many_a_day, standing as standing_fields, standing_line},
};

/// How many occurrences to come a write shows.
const NEXT: usize = 3;

pub(super) fn add(group: &mut Adding<'_>) {
    add_tool(group, create::spec(), create::create_task);
    add_tool(group, update::spec(), update::update_task);
    add_tool(group, read::get_spec(), read::get_task);
    add_tool(group, read::list_spec(), read::list_tasks);
    add_tool(group, standing::pause_spec(), standing::pause);
    add_tool(group, standing::resume_spec(), standing::resume);
    add_tool(group, standing::snooze_spec(), standing::snooze);
    add_tool(group, standing::cancel_spec(), standing::cancel);
}

pub(crate) use self::listing::Listings;
pub(super) use self::read::{titles, whole_task};

/// The task that an argument names.
pub(super) async fn find(desk: &Desk, named: &str) -> Result<TaskRecord, ToolError> {
    desk.store.find_task(&desk.caller, &TaskRef::from(named)).await.map_err(|error| refuse(error, None))
}

/// As [`find`], in a view that is there.
pub(super) async fn see(view: &mut View, named: &str) -> Result<TaskRecord, ToolError> {
    view.find_task(&TaskRef::from(named)).await.map_err(|error| refuse(error, None))
}

/// The part of an answer that shows a task: what is stored, what is next, and what to beware of.
fn echo(answer: Answer, desk: &Desk, task: &TaskRecord) -> (Answer, Vec<String>) {
    echo_fields(answer, desk, task, standing_fields)
}

/// As [`echo`], of a task that begins with these fields.
fn echo_fields(
    answer: Answer,
    desk: &Desk,
    task: &TaskRecord,
    fields: fn(&Standing, &Zone) -> Map<String, Value>,
) -> (Answer, Vec<String>) {
    let timing = Timing::of(&task.spec);
    let next = timing.next(task, NEXT);
    let rate = timing.runs_per_day(&task.spec, desk.now);
    let mut shown = fields(task, &timing.zone);
    shown.insert("schedule".to_owned(), schedule(task, &timing));
    shown.insert("next".to_owned(), next.iter().map(|next| next.json(&timing.zone)).collect());
    if let Some(rate) = rate {
        shown.insert("runs_per_day".to_owned(), json!(rate));
    }
    let why = format!(" (zone {}: {})", timing.zone.name(), zone_because(task));
    let answer = answer
        .with("task", Value::Object(shown))
        .line(format!("{}{why}.", timing.sentence()))
        .line(standing_line(task, &timing.zone))
        .lines(
            next.iter()
                .enumerate()
                .map(|(n, next)| format!("{}{}", if n == 0 { "Next: " } else { "  then " }, next.line(&timing.zone))),
        );
    let answer = match rate {
        Some(rate) => answer.line(format!("About {rate} runs a day.")),
        None => answer,
    };
    (answer, many_a_day(rate).into_iter().collect())
}

fn schedule(task: &TaskRecord, timing: &Timing) -> Value {
    let mut shown = json!({
        "kind": task.spec.schedule_kind,
        "expr": task.spec.schedule_expr,
        "sentence": timing.sentence(),
        "timezone": timing.zone.name(),
        "timezone_because": zone_because(task),
    });
    if let Some(source) = task.zone_source {
        shown["timezone_source"] = json!(source);
    }
    shown
}

/// Why a task has its zone.
fn zone_because(task: &TaskRecord) -> &'static str {
    task.zone_source.map_or("it was stored with the task", because)
}

/// A task by the name that people use, with what programs need.
fn named(task: &TaskRecord) -> String {
    format!("\"{}\" (task {}, revision {}, {})", task.spec.title, task.id, task.revision, task.state)
}
