//! What a task would do, shown without doing it: for `run --dry-run` and `apply --dry-run`.
//!
//! Outputs that cannot be known are those of the task's last run that succeeded, else what `expect` says.

use ordinaut_schema::{
    id::TaskId,
    limits::Limits,
    rehearsal::{Given, Rehearsal, rehearse},
    run::RunState,
    task::TaskSpec,
};
use ordinaut_store::runs::{RunFilter, RunRecord};
use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    out::{Out, clean, cut},
    session::{Session, Terms},
};

/// The most that is shown, as JSON.
const MOST_BYTES: usize = 256 * 1024;

/// Rehearses a definition; `task` is the one whose last run gives samples.
pub(crate) async fn rehearsal(
    session: &Session,
    terms: &Terms<'_>,
    spec: &TaskSpec,
    task: Option<TaskId>,
    params: &Map<String, Value>,
) -> Result<Rehearsal, Failure> {
    let last = match task {
        Some(task) => last_success(session, task).await?,
        None => None,
    };
    let previous = last.as_ref().map_or(Value::Null, previous);
    let acceptance = terms.acceptance();
    let given = Given {
        now: acceptance.now,
        task,
        params: Some(params),
        event: last.as_ref().and_then(|run| run.event.as_ref()),
        previous: &previous,
        last: last.as_ref().map_or(&[], |run| &run.steps),
        catalogue: acceptance.catalogue,
        limits: &Limits::DEFAULT,
        most_bytes: MOST_BYTES,
    };
    Ok(rehearse(spec, &given))
}

async fn last_success(session: &Session, task: TaskId) -> Result<Option<RunRecord>, Failure> {
    let Session { store, caller, .. } = session;
    let filter = RunFilter { task: Some(task), states: vec![RunState::Succeeded], ..RunFilter::default() };
    // A list has no steps.
    match store.list_runs(caller, &filter, None, 1).await?.first() {
        Some(run) => Ok(Some(store.find_run(caller, run.id).await?)),
        None => Ok(None),
    }
}

/// `previous`, as the next run sees it.
fn previous(run: &RunRecord) -> Value {
    let whole = run.steps.iter().filter(|record| record.index.is_none());
    let steps: Map<String, Value> = whole.map(|record| (record.step.clone(), record.output.clone())).collect();
    json!({ "run": { "id": run.id }, "steps": steps })
}

/// Shows a rehearsal to people.
pub(crate) fn show(rehearsal: &Rehearsal, out: Out) -> Result<(), Failure> {
    let rows = rehearsal.all().map(|(only_on_failure, call)| {
        let verdict =
            if only_on_failure { format!("only if the run fails; {}", call.verdict) } else { call.verdict.to_string() };
        vec![
            clean(&call.name()),
            cut(&verdict, 120),
            cut(&call.call, 120),
            call.from.map_or_else(String::new, |from| from.as_str().replace('_', " ")),
            if call.input.is_null() { String::new() } else { cut(&call.input.to_string(), 160) },
        ]
    });
    out.table(&["STEP", "VERDICT", "CALL", "FROM", "INPUT"], rows.collect(), "no step")?;
    for (_, call) in rehearsal.all() {
        for note in &call.notes {
            out.line(format!("{}: {}", clean(&call.name()), cut(note, 300)))?;
        }
    }
    rehearsal.left_out.as_ref().map_or(Ok(()), |left_out| out.line(left_out))
}
