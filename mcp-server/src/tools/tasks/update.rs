//! `update_task`: fields changed, cleared, single steps replaced; the answer shows what that made of the task.

use ordinaut_schema::{
    task::{self, TaskSpec, ZoneSource},
    time::Zone,
};
use ordinaut_store::{StoreError, tasks::TaskRecord};
use serde_json::{Map, Value, json};

use crate::{error::ToolError, principal::Scope};

use super::{
    super::{
        Kind, Spec,
        answer::Answer,
        call::Call,
        outputs::{self, always, maybe, one_of},
        refusals::{invalid_definition, invalid_definition_for, refuse},
        schema::{arguments, count, flag, list, object, task as task_argument},
        show::{Timing, local},
        untrusted,
        zones::{self, Unusable},
    },
    create, echo, find, named,
};

pub(super) fn spec() -> Spec {
    Spec {
        name: "update_task",
        title: "Change a task",
        description: "Changes a task and shows what changed. Runs that are already planned keep the old definition unless apply_to_pending.",
        scope: Scope::TaskWrite,
        kind: Kind::Settles,
        input: arguments(
            &["task"],
            [
                task_argument(),
                (
                    "changes",
                    object(
                        "Fields of create_task with their new values; pipeline replaces all steps",
                        json!({ "schedule_expr": "0 9 * * *" }),
                    ),
                ),
                ("clear", list("string", "Optional fields to take away", json!(["ends_at"]))),
                (
                    "steps",
                    object(
                        "Single steps by id, each replaced whole",
                        json!({ "tell": { "uses": "inbox.post", "with": { "text": "Hi" } } }),
                    ),
                ),
                ("if_revision", count("Refuse unless the task is at this revision", (1, 2_147_483_647), 3)),
                ("apply_to_pending", flag("Also for runs that are planned and not started")),
            ],
        ),
        output: outputs::answer([
            always("outcome", one_of("", ["updated", "unchanged"])),
            always("changed", outputs::changed("What the edit made another")),
            maybe("left_out", outputs::count("How many more changes there are; get_task shows the definition")),
            always("task", outputs::task()),
            outputs::warnings(),
        ]),
    }
}

pub(super) async fn update_task(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let name = given.needed("task", "the id or title of the task to change");
    let changes = given.object("changes").unwrap_or_default();
    let clear = given.texts("clear");
    let steps = given.object("steps").unwrap_or_default();
    let if_revision = given.count("if_revision", 1..=u32::MAX);
    let apply_to_pending = given.flag("apply_to_pending");
    given.finish("update_task")?;
    let Value::Object(changes) = create::definition(changes) else { unreachable!("fields stay fields") };

    let desk = call.desk().await?;
    let old = find(&desk, &name).await?;
    if let Some(expected) = if_revision.filter(|expected| *expected != old.revision) {
        let task = old.id;
        let moved_on = StoreError::RevisionChanged { task, expected, actual: old.revision };
        return Err(refuse(moved_on, None));
    }
    let catalogue = desk.store.catalogue(&desk.caller).await.map_err(|error| refuse(error, None))?;
    let mut definition = task::amend(&old.spec, &changes, &clear, &steps).map_err(invalid_definition)?;
    leave_unneeded_zone(&mut definition, &old, &changes);
    let against = desk.acceptance(&catalogue);
    let judged = task::accept(&definition, against);
    let judge = |said: &Zone| task::accept(&definition, create::with_zone(against, Some(said)));
    let accepted = match zones::judged(&call, &format!("\"{}\"", old.spec.title), judged, judge).await {
        Ok((accepted, _said)) => accepted,
        Err(Unusable::Asking(form)) => return Ok(form),
        Err(Unusable::Faulty { faults, zone }) => return Err(invalid_definition_for(faults, zone)),
    };
    // What was judged is the definition as it was read: another one must not slip in before it is stored.
    let expected = if_revision.unwrap_or(old.revision);
    let task = desk
        .store
        .update_task(&desk.caller, old.id, &accepted, Some(expected), apply_to_pending)
        .await
        .map_err(|error| refuse(error, None))?;

    let differences = difference(&old.spec, &task.spec);
    let first = if differences.is_empty() {
        format!("Nothing changed: {} is as it was.", named(&task))
    } else {
        format!("Changed {}.", named(&task))
    };
    let (shown, more) = shown_changes(&differences);
    let answer = Answer::new()
        .with("outcome", if differences.is_empty() { "unchanged" } else { "updated" })
        .with("changed", shown.iter().map(Change::json).collect::<Vec<_>>())
        .with("left_out", Some(more).filter(|more| *more > 0))
        .line(first)
        .lines(shown.iter().map(Change::line))
        .hint(left_out(more))
        .hint(settled(&old, &task))
        .lines(consequences(&old, &task));
    let (answer, mut warnings) = echo(answer, &desk, &task);
    warnings.extend(accepted.warnings);
    warnings.extend(desk.warnings().await);
    Ok(answer.warn(&warnings))
}

/// Takes away a zone that nobody chose, which is stored as UTC because the schedule needs none: a schedule that does
/// need one has it looked up, or asked for.
fn leave_unneeded_zone(definition: &mut Value, old: &TaskRecord, changes: &Map<String, Value>) {
    if old.zone_source == Some(ZoneSource::NotNeeded)
        && !changes.contains_key("timezone")
        && let Value::Object(fields) = definition
    {
        fields.shift_remove("timezone");
    }
}

/// What became of occurrences that were due before the edit.
fn settled(old: &TaskRecord, task: &TaskRecord) -> &'static str {
    if old.last_occurrence_at < task.last_occurrence_at {
        "What was due under the old schedule was settled first; list_runs shows how."
    } else {
        ""
    }
}

/// What an edit did beside what it was asked to.
fn consequences(old: &TaskRecord, task: &TaskRecord) -> Vec<String> {
    let zone = Timing::of(&task.spec).zone;
    let mut lines = Vec::new();
    match (old.snoozed_until, task.snoozed_until) {
        (Some(until), None) => lines.push(format!(
            "The snooze until {} is over: it would hold back nothing of the new schedule.",
            local(until, &zone)
        )),
        (Some(_), Some(_)) if old.next_occurrence_at != task.next_occurrence_at => {
            lines.push("The snooze stays, for the new schedule.".to_owned());
        }
        _ => {}
    }
    if task.skip_next > 0 && old.next_occurrence_at != task.next_occurrence_at {
        lines.push("The occurrences to skip are now those of the new schedule.".to_owned());
    }
    lines
}

/// How many changes one answer shows.
const CHANGES: usize = 20;

/// The changes that an answer shows, and how many it leaves out.
pub(super) fn shown_changes(changes: &[Change]) -> (&[Change], usize) {
    let shown = &changes[..changes.len().min(CHANGES)];
    (shown, changes.len() - shown.len())
}

fn left_out(more: usize) -> String {
    if more == 0 { String::new() } else { format!("- and {more} more; get_task shows the definition.") }
}

/// One field, or one step, that two definitions differ in.
pub(super) struct Change {
    pub(super) field: String,
    from: Option<Value>,
    to: Option<Value>,
}

impl Change {
    pub(super) fn json(&self) -> Value {
        let mut shown = json!({ "field": self.field });
        if let Some(from) = &self.from {
            shown["from"] = untrusted::value(from);
        }
        if let Some(to) = &self.to {
            shown["to"] = untrusted::value(to);
        }
        shown
    }

    pub(super) fn line(&self) -> String {
        const MOST: usize = 200;
        let brief = |value: &Option<Value>| match value {
            None => "nothing".to_owned(),
            Some(value) => {
                let text = value.to_string();
                match text.char_indices().nth(MOST) {
                    Some((end, _)) => format!("{}…", &text[..end]),
                    None => text,
                }
            }
        };
        format!("- {}: {} -> {}", self.field, brief(&self.from), brief(&self.to))
    }
}

/// What two definitions differ in: fields, and the steps of their lists by id.
pub(super) fn difference(old: &TaskSpec, new: &TaskSpec) -> Vec<Change> {
    let (Value::Object(old), Value::Object(new)) = (old.to_stored(), new.to_stored()) else {
        unreachable!("a spec is stored as an object")
    };
    let names: Vec<&String> = new.keys().chain(old.keys().filter(|name| !new.contains_key(*name))).collect();
    let mut changes = Vec::new();
    for name in names {
        let (from, to) = (old.get(name), new.get(name));
        if from == to || name == "anchored_at" {
            continue;
        }
        if matches!(name.as_str(), "pipeline" | "on_failure") {
            changes.extend(step_changes(name, from, to));
        } else {
            changes.push(Change { field: name.clone(), from: from.cloned(), to: to.cloned() });
        }
    }
    changes
}

fn step_changes(list: &str, from: Option<&Value>, to: Option<&Value>) -> Vec<Change> {
    let (old, new) = (by_id(from), by_id(to));
    let ids = new.keys().chain(old.keys().filter(|id| !new.contains_key(*id)));
    let mut changes: Vec<Change> = ids
        .filter(|id| old.get(*id) != new.get(*id))
        .map(|id| Change { field: format!("{list}.{id}"), from: old.get(id).cloned(), to: new.get(id).cloned() })
        .collect();
    if changes.is_empty() {
        let order = |steps: &Map<String, Value>| Some(steps.keys().map(String::as_str).collect::<Vec<_>>().into());
        changes.push(Change { field: list.to_owned(), from: order(&old), to: order(&new) });
    }
    changes
}

fn by_id(list: Option<&Value>) -> Map<String, Value> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some((item.get("id")?.as_str()?.to_owned(), item.clone()))).collect()
}
