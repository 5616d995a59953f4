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
    View,
    runs::RunFilter,
    tasks::{Standing, TaskFilter, TaskRecord},
};
use serde_json::{Value, json};

use crate::{error::ToolError, principal::Scope};

use super::{
    super::{
        Kind, Spec,
        answer::Answer,
        arguments::{Arguments, wrong_arguments},
        call::{Call, Desk},
        outputs::{self, always, elsewhere, maybe},
        page::{MOST, Page},
        refusals::refuse,
        schema::{arguments, page, task as task_argument, text, words},
        show::{Timing, health, local, plural, run_line, run_summary, skip_meaning},
        untrusted,
    },
    echo, named, see,
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
        output: get_output(),
    }
}

fn get_output() -> Value {
    let more = [
        always("meaning", outputs::text("The reason in words")),
        always("from", outputs::instant("The first of them")),
    ];
    outputs::answer([
        maybe(
            "step",
            outputs::any("With `step`, only this: the step as it is defined; cut, the beginning of its text"),
        ),
        maybe("task", outputs::task()),
        maybe(
            "definition",
            elsewhere("As ordinaut://schema/task has it; in outline with `steps_outline` where it is long"),
        ),
        maybe("note", outputs::text("How to get what of the definition is left out")),
        maybe("created_at", outputs::instant("")),
        maybe("updated_at", outputs::instant("")),
        maybe("runs_planned", outputs::count("By the schedule, so far")),
        maybe("health", outputs::text("How the last occurrences went")),
        maybe("last_runs", outputs::list("The latest first", outputs::run([]))),
        outputs::stretch(more),
        maybe("budget", budget()),
        outputs::warnings(),
    ])
}

fn budget() -> Value {
    let limits = [
        maybe("max_runs_per_day", outputs::count("")),
        maybe("max_cost_per_month", outputs::number("")),
        maybe("max_tokens_per_run", outputs::count("")),
    ];
    outputs::object(
        "What is limited, and what is used of it",
        [
            always("limits", outputs::object("", limits)),
            always("timezone", outputs::text("By whose days and months it is counted")),
            always("runs_today", outputs::count("")),
            always("day_ends_at", outputs::instant("")),
            always("cost_this_month", outputs::number("In the operator's currency")),
            always("cost_set_aside", outputs::number("For answers that are being written")),
            always("tokens_this_month", outputs::count("")),
            always("model_calls_this_month", outputs::count("")),
            always("month_ends_at", outputs::instant("")),
        ],
    )
}

pub(super) async fn get_task(mut call: Call) -> Result<Answer, ToolError> {
    let name = call.arguments.needed("task", "the id or title of a task");
    let step = call.arguments.text("step");
    call.arguments.finish("get_task")?;
    let (desk, mut view) = call.reading().await?;
    let task = see(&mut view, &name).await?;
    match step {
        Some(step) => one_step(task.id, &task.spec, &step),
        None => show(&desk, &mut view, &task, bounded(&task.spec)).await,
    }
}

/// A task with its definition whole, however long.
pub(in super::super) async fn whole_task(call: &Call, name: &str) -> Result<Answer, ToolError> {
    let (desk, mut view) = call.reading().await?;
    let task = see(&mut view, name).await?;
    show(&desk, &mut view, &task, (task.spec.to_definition(), None)).await
}

async fn show(
    desk: &Desk,
    view: &mut View,
    task: &TaskRecord,
    shown: (Value, Option<String>),
) -> Result<Answer, ToolError> {
    let filter = RunFilter { task: Some(task.id), ..RunFilter::default() };
    let runs = view.list_runs(&filter, None, HEALTH_RUNS).await.map_err(|error| refuse(error, None))?;
    let budget = view.task_budget(task).await.map_err(|error| refuse(error, None))?;
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

fn one_step(task: TaskId, spec: &TaskSpec, id: &str) -> Result<Answer, ToolError> {
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
    let bytes = shown.to_string().len();
    let note = (bytes > WHOLE_BYTES)
        .then(|| format!("The step has {bytes} bytes and is cut; the resource ordinaut://tasks/{task} has all of it."));
    let shown = untrusted::short(&shown);
    let answer = Answer::new().line(format!("Step {id}: {shown}")).with("step", shown);
    Ok(answer.with("note", note.clone()).line(note.unwrap_or_default()))
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
        output: outputs::answer([always("tasks", outputs::list("", outputs::listed_task())), outputs::next_cursor()]),
    }
}

pub(super) async fn list_tasks(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let filter =
        TaskFilter { states: given.choices("states", TaskState::ALL, TaskState::as_str), text: given.text("text") };
    let page = Page::read(given, TASKS);
    given.finish("list_tasks")?;
    let (_desk, mut view) = call.reading().await?;
    let after = page.after.map(TaskId::from_uuid);
    let listed = view.list_standing(&filter, after, page.probe()).await;
    let mut tasks: Vec<Standing> = listed.map_err(|error| refuse(error, None))?;
    let next = page.cut(&mut tasks, |task| task.id.uuid());
    let listed = call.listings().of(&mut view, &tasks).await.map_err(|error| refuse(error, None))?;
    let first = match tasks.as_slice() {
        [] if page.after.is_some() => "No more tasks.".to_owned(),
        [] => "No tasks found.".to_owned(),
        tasks => format!("{}:", plural(tasks.len() as u64, "task")),
    };
    let (fields, lines): (Vec<Value>, Vec<String>) =
        tasks.iter().zip(&listed).map(|(task, listed)| listed.show(task)).unzip();
    Ok(Answer::new().with("tasks", fields).line(first).lines(lines).more(next))
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
    let (_desk, mut view) = call.reading().await?;
    let after = page.after.map(TaskId::from_uuid);
    let listed = view.list_standing(&TaskFilter::default(), after, page.probe()).await;
    let mut tasks: Vec<Standing> = listed.map_err(|error| refuse(error, None))?;
    let next = page.cut(&mut tasks, |task| task.id.uuid());
    Ok((tasks.into_iter().map(|task| (task.id, task.title)).collect(), next))
}
