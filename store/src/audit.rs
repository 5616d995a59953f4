//! Who did what, when, through which client: one line a change, in the transaction of the change. Append-only.

use ordinaut_schema::id::{RunId, TaskId};
use serde_json::Value;
use sqlx::{Postgres, Transaction};

use crate::{Caller, StoreError, error::Doing as _};

/// Writes one line. `verb` is the name of the tool or command (`create_task`, `pause`, …).
pub(crate) async fn audit(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    verb: &str,
    task: Option<TaskId>,
    run: Option<RunId>,
    detail: Option<Value>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "
        insert into audit_log (agent_id, principal, client, verb, task_id, run_id, detail, http_request_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        ",
        caller.agent.uuid(),
        caller.principal,
        caller.client,
        verb,
        task.map(TaskId::uuid),
        run.map(RunId::uuid),
        detail,
        caller.http_request_id,
    )
    .execute(&mut **tx)
    .await
    .doing("write the audit log")?;
    Ok(())
}
