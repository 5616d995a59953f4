//! `get_task` and `list_tasks`.

use ordinaut_schema::{
    budget::BudgetStanding,
    fault::{Fault, FaultCode, nearest},
    id::TaskId,
    planning::Stretch,
    task::{TaskSpec, TaskState},
    time::Zone,
};
use ordinaut_store::{
    runs::RunFilter,
    tasks::{TaskFilter, TaskRecord},
};
use serde_json::{Value, json};

use crate::{error::ToolError, principal::Scope};

use super::{
    super::{
        Kind, Spec,
        answer::Answer,
        arguments::{Arguments, wrong_arguments},
        call::{Call, Desk},
        page::{MOST, Page},
        refusals::refuse,
        schema::{arguments, page, task as task_argument, text, words},
        show::{Timing, health, local, plural, run_line, run_summary, skip_meaning, task_line, task_summary},
    },
    echo, find, named,
};

/// A longer definition is shown in outline, its steps one at a time.
const WHOLE_BYTES: usize = 16 * 1024;

/// How many runs the health of a task is told from (retries count as what they retry), and how many of them are shown.
const HEALTH_RUNS: u32 = 40;
const SHOWN_RUNS: usize = 5;

/// How many tasks a page holds unless it says otherwise.
const TASKS: u32 = 20;

pub(super) fn get_spec() -> Spec {
    Spec {
        name: "get_task",
        title: "Show a task",
        description: "Shows a task: its definition, how it stands, the next occurrences, the last runs with outcome and reason, and skipped occurrences that are still being counted.",
        scope: Scope::TaskRead,
        kind: Kind::Reads,
        input: arguments(
            &["task"],
            [task_argument(), ("step", text("Only the definition of this step, whole", "weather"))],
        ),
    }
}

pub(super) async fn get_task(mut call: Call) -> Result<Answer, ToolError> {
    let name = call.arguments.needed("task", "the id or title of a task");
    let step = call.arguments.text("step");
    call.arguments.finish("get_task")?;
    let desk = call.desk().await?;
    let task = find(&desk, &name).await?;
    match step {
        Some(step) => one_step(&task.spec, &step),
        None => show(&desk, &task, bounded(&task.spec)).await,
    }
}

/// A task with its definition whole, however long.
pub(in super::super) async fn whole_task(call: &Call, name: &str) -> Result<Answer, ToolError> {
    let desk = call.desk().await?;
    let task = find(&desk, name).await?;
    show(&desk, &task, (task.spec.to_definition(), None)).await
}

async fn show(desk: &Desk, task: &TaskRecord, shown: (Value, Option<String>)) -> Result<Answer, ToolError> {
    let filter = RunFilter { task: Some(task.id), ..RunFilter::default() };
    let runs = desk.store.list_runs(&desk.caller, &filter, None, HEALTH_RUNS).await;
    let runs = runs.map_err(|error| refuse(error, None))?;
    let budget = desk.store.task_budget(&desk.caller, task).await.map_err(|error| refuse(error, None))?;
    let zone = Timing::of(&task.spec).zone;

    let answer = Answer::new().line(format!("{}.", named(task)));
    let (answer, warnings) = echo(answer, desk, task);
    let (definition, note) = shown;
    let health = health(&runs, task.open_stretch.as_ref());
    let latest = &runs[..runs.len().min(SHOWN_RUNS)];
    let answer = answer
        .with("definition", definition.clone())
        .with("note", note.clone())
        .with("created_at", local(task.created_at, &zone))
        .with("updated_at", local(task.updated_at, &zone))
        .with("runs_planned", task.runs_planned)
        .with("health", health.as_str())
        .with("last_runs", latest.iter().map(|run| Value::Object(run_summary(run, &zone))).collect::<Vec<_>>())
        .with("open_stretch", task.open_stretch.map(|stretch| open_stretch(&stretch, &zone)).unwrap_or_default())
        .with("budget", budget.as_ref().map(BudgetStanding::to_json))
        .line(health.as_str())
        .lines(budget.iter().flat_map(BudgetStanding::lines).map(|(what, how)| format!("Budget, {what}: {how}")))
        .lines(latest.iter().map(|run| run_line(run, &zone)))
        .line(task.open_stretch.map(|stretch| stretch_line(&stretch, &zone)).unwrap_or_default())
        .line(format!("Definition: {definition}"))
        .line(note.unwrap_or_default());
    Ok(answer.warn(&warnings))
}

/// Skipped occurrences that are not in the history yet.
fn open_stretch(stretch: &Stretch, zone: &Zone) -> Value {
    json!({
        "reason": stretch.reason,
        "meaning": skip_meaning(stretch.reason),
        "occurrences": stretch.count,
        "from": local(stretch.from, zone),
        "through": local(stretch.to, zone),
    })
}

fn stretch_line(stretch: &Stretch, zone: &Zone) -> String {
    format!(
        "Being skipped: {} from {} through {}: {}.",
        plural(u64::from(stretch.count), "occurrence"),
        local(stretch.from, zone),
        local(stretch.to, zone),
        skip_meaning(stretch.reason)
    )
}

/// The definition, in outline where it is too long, with how to get the rest.
fn bounded(spec: &TaskSpec) -> (Value, Option<String>) {
    let mut definition = spec.to_definition();
    let bytes = definition.to_string().len();
    if bytes <= WHOLE_BYTES {
        return (definition, None);
    }
    let outline: Vec<_> = spec.steps().take(100).map(|step| json!({ "id": step.id, "uses": step.uses })).collect();
    if let Value::Object(fields) = &mut definition {
        fields.retain(|name, value| {
            !matches!(name.as_str(), "pipeline" | "on_failure" | "payload") && value.to_string().len() <= 2048
        });
        fields.insert("steps_outline".to_owned(), Value::from(outline));
    }
    let note = format!(
        "The definition has {bytes} bytes and is shown in outline. get_task with `step` shows one step whole; the resource ordinaut://tasks/<id> has all of it."
    );
    (definition, Some(note))
}

fn one_step(spec: &TaskSpec, id: &str) -> Result<Answer, ToolError> {
    let Some(step) = spec.steps().find(|step| step.id == id) else {
        let ids: Vec<&str> = spec.steps().map(|step| step.id.as_str()).collect();
        let message = format!("there is no step `{id}`; there are {}", ids.join(", "));
        let fault = Fault::new("$.step", FaultCode::UnknownReference, message);
        return Err(wrong_arguments(match nearest(id, ids) {
            Some(near) => fault.suggest(near),
            None => fault,
        }));
    };
    let shown = serde_json::to_value(step).map_err(|error| ToolError::Fault(Box::new(error)))?;
    Ok(Answer::new().line(format!("Step {id}: {shown}")).with("step", shown))
}

pub(super) fn list_spec() -> Spec {
    let states: Vec<&str> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
    let [cursor, limit] = page();
    Spec {
        name: "list_tasks",
        title: "List tasks",
        description: "Lists this agent's tasks with their schedule and next occurrence; active and paused ones unless states says otherwise.",
        scope: Scope::TaskRead,
        kind: Kind::Reads,
        input: arguments(
            &[],
            [
                ("states", words("Only tasks in these states", &states)),
                ("text", text("Part of the title", "briefing")),
                cursor,
                limit,
            ],
        ),
    }
}

pub(super) async fn list_tasks(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let filter =
        TaskFilter { states: given.choices("states", TaskState::ALL, TaskState::as_str), text: given.text("text") };
    let page = Page::read(given, TASKS);
    given.finish("list_tasks")?;
    let desk = call.desk().await?;
    let after = page.after.map(TaskId::from_uuid);
    let listed = desk.store.list_tasks(&desk.caller, &filter, after, page.probe()).await;
    let mut tasks: Vec<TaskRecord> = listed.map_err(|error| refuse(error, None))?;
    let next = page.cut(&mut tasks, |task| task.id.uuid());
    let first = match tasks.as_slice() {
        [] if page.after.is_some() => "No more tasks.".to_owned(),
        [] => "No tasks found.".to_owned(),
        tasks => format!("{}:", plural(tasks.len() as u64, "task")),
    };
    Ok(Answer::new()
        .with("tasks", tasks.iter().map(task_summary).collect::<Vec<_>>())
        .line(first)
        .lines(tasks.iter().map(task_line))
        .more(next))
}

/// Ids and titles of one page of standing tasks.
pub(in super::super) async fn titles(
    call: &Call,
    cursor: Option<String>,
) -> Result<(Vec<(TaskId, String)>, Option<String>), ToolError> {
    let given = cursor.map(|cursor| ("cursor".to_owned(), Value::from(cursor)));
    let mut given = Arguments::new(given.into_iter().collect());
    let page = Page::read(&mut given, MOST);
    given.finish("resources/list")?;
    let desk = call.desk().await?;
    let after = page.after.map(TaskId::from_uuid);
    let listed = desk.store.list_tasks(&desk.caller, &TaskFilter::default(), after, page.probe()).await;
    let mut tasks: Vec<TaskRecord> = listed.map_err(|error| refuse(error, None))?;
    let next = page.cut(&mut tasks, |task| task.id.uuid());
    Ok((tasks.into_iter().map(|task| (task.id, task.spec.title)).collect(), next))
}
