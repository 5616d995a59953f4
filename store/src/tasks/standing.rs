//! Pause, resume, snooze, cancel: what stands in the way of a task's occurrences.
//!
//! These verbs only say what stands; what becomes of each occurrence is decided when the planner looks, by
//! `ordinaut_schema::planning`. Runs that exist are touched by cancelling alone.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use ordinaut_schema::{
    event::Topic,
    id::{RunId, TaskId},
    limits::Limits,
    planning::first_cursor,
    task::TaskState,
};
use serde_json::{Map, json};
use sqlx::{Postgres, Transaction};

use crate::{
    Caller, Store, StoreError,
    admission::admit,
    audit::audit,
    connection::{at, transaction_now},
    error::Doing as _,
    runs::{Live, cancel_live},
};

use super::{Snooze, TaskRecord, fields, has_clock, lock_task, tell_task, write_stretch};

/// An open stretch is written to history after that long, snoozed or not.
const STRETCH_AGE: Duration = Duration::from_hours(1);
impl Store {
    /// Pauses: occurrences pass as skipped until `until`, or until resumed. Pausing a paused task moves `until`.
    ///
    /// # Errors
    /// [`StoreError::TaskState`] for a task that has ended or is cancelled, and for an `until` that has gone by.
    pub async fn pause_task(
        &self,
        caller: &Caller,
        task: TaskId,
        until: Option<Timestamp>,
        because: Option<&str>,
    ) -> Result<TaskRecord, StoreError> {
        let (who, because) = (caller.clone(), because.map(str::to_owned));
        let paused = self
            .transaction_as(caller, "pause a task", move |mut tx| async move {
                let old = lock_live(&mut tx, &who, task).await?;
                if let Some(until) = until {
                    refuse_past(&mut tx, task, until).await?;
                }
                // With an end the planner has to look then, whatever the schedule says; without one, it looks when
                // the schedule says, as before an earlier end.
                sqlx::query!(
                    "
                    update task
                    set state = 'paused',
                        resume_at = $2,
                        paused_because = $3,
                        next_due_at = least(
                            case when next_occurrence_at is not null then coalesce(next_due_at, now()) end, $2
                        ),
                        updated_at = clock_timestamp()
                    where id = $1
                    ",
                    old.id.uuid(),
                    at(until) as _,
                    because,
                )
                .execute(&mut *tx)
                .await
                .doing("pause a task")?;
                let detail = json!({ "until": until, "because": because });
                audit(&mut tx, &who, "pause", Some(task), None, Some(detail.clone())).await?;
                let record = tell_task(&mut tx, &who, task, Topic::TaskPaused, fields(detail)).await?;
                Ok((record, tx))
            })
            .await?;
        self.hint_due(&paused);
        Ok(paused)
    }

    /// Resumes; what passed meanwhile is not caught up. Resuming an active task changes nothing.
    ///
    /// # Errors
    /// [`StoreError::TaskState`] for a task that has ended or is cancelled.
    pub async fn resume_task(&self, caller: &Caller, task: TaskId) -> Result<TaskRecord, StoreError> {
        let who = caller.clone();
        let resumed = self
            .transaction_as(caller, "resume a task", move |mut tx| async move {
                let old = lock_live(&mut tx, &who, task).await?;
                if old.state == TaskState::Active {
                    return Ok((old, tx));
                }
                // The planner looks at once, and settles what passed as paused.
                sqlx::query!(
                    "
                    update task
                    set state = 'active',
                        resume_at = null,
                        paused_because = null,
                        failures_in_row = 0,
                        pass_until = clock_timestamp(),
                        pass_reason = 'paused',
                        next_due_at = case when next_occurrence_at is not null then clock_timestamp() end,
                        updated_at = clock_timestamp()
                    where id = $1
                    ",
                    task.uuid(),
                )
                .execute(&mut *tx)
                .await
                .doing("resume a task")?;
                audit(&mut tx, &who, "resume", Some(task), None, None).await?;
                let record = tell_task(&mut tx, &who, task, Topic::TaskResumed, Map::new()).await?;
                Ok((record, tx))
            })
            .await?;
        self.hint_due(&resumed);
        Ok(resumed)
    }

    /// Puts off what comes next; runs that exist are left alone. A new snooze replaces an earlier one of its kind, and
    /// one that ends before the next occurrence is due puts off nothing: the task is not snoozed then.
    ///
    /// # Errors
    /// [`StoreError::TaskState`] for a task that is not active, or that no clock makes due.
    pub async fn snooze_task(&self, caller: &Caller, task: TaskId, snooze: Snooze) -> Result<TaskRecord, StoreError> {
        let who = caller.clone();
        let snoozed = self
            .transaction_as(caller, "snooze a task", move |mut tx| async move {
                let old = lock_live(&mut tx, &who, task).await?;
                if old.state == TaskState::Paused {
                    return Err(refused(task, "it is paused, so nothing of it is due; resume it first"));
                }
                if !has_clock(old.spec.schedule_kind) {
                    let why = format!(
                        "a schedule of kind `{}` has no next occurrence to put off; pause it instead",
                        old.spec.schedule_kind
                    );
                    return Err(refused(task, why));
                }
                let detail = match snooze {
                    Snooze::Until(until) => {
                        snooze_until(&mut tx, &old, until).await?;
                        json!({ "until": until })
                    }
                    Snooze::Skip(count) => {
                        skip_next(&mut tx, &old, count).await?;
                        json!({ "skip": count })
                    }
                };
                audit(&mut tx, &who, "snooze", Some(task), None, Some(detail.clone())).await?;
                let record = tell_task(&mut tx, &who, task, Topic::TaskSnoozed, fields(detail)).await?;
                Ok((record, tx))
            })
            .await?;
        self.hint_due(&snoozed);
        Ok(snoozed)
    }

    /// Cancels for good, and asks its live runs to stop; answers with those runs. Cancelling again changes nothing.
    pub async fn cancel_task(&self, caller: &Caller, task: TaskId) -> Result<(TaskRecord, Vec<RunId>), StoreError> {
        let who = caller.clone();
        self.transaction_as(caller, "cancel a task", move |mut tx| async move {
            let old = lock_task(&mut tx, who.agent, task).await?;
            if old.state == TaskState::Cancelled {
                return Ok(((old, Vec::new()), tx));
            }
            write_stretch(&mut tx, &old).await?;
            sqlx::query!(
                "
                update task
                set state = 'cancelled',
                    next_occurrence_at = null,
                    next_due_at = null,
                    resume_at = null,
                    snoozed_until = null,
                    skip_next = 0,
                    stretch_reason = null,
                    stretch_from = null,
                    stretch_to = null,
                    stretch_count = null,
                    stretch_opened_at = null,
                    updated_at = clock_timestamp()
                where id = $1
                ",
                task.uuid(),
            )
            .execute(&mut *tx)
            .await
            .doing("cancel a task")?;
            let live = cancel_live(&mut tx, Live::OfTasks(&[task]), "the task was cancelled").await?;
            // What its runs held goes to those of other tasks that wait under the same keys.
            let keys =
                live.cancelled.iter().filter_map(|run| Some((run.agent, run.concurrency_key.clone()?))).collect();
            admit(&mut tx, &[], &keys).await?;
            let cancelled = live.cancelled.iter().map(|run| run.id);
            let mut runs: Vec<_> = cancelled.chain(live.requested).collect();
            runs.sort_unstable();
            let detail = json!({ "runs": runs });
            audit(&mut tx, &who, "cancel", Some(task), None, Some(detail.clone())).await?;
            let record = tell_task(&mut tx, &who, task, Topic::TaskCancelled, fields(detail)).await?;
            Ok(((record, runs), tx))
        })
        .await
    }

    fn hint_due(&self, record: &TaskRecord) {
        if let Some(due) = record.next_due_at {
            self.wakeups.hint(due);
        }
    }
}

fn refused(task: TaskId, reason: impl Into<String>) -> StoreError {
    StoreError::TaskState { task, reason: reason.into() }
}

/// Locks a task that still has a future.
async fn lock_live(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    task: TaskId,
) -> Result<TaskRecord, StoreError> {
    let record = lock_task(tx, caller.agent, task).await?;
    match record.state {
        TaskState::Active | TaskState::Paused => Ok(record),
        TaskState::Ended => Err(refused(task, "it has ended, no occurrence is left; give it a new schedule first")),
        TaskState::Cancelled => Err(refused(task, "it is cancelled, which is final; create a new task")),
    }
}

async fn refuse_past(tx: &mut Transaction<'_, Postgres>, task: TaskId, until: Timestamp) -> Result<(), StoreError> {
    let now = transaction_now(tx).await?;
    if until <= now {
        return Err(refused(task, format!("{until} has gone by, it is {now} now; name an instant to come")));
    }
    Ok(())
}

async fn snooze_until(
    tx: &mut Transaction<'_, Postgres>,
    old: &TaskRecord,
    until: Timestamp,
) -> Result<(), StoreError> {
    refuse_past(tx, old.id, until).await?;
    let due = due_unsnoozed(old)?;
    let until = Some(until).filter(|until| due.is_some_and(|due| due < *until));
    let due = due.map(|due| until.unwrap_or(due));
    let write = old.open_stretch.map(|open| open.opened_at + STRETCH_AGE);
    sqlx::query!(
        "
        update task
        set snoozed_until = $2,
            next_due_at = $3,
            updated_at = clock_timestamp()
        where id = $1
        ",
        old.id.uuid(),
        at(until) as _,
        at([due, write].into_iter().flatten().min()) as _,
    )
    .execute(&mut **tx)
    .await
    .doing("snooze a task")?;
    Ok(())
}

async fn skip_next(tx: &mut Transaction<'_, Postgres>, old: &TaskRecord, count: u32) -> Result<(), StoreError> {
    sqlx::query!(
        "update task set skip_next = $2, updated_at = clock_timestamp() where id = $1",
        old.id.uuid(),
        i32::try_from(count).unwrap_or(i32::MAX),
    )
    .execute(&mut **tx)
    .await
    .doing("skip occurrences of a task")?;
    Ok(())
}

/// When the next occurrence is due without a snooze: an earlier one may be shortened.
fn due_unsnoozed(old: &TaskRecord) -> Result<Option<Timestamp>, StoreError> {
    let Some(next) = old.next_occurrence_at else { return Ok(None) };
    let schedule = old
        .spec
        .schedule(&Limits::DEFAULT)
        .map_err(|faults| StoreError::unreadable(format!("the schedule of task {}", old.id), faults))?;
    let cursor = first_cursor(old.id, &old.spec, &schedule, next - 1.nanosecond())
        .map_err(|gave_up| refused(old.id, gave_up.to_string()))?;
    Ok(Some(cursor.map_or(next, |(_, due)| due)))
}
