//! Parked runs: what wakes them, and what their waiting is reckoned by.

use ordinaut_schema::{id::RunId, time::Zone};
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    Store,
    afterwards::due,
    error::{Doing as _, StoreError},
    unanswered::Within as _,
};

impl Store {
    /// The zone of the definition that a live run was planned with; UTC where it is known no more.
    pub async fn zone_of_run(&self, run: RunId) -> Result<Zone, StoreError> {
        let name = sqlx::query_scalar!(
            r#"
            select task_revision.definition ->> 'timezone'
            from due_work
            join task_revision
                on task_revision.task_id = due_work.task_id and task_revision.revision = due_work.revision
            where due_work.run_id = $1
            "#,
            run.uuid()
        )
        .fetch_optional(&self.pool)
        .within(self, "read the zone of a run")
        .await?;
        Ok(name.flatten().as_deref().and_then(Zone::find).unwrap_or_else(Zone::utc))
    }
}

/// Makes `run` claimable as soon as this transaction is committed and the next wake-up round has passed. A run that is not parked yet will not wait when it is; one that is over is left alone.
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
    due();
    Ok(())
}

/// As [`wake_run`], each of several.
pub(crate) async fn wake_runs(tx: &mut Transaction<'_, Postgres>, runs: &[Uuid]) -> Result<(), StoreError> {
    for run in runs {
        wake_run(tx, RunId::from_uuid(*run)).await?;
    }
    Ok(())
}
