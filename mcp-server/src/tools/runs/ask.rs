//! `run_now`, `retry_run`, `cancel_run`.

use std::time::Duration;

use ordinaut_schema::{id::RunId, run::RunState, time::short};
use ordinaut_store::{
    StoreError,
    runs::{Cancelling, RetryFrom},
    tasks::TaskRecord,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{error::ToolError, principal::Scope};

use super::{
    super::{
        Kind, Spec,
        answer::Answer,
        arguments::Arguments,
        call::{Call, Desk},
        outputs::{self, always, maybe, one_of},
        refusals::refuse,
        schema::{arguments, count, object, request_id, run as run_argument, task as task_argument, text, word},
        show::{run_line, run_summary},
        tasks,
    },
    read::{self, ended_answer, zone_of},
    wait::{LONGEST_WAIT, wait_for_end},
};

fn wait_argument() -> (&'static str, Value) {
    ("wait", count("Wait up to so many seconds for the end and answer with it; default 0", (0, LONGEST_WAIT), 30))
}

pub(super) fn run_now_spec() -> Spec {
    Spec {
        name: "run_now",
        title: "Run a task now",
        description: "Starts a run of a task at once, besides its schedule. Also works while the task is paused.",
        scope: Scope::RunControl,
        kind: Kind::Starts,
        input: arguments(
            &["task"],
            [
                task_argument(),
                ("params", object("Set over the task's params for this run", json!({ "city": "Cahul" }))),
                wait_argument(),
                request_id(),
            ],
        ),
        output: run_now_output(),
    }
}

fn run_now_output() -> Value {
    let [run, steps, next] = read::fields();
    outputs::answer([
        always("outcome", one_of("duplicate: the task's dedupe_key was taken", ["planned", "existed", "duplicate"])),
        maybe("skipped_run", outputs::id("What this request was kept as, where it is a duplicate")),
        maybe("duplicate_of", outputs::id("The run that took the key")),
        run,
        steps,
        next,
        outputs::warnings(),
    ])
}

pub(super) async fn run_now(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let name = given.needed("task", "the id or title of the task to run");
    let params = given.object("params");
    let wait = given.count("wait", 0..=LONGEST_WAIT);
    let request = given.key("request_id");
    given.finish("run_now")?;
    let desk = call.desk().await?;
    let task = tasks::find(&desk, &name).await?;
    let key = request.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    let planned = desk.store.run_now(&desk.caller, task.id, &key, params).await;
    let planned = planned.map_err(|error| refuse(error, request.as_deref()))?;
    if let Some(first) = planned.duplicate_of {
        return Ok(duplicate(&desk, &task, planned.run, first).await);
    }
    let outcome = if planned.existed { "existed" } else { "planned" };
    let answer =
        asked(&call, &desk, planned.run, outcome, wait).await.map_err(|error| refuse(error, request.as_deref()))?;
    Ok(answer.warn(&desk.warnings().await))
}

/// The answer where the task's key was taken: nothing was started, and what there is instead.
async fn duplicate(desk: &Desk, task: &TaskRecord, skipped: RunId, first: RunId) -> Answer {
    let key = task.spec.dedupe_key.as_deref().unwrap_or_default();
    let window = short(task.spec.dedupe_window());
    let answer = Answer::new()
        .with("outcome", "duplicate")
        .with("skipped_run", json!(skipped))
        .with("duplicate_of", json!(first))
        .line(format!(
            "Nothing was started: run {first} took the same dedupe_key (`{key}`) less than {window} ago. \
             This request is kept as skipped: duplicate (run {skipped})."
        ));
    // History may have dropped it by now; its id still says when it was.
    let Ok(record) = desk.store.find_run(&desk.caller, first).await else { return answer };
    let zone = zone_of(desk, &record);
    answer
        .with("run", Value::Object(run_summary(&record, &zone)))
        .line(run_line(&record, &zone))
        .hint("To run all the same wait for the window to end; or change dedupe_key or dedupe_window by update_task.")
}

pub(super) fn retry_spec() -> Spec {
    Spec {
        name: "retry_run",
        title: "Retry a run",
        description: "Plans a new run that retries one that failed, was cancelled or quarantined. By default it goes on at the step that failed and keeps what was done.",
        scope: Scope::RunControl,
        kind: Kind::Starts,
        input: arguments(
            &["run"],
            [
                run_argument(),
                (
                    "from",
                    word(
                        "failed_step goes on; start begins anew with the latest definition",
                        &["failed_step", "start"],
                    ),
                ),
                wait_argument(),
            ],
        ),
        output: retry_output(),
    }
}

fn retry_output() -> Value {
    let [run, steps, next] = read::fields();
    outputs::answer([always("outcome", one_of("", ["planned"])), run, steps, next, outputs::warnings()])
}

pub(super) async fn retry_run(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let run = read_run(given);
    let from = [RetryFrom::FailedStep, RetryFrom::Start];
    let from = given.choices("from", &from, |from| match from {
        RetryFrom::FailedStep => "failed_step",
        RetryFrom::Start => "start",
    });
    let wait = given.count("wait", 0..=LONGEST_WAIT);
    given.finish("retry_run")?;
    let run = run.expect("a call without a run was refused");
    let desk = call.desk().await?;
    let from = from.first().copied().unwrap_or(RetryFrom::FailedStep);
    let retry = desk.store.retry_run(&desk.caller, run, from).await.map_err(|error| refuse(error, None))?;
    let answer = asked(&call, &desk, retry, "planned", wait).await.map_err(|error| refuse(error, None))?;
    Ok(answer.warn(&desk.warnings().await))
}

pub(super) fn cancel_spec() -> Spec {
    Spec {
        name: "cancel_run",
        title: "Stop a run",
        description: "Stops one run; the task stays. A run that has started is asked to stop: the answer says `requested` until it did.",
        scope: Scope::RunControl,
        kind: Kind::Ends,
        input: arguments(&["run"], [run_argument(), ("reason", text("Why, kept with the run", "wrong city"))]),
        output: outputs::answer([
            always("outcome", one_of("over: it had ended before", ["cancelled", "requested", "over"])),
            always("run", outputs::id("")),
        ]),
    }
}

pub(super) async fn cancel_run(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let run = read_run(given);
    let reason = given.text("reason");
    given.finish("cancel_run")?;
    let run = run.expect("a call without a run was refused");
    let desk = call.desk().await?;
    let cancelling = desk.store.cancel_run(&desk.caller, run, reason.as_deref()).await;
    let (outcome, hint) = match cancelling.map_err(|error| refuse(error, None))? {
        Cancelling::Cancelled => ("cancelled", format!("Run {run} is cancelled.")),
        Cancelling::Requested => ("requested", format!("Run {run} is asked to stop; get_run shows when it did.")),
        Cancelling::Over(state) => ("over", over(run, state)),
    };
    Ok(Answer::new().with("outcome", outcome).with("run", json!(run)).hint(hint))
}

fn over(run: RunId, state: RunState) -> String {
    format!("Run {run} was over already: {state}. Nothing was changed.")
}

/// The argument `run`: `None` after a fault, which `finish` refuses.
pub(super) fn read_run(given: &mut Arguments) -> Option<RunId> {
    given.needed_parsed("run", "a run's id; list_runs shows them")
}

/// The answer about a run that was asked for, after its end where the caller waits.
async fn asked(call: &Call, desk: &Desk, run: RunId, outcome: &str, wait: Option<u32>) -> Result<Answer, StoreError> {
    let patience = Duration::from_secs(u64::from(wait.unwrap_or(0)));
    let record = wait_for_end(call, desk, run, patience).await?;
    let zone = zone_of(desk, &record);
    if record.state.is_terminal() {
        return Ok(ended_answer(Answer::new().with("outcome", outcome), &record, &zone));
    }
    Ok(Answer::new()
        .with("outcome", outcome)
        .with("run", Value::Object(run_summary(&record, &zone)))
        .line(format!("Run {run} of \"{}\" is {}.", record.task_title, record.state))
        .hint("get_run shows how it goes."))
}
