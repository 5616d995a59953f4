//! The short way to history: of runs that ended well and whose end means nothing for others, all of a batch in one
//! statement. Most are such runs.
//!
//! Whether one is, is seen twice: by its timeline here, and by its row and what stands beside it in the statement. What
//! is left goes the long way, in the same transaction.

use std::collections::HashMap;

use ordinaut_schema::{
    id::{AgentId, LeaseToken, RunId, TaskId},
    run::{StepRecord, Verdict},
};
use serde_json::Value;
use sqlx::{
    Postgres, Transaction,
    types::{Json, Uuid},
};

use super::{Conclusion, locks::Held};
use crate::{
    claims::Lease,
    error::{Doing as _, StoreError},
};

/// Actions that leave something behind for whoever ends the run: sub-runs and approvals.
const LEAVE: [&str; 2] = ["task.run", "approval.request"];

/// The output of a run that may go the short way.
pub(super) fn output_of(conclusion: &Conclusion) -> Option<&Value> {
    let Verdict::Succeeded { output } = &conclusion.verdict else { return None };
    // An empty timeline is in the journal.
    let leaves = |step: &StepRecord| LEAVE.contains(&step.uses.as_str());
    (!conclusion.steps.is_empty() && !conclusion.steps.iter().any(leaves)).then_some(output)
}

/// Ends those that are plain; answers what they were.
pub(super) async fn end_plainly(
    tx: &mut Transaction<'_, Postgres>,
    conclusions: &[Conclusion],
) -> Result<HashMap<Lease, Held>, StoreError> {
    let mut given: Vec<(&Conclusion, &Value)> =
        conclusions.iter().filter_map(|it| Some((it, output_of(it)?))).collect();
    given.sort_unstable_by_key(|(it, _)| it.lease.run);
    let runs: Vec<Uuid> = given.iter().map(|(it, _)| it.lease.run.uuid()).collect();
    let tokens: Vec<Uuid> = given.iter().map(|(it, _)| it.lease.token.uuid()).collect();
    let outputs: Vec<_> = given.iter().map(|(_, output)| (!output.is_null()).then_some(Json(output))).collect();
    let timelines: Vec<_> = given.iter().map(|(it, _)| Json(&it.steps)).collect();
    let rows = sqlx::query_file!("queries/end_plainly.sql", &runs, &tokens, &outputs as _, &timelines as _)
        .fetch_all(&mut **tx)
        .await
        .doing("write runs to history")?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let run = RunId::from_uuid(row.run_id);
            let held = Held {
                run,
                agent: AgentId::from_uuid(row.agent_id),
                task: TaskId::from_uuid(row.task_id),
                occurrence_at: row.occurrence_at.to_jiff(),
                cause_depth: u16::try_from(row.cause_depth).unwrap_or(0),
                serial: row.serial,
                concurrency_key: row.concurrency_key,
                cancel: None,
            };
            (Lease { run, token: LeaseToken::from_uuid(row.lease_token) }, held)
        })
        .collect())
}
