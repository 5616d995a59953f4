//! Waking parked runs: what they wait for has come.

use ordinaut_schema::id::RunId;
use sqlx::{Postgres, Transaction};

use crate::error::{Doing as _, StoreError};

/// Makes `run` claimable as soon as this transaction is committed and the next wake-up round has passed; the caller
/// hints. A run that is not parked yet will not wait when it is; one that is over is left alone.
#[expect(dead_code, reason = "approvals and sub-runs, which wake runs, are on their way")]
pub(crate) async fn wake_run(tx: &mut Transaction<'_, Postgres>, run: RunId) -> Result<(), StoreError> {
    sqlx::query!(
        "
        update due_work
        set wake_asked = true,
            wake_at = case when state = 'waiting' then least(wake_at, now()) end
        where run_id = $1
        ",
        run.uuid()
    )
    .execute(&mut **tx)
    .await
    .doing("wake a parked run")?;
    Ok(())
}
