//! `tasks`: what stands, and what each is waiting for.

use clap::Args;
use jiff::Timestamp;
use ordinaut_schema::{
    budget::BudgetStanding,
    limits::Limits,
    task::{TaskSpec, TaskState, ZoneSource},
    time::Zone,
};
use ordinaut_store::tasks::{TaskFilter, TaskRecord, TaskRef};
use serde_json::{Value, json};

use crate::{
    export::yaml,
    failure::Failure,
    out::{Out, cut},
    session::Session,
    times::{local, relative},
};

#[derive(Debug, Args)]
pub(crate) struct Tasks {
    /// Show this task, by title or id
    task: Option<String>,
    /// With those that have ended and those that are cancelled
    #[arg(long)]
    all: bool,
    /// Only those whose title has this text in it
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

pub(crate) async fn tasks(session: &Session, options: &Tasks, out: Out) -> Result<(), Failure> {
    let now = session.store.now().await?;
    if let Some(task) = &options.task {
        let task = session.store.find_task(&session.caller, &TaskRef::from(task.as_str())).await?;
        let budget = session.store.task_budget(&session.caller, &task).await?;
        if out.is_json() {
            let mut shown = to_json(&task);
            shown["budget"] = json!(budget.as_ref().map(BudgetStanding::to_json));
            return out.json(&shown);
        }
        return show(&task, budget.as_ref(), &session.zone, now, out);
    }
    let states = if options.all { TaskState::ALL.to_vec() } else { Vec::new() };
    let tasks = session.list_tasks(&TaskFilter { states, text: options.text.clone() }).await?;
    if out.is_json() {
        return out.json(&tasks.iter().map(to_json).collect::<Vec<_>>());
    }
    let rows = tasks.iter().map(|task| {
        vec![
            cut(&task.spec.title, 48),
            task.state.to_string(),
            cut(&sentence(&task.spec), 64),
            waiting_for(task, now),
            task.id.to_string(),
        ]
    });
    let none = "no task; `ordinaut apply -f examples/morning-briefing.yaml` makes one";
    out.table(&["TITLE", "STATE", "SCHEDULE", "NEXT", "ID"], rows.collect(), none)
}

/// A schedule in plain English; its own text where this version cannot read it.
pub(crate) fn sentence(spec: &TaskSpec) -> String {
    match spec.schedule(&Limits::DEFAULT) {
        Ok(schedule) => schedule.describe(),
        Err(_) => format!("{} {}", spec.schedule_kind, spec.schedule_expr),
    }
}

fn waiting_for(task: &TaskRecord, now: Timestamp) -> String {
    match (task.state, task.next_due_at) {
        (TaskState::Paused, _) => match task.resume_at {
            Some(at) => format!("resumes {}", relative(at, now)),
            None => String::new(),
        },
        (TaskState::Active, Some(at)) => relative(at, now),
        (TaskState::Active | TaskState::Ended | TaskState::Cancelled, _) => String::new(),
    }
}

fn show(
    task: &TaskRecord,
    budget: Option<&BudgetStanding>,
    zone: &Zone,
    now: Timestamp,
    out: Out,
) -> Result<(), Failure> {
    let at = |at: Timestamp| format!("{} ({})", local(at, zone), relative(at, now));
    let mut rows = vec![
        ("id", task.id.to_string()),
        ("state", task.state.to_string()),
        ("schedule", sentence(&task.spec)),
        ("zone", zone_of(task)),
        ("revision", task.revision.to_string()),
        ("runs planned", task.runs_planned.to_string()),
        ("created", at(task.created_at)),
    ];
    let further = [
        ("paused because", task.paused_because.clone()),
        ("resumes", task.resume_at.map(at)),
        ("next", task.next_occurrence_at.map(at)),
        ("snoozed until", task.snoozed_until.map(at)),
        ("last", task.last_occurrence_at.map(at)),
        ("failures in a row", Some(task.failures_in_row).filter(|n| *n > 0).map(|n| n.to_string())),
        (
            "skipped at present",
            task.open_stretch.map(|it| format!("{} since {}: {}", it.count, at(it.from), it.reason)),
        ),
    ];
    rows.extend(further.into_iter().filter_map(|(name, value)| Some((name, value?))));
    rows.extend(budget.into_iter().flat_map(BudgetStanding::lines));
    out.line(crate::out::clean(&task.spec.title))?;
    for (name, value) in rows {
        out.line(format!("  {name:<20}{}", crate::out::clean(&value)))?;
    }
    out.line(format!("\n{}", yaml(&task.spec.to_definition())?.trim_end()))
}

/// The zone of a task, and why it is that one.
fn zone_of(task: &TaskRecord) -> String {
    let why = task.zone_source.and_then(|source| match source {
        ZoneSource::Task => Some("as defined"),
        ZoneSource::Agent => Some("the agent's"),
        ZoneSource::Machine => Some("this machine's"),
        ZoneSource::Configuration => Some("ORDINAUT_TIMEZONE"),
        ZoneSource::Person => Some("as the person said"),
        ZoneSource::NotNeeded => None,
    });
    why.map_or_else(|| task.spec.timezone.clone(), |why| format!("{} ({why})", task.spec.timezone))
}

pub(crate) fn to_json(task: &TaskRecord) -> Value {
    json!({
        "id": task.id,
        "title": task.spec.title,
        "state": task.state,
        "revision": task.revision,
        "schedule": {
            "kind": task.spec.schedule_kind,
            "expr": task.spec.schedule_expr,
            "timezone": task.spec.timezone,
            "timezone_source": task.zone_source,
            "sentence": sentence(&task.spec),
        },
        "next_occurrence_at": task.next_occurrence_at,
        "next_due_at": task.next_due_at,
        "last_occurrence_at": task.last_occurrence_at,
        "runs_planned": task.runs_planned,
        "paused_because": task.paused_because,
        "resume_at": task.resume_at,
        "snoozed_until": task.snoozed_until,
        "skip_next": task.skip_next,
        "failures_in_row": task.failures_in_row,
        "open_stretch": task.open_stretch,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "definition": task.spec.to_definition(),
    })
}
