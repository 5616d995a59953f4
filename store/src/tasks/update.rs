//! New definitions for standing tasks.

use jiff::Timestamp;
use ordinaut_schema::{
    event::Topic,
    id::TaskId,
    task::{Accepted, TaskSpec, TaskState, ZoneSource, title_key},
};
use serde_json::json;
use sqlx::{Postgres, Transaction};

use crate::{
    Caller, Store, StoreError,
    audit::audit,
    connection::{at, transaction_now},
    error::Doing as _,
    planning::settle,
};

use super::{
    TaskRecord, TaskRef, counts_from, cursor, fields, has_clock, lock_task, read_task, tell_task, topic, write_stretch,
};

/// What an update asks for.
#[derive(Clone)]
struct Update {
    task: TaskId,
    accepted: Accepted,
    if_revision: Option<u32>,
    apply_to_pending: bool,
}

impl Store {
    /// Stores a new revision. Runs already planned keep theirs unless `apply_to_pending` (which spares those that
    /// were started). The cursor becomes the first occurrence after the later of now and the last planned one.
    ///
    /// Where the schedule stays as it was the cursor stays too. Where it does not, what the old one has yielded by now
    /// and nobody has planned yet is settled first, by the old definition: no occurrence is left out of the ledger.
    /// A snooze and occurrences to skip stand, like a pause, for the occurrences of the new schedule; a snooze that
    /// ends before the first of them is over.
    ///
    ///  A definition equal to the stored one changes nothing. A task
    /// that had ended is active again if its new schedule yields something.
    ///
    /// # Errors
    /// [`StoreError::RevisionChanged`], [`StoreError::TitleTaken`], [`StoreError::TaskState`] for a cancelled task.
    pub async fn update_task(
        &self,
        caller: &Caller,
        task: TaskId,
        accepted: &Accepted,
        if_revision: Option<u32>,
        apply_to_pending: bool,
    ) -> Result<TaskRecord, StoreError> {
        let who = caller.clone();
        let title = accepted.spec.title.clone();
        let asked = Update { task, accepted: accepted.clone(), if_revision, apply_to_pending };
        let updated = self
            .transaction_as(caller, "update a task", move |mut tx| async move {
                let record = update(&mut tx, &who, &asked).await?;
                Ok((record, tx))
            })
            .await;
        match updated {
            Ok(record) => {
                if let Some(due) = record.next_due_at {
                    self.wakeups.hint(due);
                }
                Ok(record)
            }
            Err(error) if error.constraint() == Some("task_title_taken") => {
                // The refused write ended its transaction: who has the title is read after it.
                let existing = self.find_task(caller, &TaskRef::Title(title.clone())).await?;
                Err(StoreError::TitleTaken { title, existing: existing.id })
            }
            Err(error) => Err(error),
        }
    }
}

async fn update(tx: &mut Transaction<'_, Postgres>, caller: &Caller, asked: &Update) -> Result<TaskRecord, StoreError> {
    let task = asked.task;
    let old = lock_task(tx, caller.agent, task).await?;
    if let Some(expected) = asked.if_revision
        && expected != old.revision
    {
        return Err(StoreError::RevisionChanged { task, expected, actual: old.revision });
    }
    if old.state == TaskState::Cancelled {
        return Err(StoreError::TaskState {
            task,
            reason: "it is cancelled, which is final; create a new task".into(),
        });
    }
    if old.spec == asked.accepted.spec && !asked.apply_to_pending {
        return Ok(old);
    }
    let now = transaction_now(tx).await?;
    let kept = same_occurrences(&old.spec, &asked.accepted.spec) && old.state != TaskState::Ended;
    let old = if kept {
        old
    } else {
        settle(tx, task, now).await?;
        read_task(tx, caller.agent, task).await?
    };
    write_revision(tx, caller, &old, asked, Cursor::after(&old, &asked.accepted, kept, now)?).await?;
    let applied = if asked.apply_to_pending { apply_to_pending(tx, task, old.revision + 1).await? } else { 0 };
    let detail = json!({ "from_revision": old.revision, "applied_to_pending": applied });
    audit(tx, caller, "update_task", Some(task), None, Some(detail.clone())).await?;
    tell_task(tx, caller, task, Topic::TaskUpdated, fields(detail)).await
}

/// From where the new schedule goes on, and what stands in its way.
struct Cursor {
    next_occurrence_at: Option<Timestamp>,
    next_due_at: Option<Timestamp>,
    snoozed_until: Option<Timestamp>,
    skip_next: u32,
}

impl Cursor {
    fn after(old: &TaskRecord, new: &Accepted, kept: bool, now: Timestamp) -> Result<Self, StoreError> {
        if kept {
            return Ok(Self {
                next_occurrence_at: old.next_occurrence_at,
                next_due_at: old.next_due_at,
                snoozed_until: old.snoozed_until,
                skip_next: old.skip_next,
            });
        }
        let spec = &new.spec;
        let last = old.last_occurrence_at.unwrap_or(Timestamp::MIN);
        let spent = spec.max_runs.is_some_and(|max| old.runs_planned >= u64::from(max));
        let found = if spent { None } else { cursor(old.id, new, counts_from(spec, now).max(last))? };
        let snoozed_until = old.snoozed_until.filter(|until| found.is_some_and(|(_, due)| due < *until));
        Ok(Self {
            next_occurrence_at: found.map(|(occurrence, _)| occurrence),
            next_due_at: found.map(|(_, due)| snoozed_until.unwrap_or(due)),
            snoozed_until,
            skip_next: if found.is_some() { old.skip_next } else { 0 },
        })
    }
}

async fn write_revision(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    old: &TaskRecord,
    asked: &Update,
    cursor: Cursor,
) -> Result<(), StoreError> {
    let spec = &asked.accepted.spec;
    let revision = i32::try_from(old.revision + 1).unwrap_or(i32::MAX);
    let ended = has_clock(spec.schedule_kind) && cursor.next_occurrence_at.is_none();
    let state = match old.state {
        _ if ended => TaskState::Ended,
        TaskState::Paused => TaskState::Paused,
        TaskState::Active | TaskState::Ended | TaskState::Cancelled => TaskState::Active,
    };
    if ended {
        write_stretch(tx, old).await?;
    }
    sqlx::query!(
        "
        insert into task_revision (task_id, revision, agent_id, definition, created_by)
        values ($1, $2, $3, $4, $5)
        ",
        old.id.uuid(),
        revision,
        old.agent.uuid(),
        spec.to_stored(),
        caller.principal,
    )
    .execute(&mut **tx)
    .await
    .doing("insert a revision")?;
    // An open stretch is written within the hour, whatever the schedule says.
    sqlx::query!(
        "
        update task
        set title = $2,
            title_key = $3,
            state = $4,
            revision = $5,
            schedule_kind = $6,
            topic = $7,
            next_occurrence_at = $8,
            next_due_at = case
                when $4 in ('active', 'paused') then least($9, resume_at, stretch_opened_at + interval '1 hour')
            end,
            snoozed_until = $10,
            skip_next = $11,
            zone_source = $12,
            stretch_reason = case when $4 in ('active', 'paused') then stretch_reason end,
            stretch_from = case when $4 in ('active', 'paused') then stretch_from end,
            stretch_to = case when $4 in ('active', 'paused') then stretch_to end,
            stretch_count = case when $4 in ('active', 'paused') then stretch_count end,
            stretch_opened_at = case when $4 in ('active', 'paused') then stretch_opened_at end,
            updated_at = clock_timestamp()
        where id = $1
        ",
        old.id.uuid(),
        spec.title,
        title_key(&spec.title),
        state.as_str(),
        revision,
        spec.schedule_kind.as_str(),
        topic(spec),
        at(cursor.next_occurrence_at) as _,
        at(cursor.next_due_at) as _,
        at(cursor.snoozed_until) as _,
        i32::try_from(cursor.skip_next).unwrap_or(i32::MAX),
        zone_source(old, &asked.accepted).map(ZoneSource::as_str),
    )
    .execute(&mut **tx)
    .await
    .doing("write a new revision")?;
    Ok(())
}

/// Why the zone is what it is. A definition read back names it whoever chose it: that is no new choice, but where
/// nothing was chosen because no zone was needed.
fn zone_source(old: &TaskRecord, new: &Accepted) -> Option<ZoneSource> {
    let was_chosen = old.zone_source != Some(ZoneSource::NotNeeded);
    if was_chosen && old.spec.timezone == new.spec.timezone { old.zone_source } else { Some(new.zone_source) }
}

/// Whether both yield the same occurrences at the same moments.
fn same_occurrences(a: &TaskSpec, b: &TaskSpec) -> bool {
    a.schedule_kind == b.schedule_kind
        && a.schedule_expr == b.schedule_expr
        && a.timezone == b.timezone
        && a.anchored_at == b.anchored_at
        && a.starts_at == b.starts_at
        && a.ends_at == b.ends_at
        && a.max_runs == b.max_runs
        && a.jitter == b.jitter
}

/// Gives runs that no attempt ever had the new revision; answers how many.
async fn apply_to_pending(tx: &mut Transaction<'_, Postgres>, task: TaskId, revision: u32) -> Result<u64, StoreError> {
    let applied = sqlx::query!(
        "
        update due_work
        set revision = $2
        where run_id in (
            select run_id
            from due_work
            where task_id = $1
              and attempt = 0
            order by run_id
            for update
        )
          and attempt = 0
        ",
        task.uuid(),
        i32::try_from(revision).unwrap_or(i32::MAX),
    )
    .execute(&mut **tx)
    .await
    .doing("apply a revision to pending runs")?;
    Ok(applied.rows_affected())
}
