//! A run, step by step: as lines for people and as JSON, whole or while it goes on.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use ordinaut_schema::{
    id::RunId,
    run::{RunState, StepRecord, StepState},
};
use ordinaut_store::runs::RunRecord;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    failure::{Exit, Failure},
    out::{Out, clean, cut},
    session::Session,
    times::{between, local, relative, took},
};

const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// Of an output on one line of a timeline.
const OUTPUT_CHARS: usize = 100;

/// One line of the timeline.
pub(crate) fn step_line(step: &StepRecord) -> String {
    let index = step.index.map_or_else(String::new, |index| format!("[{index}]"));
    let name = format!("{}{index}", step.step);
    let mark = match step.state {
        StepState::Started => "…",
        StepState::Succeeded => "✓",
        StepState::Skipped => "-",
        StepState::Continued => "!",
        StepState::Failed => "✗",
    };
    let time = match (step.started_at, step.finished_at) {
        (Some(from), Some(to)) => took(between(from, to)),
        _ => String::new(),
    };
    let said = match (&step.error, step.state) {
        (Some(error), _) => format!("{}: {}", error.kind, error.message),
        (None, StepState::Skipped) => "skipped: its condition does not hold".to_owned(),
        (None, StepState::Started) if step.is_parked() => waits(&step.output),
        (None, StepState::Started) => "running".to_owned(),
        (None, _) => compact(&step.output),
    };
    format!("  {mark} {name:<16} {:<20} {time:>7}  {}", step.uses, cut(&said, OUTPUT_CHARS))
}

fn compact(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a parked step waits for.
pub(crate) fn waits(waiting: &Value) -> String {
    let word = |name: &str| waiting.get(name).and_then(Value::as_str).unwrap_or_default();
    match word("waiting_for") {
        "approval" => format!("waits for your approval until {}; `ordinaut approve` lists it", word("until")),
        "instant" => format!("waits until {}", word("until")),
        "run" => format!("waits for run {} of \"{}\"", word("run"), word("title")),
        other => format!("waits for {other}"),
    }
}

/// How a run stands, in one line.
pub(crate) fn state_line(run: &RunRecord) -> String {
    let reason = match (&run.error, run.skip_reason) {
        (Some(error), _) if error.step.is_empty() => format!(": {}: {}", error.kind, error.message),
        (Some(error), _) => format!(": step `{}`: {}: {}", error.step, error.kind, error.message),
        (None, Some(reason)) => format!(": {reason}"),
        (None, None) => run.waiting.as_ref().map_or_else(String::new, |waiting| format!(": {}", waits(waiting))),
    };
    let time = match (run.started_at, run.finished_at) {
        (Some(from), Some(to)) => format!(" in {}", took(between(from, to))),
        _ => String::new(),
    };
    clean(&format!("{}{time}{reason}", run.state))
}

/// The whole run for people.
pub(crate) async fn show(session: &Session, run: &RunRecord, out: Out) -> Result<(), Failure> {
    let now = session.store.now().await?;
    let at = |at| format!("{} ({})", local(at, &session.zone), relative(at, now));
    out.line(format!("{}: {}", clean(&run.task_title), state_line(run)))?;
    let rows = [
        ("run", Some(run.id.to_string())),
        ("for", Some(format!("{}, by {}", at(run.occurrence_at), run.trigger))),
        ("stretch", run.stretch.map(|(to, count)| format!("{count} occurrences, to {}", at(to)))),
        ("started", run.started_at.map(at)),
        ("finished", run.finished_at.map(at)),
        ("wakes", run.wake_at.map(at)),
        ("attempts", Some(run.attempts).filter(|n| *n > 1).map(|n| n.to_string())),
        ("retry of", run.retry_of.map(|run| run.to_string())),
    ];
    for (name, value) in rows.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        out.line(format!("  {name:<10}{value}"))?;
    }
    if !run.steps.is_empty() {
        out.line("")?;
    }
    for step in &run.steps {
        out.line(step_line(step))?;
    }
    Ok(())
}

pub(crate) fn to_json(run: &RunRecord) -> Value {
    json!({
        "id": run.id,
        "task_id": run.task,
        "task": run.task_title,
        "revision": run.revision,
        "state": run.state,
        "skip_reason": run.skip_reason,
        "trigger": run.trigger,
        "occurrence_key": run.occurrence_key,
        "occurrence_at": run.occurrence_at,
        "stretch": run.stretch.map(|(to, count)| json!({ "to": to, "count": count })),
        "root_run_id": run.root_run,
        "retry_of": run.retry_of,
        "attempts": run.attempts,
        "failures": run.failures,
        "crashes": run.crashes,
        "planned_at": run.planned_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "wake_at": run.wake_at,
        "cancel_asked_at": run.cancel_asked_at,
        "error": run.error,
        "output": run.output,
        "steps": run.steps,
        "event": run.event,
        "waiting": run.waiting,
    })
}

/// Looks at a run until it is over, telling of each step once, when it has ended.
///
/// # Errors
/// [`Exit::TimedOut`] when it is not over within `limit`; it goes on by itself.
pub(crate) async fn watch(
    session: &Session,
    id: RunId,
    limit: Option<Duration>,
    mut tell: impl FnMut(&StepRecord) -> Result<(), Failure>,
) -> Result<RunRecord, Failure> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut told: BTreeSet<(String, Option<u32>)> = BTreeSet::new();
    let mut pause = FIRST_LOOK;
    loop {
        let run = session.store.find_run(&session.caller, id).await?;
        for step in run.steps.iter().filter(|step| step.state != StepState::Started) {
            if told.insert((step.step.clone(), step.index)) {
                tell(step)?;
                pause = FIRST_LOOK;
            }
        }
        if run.state.is_terminal() {
            return Ok(run);
        }
        if let Some(deadline) = deadline
            && Instant::now() >= deadline
        {
            let message = format!("run {id} is {} and not over yet; it goes on by itself", run.state);
            return Err(Failure::new(Exit::TimedOut, message).mend(advice(session, run.state, id).await));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_LOOK);
    }
}

/// Shows a run's steps until it is over; fails unless it succeeded.
pub(crate) async fn see_through(
    session: &Session,
    title: &str,
    id: RunId,
    limit: Option<Duration>,
    out: Out,
) -> Result<ExitCode, Failure> {
    let for_people = |line: String| if out.is_json() { Ok(()) } else { out.line(line) };
    for_people(format!("{title}: run {id}"))?;
    let over = watch(session, id, limit, |step| for_people(step_line(step))).await?;
    for_people(state_line(&over))?;
    if out.is_json() {
        out.json(&to_json(&over))?;
    }
    let succeeded = over.state == RunState::Succeeded;
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failed as u8) })
}

/// What may keep a run from ending.
async fn advice(session: &Session, state: RunState, run: RunId) -> String {
    let is_held = matches!(state, RunState::Pending | RunState::Blocked);
    match (session.store.gate_shut(session.caller.agent).await, session.store.live_executors().await) {
        (Ok(Some(_)), _) => "everything is paused; `ordinaut resume-all` lets it go on".to_owned(),
        (_, Ok(executors)) if is_held && executors.is_empty() => {
            "no executor is alive; start `ordinaut-executor`, or see `ordinaut doctor`".to_owned()
        }
        _ => format!("`ordinaut runs {run}` shows how it stands"),
    }
}
