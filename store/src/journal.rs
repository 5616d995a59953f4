//! The journal: what the steps of a run in flight did, committed before the next step starts.
//!
//! Every write names the lease, under a lock that recovery must wait for; a write whose lease is lost answers
//! [`StoreError::LeaseLost`] and changes nothing.

use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{StepRecord, StepState},
};
use serde_json::{Value, json};

use crate::{Store, claims::Lease, error::StoreError, unanswered::Within as _};

impl Store {
    /// Fixes `now` and `previous` when the run first starts; answers what is fixed (the earlier one, if there is one).
    pub async fn pin_run(&self, lease: Lease, pinned: &Value) -> Result<Value, StoreError> {
        sqlx::query_scalar!(
            r#"
            update due_work
            set pinned = coalesce(pinned, $3)
            where run_id = $1
              and lease_token = $2
            returning pinned as "pinned!"
            "#,
            lease.run.uuid(),
            lease.token.uuid(),
            pinned
        )
        .fetch_optional(&self.pool)
        .within(self, "pin a run")
        .await?
        .ok_or(StoreError::LeaseLost { run: lease.run })
    }

    /// Writes steps, started or finished, in one statement: one row a step or `foreach` item, replacing the earlier one.
    pub async fn write_steps(&self, lease: Lease, steps: &[StepRecord]) -> Result<(), StoreError> {
        let present = |value: &Value| (!value.is_null()).then(|| value.clone());
        let written = sqlx::query_file!(
            "queries/write_steps.sql",
            lease.run.uuid(),
            lease.token.uuid(),
            &steps.iter().map(|step| step.step.clone()).collect::<Vec<_>>(),
            &steps.iter().map(|step| item(step.index)).collect::<Vec<_>>(),
            &steps.iter().map(|step| step.uses.clone()).collect::<Vec<_>>(),
            &steps.iter().map(|step| step.state.as_str().to_owned()).collect::<Vec<_>>(),
            &steps.iter().map(|step| i32::try_from(step.calls).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
            &steps.iter().map(|step| present(&step.input)).collect::<Vec<_>>() as _,
            &steps.iter().map(|step| present(&step.output)).collect::<Vec<_>>() as _,
            &steps.iter().map(|step| step.error.as_ref().map(|error| json!(error))).collect::<Vec<_>>() as _,
            &steps.iter().map(|step| step.started_at.map(jiff_sqlx::ToSqlx::to_sqlx)).collect::<Vec<_>>() as _,
            &steps.iter().map(|step| step.finished_at.map(jiff_sqlx::ToSqlx::to_sqlx)).collect::<Vec<_>>() as _,
        )
        .execute(&self.pool)
        .within(self, "journal steps")
        .await?;
        if written.rows_affected() == 0 && !steps.is_empty() {
            return Err(StoreError::LeaseLost { run: lease.run });
        }
        Ok(())
    }

    /// What was journaled for a run, in the order in which steps were first written.
    pub async fn read_journal(&self, run: RunId) -> Result<Vec<StepRecord>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select step, item, uses, state, calls, input, output, error,
                   started_at as "started_at: jiff_sqlx::Timestamp",
                   finished_at as "finished_at: jiff_sqlx::Timestamp"
            from step_journal
            where run_id = $1
            order by position
            "#,
            run.uuid()
        )
        .fetch_all(&self.pool)
        .within(self, "read the journal of a run")
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(StepRecord {
                    state: StepState::from_text(&row.state).ok_or_else(|| {
                        StoreError::unreadable(format!("step `{}` of run {run}", row.step), row.state)
                    })?,
                    index: u32::try_from(row.item).ok(),
                    step: row.step,
                    uses: row.uses,
                    calls: u32::try_from(row.calls).unwrap_or(0),
                    input: row.input.unwrap_or_default(),
                    output: row.output.unwrap_or_default(),
                    error: row
                        .error
                        .map(serde_json::from_value)
                        .transpose()
                        .map_err(|error| StoreError::unreadable(format!("a step error of run {run}"), error))?,
                    started_at: row.started_at.map(jiff_sqlx::Timestamp::to_jiff),
                    finished_at: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
                })
            })
            .collect()
    }

    /// `{run, steps}` of the task's last succeeded run before this one, or `null`.
    pub async fn previous_run(&self, task: TaskId, before: RunId) -> Result<Value, StoreError> {
        let row = sqlx::query!(
            "
            select id, steps
            from run
            where task_id = $1
              and id < $2
              and state = 'succeeded'
            order by id desc
            limit 1
            ",
            task.uuid(),
            before.uuid()
        )
        .fetch_optional(&self.pool)
        .within(self, "read the previous run")
        .await?;
        let Some(row) = row else { return Ok(Value::Null) };
        let steps: Vec<StepRecord> = serde_json::from_value(row.steps)
            .map_err(|error| StoreError::unreadable(format!("the steps of run {}", row.id), error))?;
        let outputs: serde_json::Map<String, Value> =
            steps.into_iter().filter(|step| step.index.is_none()).map(|step| (step.step, step.output)).collect();
        Ok(json!({ "run": { "id": row.id }, "steps": outputs }))
    }
}

/// The journal's column for a `foreach` index.
pub(crate) fn item(index: Option<u32>) -> i32 {
    index.map_or(-1, |index| i32::try_from(index).unwrap_or(i32::MAX))
}
