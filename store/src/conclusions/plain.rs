//! The short way to history: of runs that ended well and whose end means nothing for others, all of a batch in one
//! statement. Most are such runs.
//!
//! Whether one is, is seen twice: by its timeline here, and by its row and what stands beside it in the statement. What
//! is left goes the long way, in the same transaction.

use ordinaut_schema::{
    event::Topic,
    id::{AgentId, LeaseToken, RunId, TaskId},
    run::{StepRecord, Verdict},
};
use serde_json::Value;
use sqlx::{
    Postgres, Transaction,
    types::{Json, Uuid},
};

use super::Conclusion;
use crate::{
    afterwards,
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

/// A run that is over: what it held.
pub(super) struct Plain {
    pub(super) lease: Lease,
    pub(super) agent: AgentId,
    pub(super) task: TaskId,
    pub(super) serial: bool,
    pub(super) concurrency_key: Option<String>,
}

/// Ends those that are plain, and tells of them; answers which they were.
pub(super) async fn end_plainly(
    tx: &mut Transaction<'_, Postgres>,
    conclusions: &[Conclusion],
) -> Result<Vec<Plain>, StoreError> {
    let mut given: Vec<(&Conclusion, &Value)> =
        conclusions.iter().filter_map(|it| Some((it, output_of(it)?))).collect();
    given.sort_unstable_by_key(|(it, _)| it.lease.run);
    let runs: Vec<Uuid> = given.iter().map(|(it, _)| it.lease.run.uuid()).collect();
    let tokens: Vec<Uuid> = given.iter().map(|(it, _)| it.lease.token.uuid()).collect();
    let outputs: Vec<_> = given.iter().map(|(_, output)| (!output.is_null()).then_some(Json(output))).collect();
    let timelines: Vec<_> = given.iter().map(|(it, _)| Json(&it.steps)).collect();
    let topic = Topic::RunSucceeded.as_str();
    let rows = sqlx::query_file!("queries/end_plainly.sql", &runs, &tokens, &outputs as _, &timelines as _, topic)
        .fetch_all(&mut **tx)
        .await
        .doing("write runs to history")?;
    if !rows.is_empty() {
        afterwards::told();
    }
    Ok(rows
        .into_iter()
        .map(|row| Plain {
            lease: Lease { run: RunId::from_uuid(row.run_id), token: LeaseToken::from_uuid(row.lease_token) },
            agent: AgentId::from_uuid(row.agent_id),
            task: TaskId::from_uuid(row.task_id),
            serial: row.serial,
            concurrency_key: row.concurrency_key,
        })
        .collect())
}
