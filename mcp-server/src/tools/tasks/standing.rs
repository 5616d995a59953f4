//! `pause`, `resume`, `snooze`, `cancel`: what stands in the way of a task's occurrences.

use ordinaut_schema::fault::{Fault, FaultCode};
use ordinaut_store::tasks::{Snooze, TaskRecord};
use serde_json::{Value, json};

use crate::{error::ToolError, principal::Scope};

use super::{
    super::{
        Kind, Spec,
        answer::Answer,
        arguments::wrong_arguments,
        call::{Call, Desk},
        outputs::{self, always, maybe, one_of},
        refusals::refuse,
        schema::{arguments, count, task as task_argument, text},
        show::{Timing, first, local, plural},
    },
    echo, find, named,
};

/// How many of the occurrences to be skipped an answer names.
const SKIPPED_SHOWN: usize = 5;

fn output<const N: usize>(outcomes: [&str; N]) -> Value {
    outputs::answer([
        always("outcome", one_of("", outcomes)),
        always("task", outputs::task()),
        maybe("skipped", outputs::list("The first of those that a snooze passes over", outputs::occurrence())),
        outputs::warnings(),
    ])
}

pub(super) fn pause_spec() -> Spec {
    Spec {
        name: "pause",
        title: "Pause a task",
        description: "Pauses a task: occurrences pass as skipped until `until`, or until resume. Runs that exist go on; nothing is caught up later.",
        scope: Scope::TaskWrite,
        kind: Kind::Settles,
        input: arguments(
            &["task"],
            [
                task_argument(),
                ("until", text("Resumes by itself then: instant, local time, or +14d", "2027-02-01T09:00")),
                ("reason", text("Why, shown with the task", "on holiday")),
            ],
        ),
        output: output(["paused"]),
    }
}

pub(super) async fn pause(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let name = given.needed("task", "the id or title of the task to pause");
    let until = given.instant("until");
    let reason = given.text("reason");
    given.finish("pause")?;
    let desk = call.desk().await?;
    let task = find(&desk, &name).await?;
    let zone = Timing::of(&task.spec).zone;
    let until = until.map(|until| until.read(&zone, desk.now)).transpose()?;
    let paused = desk.store.pause_task(&desk.caller, task.id, until, reason.as_deref()).await;
    let task = paused.map_err(|error| refuse(error, None))?;
    Ok(written(&desk, &task, "paused", format!("Paused {}.", named(&task))).await)
}

pub(super) fn resume_spec() -> Spec {
    Spec {
        name: "resume",
        title: "Resume a task",
        description: "Ends a pause. What passed meanwhile is not caught up.",
        scope: Scope::TaskWrite,
        kind: Kind::Settles,
        input: arguments(&["task"], [task_argument()]),
        output: output(["resumed"]),
    }
}

pub(super) async fn resume(mut call: Call) -> Result<Answer, ToolError> {
    let name = call.arguments.needed("task", "the id or title of the task to resume");
    call.arguments.finish("resume")?;
    let desk = call.desk().await?;
    let task = find(&desk, &name).await?;
    let resumed = desk.store.resume_task(&desk.caller, task.id).await;
    let task = resumed.map_err(|error| refuse(error, None))?;
    Ok(written(&desk, &task, "resumed", format!("Active: {}.", named(&task))).await)
}

pub(super) fn snooze_spec() -> Spec {
    Spec {
        name: "snooze",
        title: "Snooze a task",
        description: "Puts off what comes next; give one of for, until, skip. for and until move the next occurrence, and those between are skipped; skip passes over the next n.",
        scope: Scope::TaskWrite,
        kind: Kind::Settles,
        input: arguments(
            &["task"],
            [
                task_argument(),
                ("for", text("From now on, so long", "2h")),
                ("until", text("Instant, or local time in the task's zone", "2027-02-01T09:00")),
                ("skip", count("How many occurrences to pass over", (1, 1000), 1)),
            ],
        ),
        output: output(["snoozed", "unchanged"]),
    }
}

pub(super) async fn snooze(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let name = given.needed("task", "the id or title of the task to snooze");
    let (span, until, skip) = (given.duration("for"), given.instant("until"), given.count("skip", 1..=1000));
    given.finish("snooze")?;
    let desk = call.desk().await?;
    let one_of = |message: &str| wrong_arguments(Fault::new("$", FaultCode::InvalidValue, message));
    let task = find(&desk, &name).await?;
    let snooze = match (span, until, skip) {
        (Some(span), None, None) => {
            let until = desk.now.checked_add(span).map_err(|_| one_of("`for` is too long"))?;
            Snooze::Until(until)
        }
        (None, Some(until), None) => Snooze::Until(until.read(&Timing::of(&task.spec).zone, desk.now)?),
        (None, None, Some(skip)) => Snooze::Skip(skip),
        (None, None, None) => return Err(one_of("give one of `for` (\"2h\"), `until` (an instant) or `skip` (1)")),
        _ => return Err(one_of("give only one of `for`, `until` and `skip`")),
    };
    let snoozed = desk.store.snooze_task(&desk.caller, task.id, snooze).await;
    let task = snoozed.map_err(|error| refuse(error, None))?;
    let timing = Timing::of(&task.spec);
    if let (Snooze::Until(until), None) = (snooze, task.snoozed_until) {
        let first =
            format!("Nothing is put off: nothing of {} is due before {}.", named(&task), local(until, &timing.zone));
        return Ok(written(&desk, &task, "unchanged", first).await);
    }
    let skipped = timing.skipped(&task, SKIPPED_SHOWN);
    let answer = written(&desk, &task, "snoozed", format!("Snoozed {}.", named(&task))).await;
    if skipped.is_empty() {
        return Ok(answer);
    }
    Ok(answer
        .with("skipped", skipped.iter().map(|next| next.json(&timing.zone)).collect::<Vec<_>>())
        .lines(skipped.iter().map(|next| format!("Will be skipped: {}", next.line(&timing.zone)))))
}

pub(super) fn cancel_spec() -> Spec {
    let cancelled = outputs::object(
        "",
        [
            always("id", outputs::id("")),
            always("title", outputs::text("")),
            always("state", one_of("", ["cancelled"])),
            always("revision", outputs::count("")),
        ],
    );
    Spec {
        name: "cancel",
        title: "Cancel a task for good",
        description: "Ends a task for good and stops its runs; its history stays. To stop it for a while use pause; to stop one run use cancel_run.",
        scope: Scope::TaskWrite,
        kind: Kind::Ends,
        input: arguments(&["task"], [task_argument()]),
        output: outputs::answer([
            always("outcome", one_of("", ["cancelled"])),
            always("task", cancelled),
            always("runs", outputs::list("Those that were asked to stop", outputs::id(""))),
            maybe("left_out", outputs::count("How many more there are, above a hundred; list_runs has them")),
        ]),
    }
}

pub(super) async fn cancel(mut call: Call) -> Result<Answer, ToolError> {
    let name = call.arguments.needed("task", "the id or title of the task to cancel");
    call.arguments.finish("cancel")?;
    let desk = call.desk().await?;
    let task = find(&desk, &name).await?;
    let cancelled = desk.store.cancel_task(&desk.caller, task.id).await;
    let (task, runs) = cancelled.map_err(|error| refuse(error, None))?;
    let stopped = match runs.len() {
        0 => String::new(),
        count => format!("{} asked to stop.", plural(count as u64, "run")),
    };
    let (shown, more) = first(&runs);
    Ok(Answer::new()
        .with("outcome", "cancelled")
        .with(
            "task",
            json!({ "id": task.id, "title": task.spec.title, "state": task.state, "revision": task.revision }),
        )
        .with("runs", json!(shown))
        .with("left_out", Some(more).filter(|more| *more > 0))
        .line(format!("Cancelled {} at {}.", named(&task), local(desk.now, &Timing::of(&task.spec).zone)))
        .line(stopped))
}

async fn written(desk: &Desk, task: &TaskRecord, outcome: &str, first: String) -> Answer {
    let (answer, mut warnings) = echo(Answer::new().with("outcome", outcome).line(first), desk, task);
    warnings.extend(desk.warnings().await);
    answer.warn(&warnings)
}
