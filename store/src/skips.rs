//! Occurrences that did not run, as history rows: one each for events and requests, one a stretch for schedules.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use ordinaut_schema::{
    event::Topic,
    id::{AgentId, OccurrenceKey, RunId, Shard, TaskId},
    planning::Stretch,
    run::{RunState, SkipReason, Trigger},
};
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    admission::{LockedTask, NewRun},
    error::{Doing as _, StoreError},
    outbox::{Told, tell},
};

/// An occurrence, or a stretch of them, that was skipped.
#[derive(Debug, Clone)]
pub(crate) struct Skipped {
    id: RunId,
    shard: Shard,
    agent: AgentId,
    task: TaskId,
    revision: i32,
    reason: SkipReason,
    trigger: Trigger,
    key: OccurrenceKey,
    occurrence_at: Timestamp,
    stretch: Option<(Timestamp, u32)>,
    cause_depth: u16,
    event: Option<Value>,
}

impl Skipped {
    /// The run that would have been.
    pub(crate) fn of(run: &NewRun, reason: SkipReason) -> Self {
        Self {
            id: run.id,
            shard: run.shard,
            agent: run.agent,
            task: run.task,
            revision: run.revision,
            reason,
            trigger: run.trigger,
            key: run.key.clone(),
            occurrence_at: run.occurrence_at,
            stretch: None,
            cause_depth: run.cause_depth,
            event: run.event.clone(),
        }
    }

    /// A stretch that ended; named by its first occurrence.
    pub(crate) fn stretch(task: &LockedTask, stretch: &Stretch) -> Self {
        let key = OccurrenceKey::at(stretch.from);
        Self {
            id: RunId::derive(task.id, &key, stretch.from, task.shard),
            shard: task.shard,
            agent: task.agent,
            task: task.id,
            revision: task.revision,
            reason: stretch.reason,
            trigger: Trigger::Schedule,
            key,
            occurrence_at: stretch.from,
            stretch: Some((stretch.to, stretch.count)),
            cause_depth: 0,
            event: None,
        }
    }
}

/// Writes skipped occurrences to history, with their events; answers those, for whoever lets tasks listen to them.
pub(crate) async fn write_skipped(
    tx: &mut Transaction<'_, Postgres>,
    skipped: &[Skipped],
) -> Result<Vec<Told>, StoreError> {
    if skipped.is_empty() {
        return Ok(Vec::new());
    }
    let each = |of: fn(&Skipped) -> Uuid| skipped.iter().map(of).collect::<Vec<_>>();
    let text = |of: fn(&Skipped) -> &str| skipped.iter().map(|it| of(it).to_owned()).collect::<Vec<_>>();
    sqlx::query!(
        "
        insert into run (
            id, shard, agent_id, task_id, revision, state, skip_reason, trigger, occurrence_key, occurrence_at,
            stretch_to, stretch_count, root_run_id, cause_depth, event, attempts, failures, crashes, planned_at,
            finished_at, steps
        )
        select
            id, shard, agent_id, task_id, revision, 'skipped', reason, trigger, key, occurrence_at, stretch_to,
            stretch_count, id, cause_depth, event, 0, 0, 0, now(), now(), '[]'
        from unnest(
            $1::uuid [], $2::smallint [], $3::uuid [], $4::uuid [], $5::integer [], $6::text [], $7::text [],
            $8::text [], $9::timestamptz [], $10::timestamptz [], $11::integer [], $12::smallint [], $13::jsonb []
        ) as skipped (
            id, shard, agent_id, task_id, revision, reason, trigger, key, occurrence_at, stretch_to, stretch_count,
            cause_depth, event
        )
        on conflict (id) do nothing
        ",
        &each(|it| it.id.uuid()),
        &skipped.iter().map(|it| i16::from(it.shard.0)).collect::<Vec<_>>(),
        &each(|it| it.agent.uuid()),
        &each(|it| it.task.uuid()),
        &skipped.iter().map(|it| it.revision).collect::<Vec<_>>(),
        &text(|it| it.reason.as_str()),
        &text(|it| it.trigger.as_str()),
        &text(|it| it.key.as_str()),
        &skipped.iter().map(|it| it.occurrence_at.to_sqlx()).collect::<Vec<_>>() as _,
        &skipped.iter().map(|it| it.stretch.map(|(to, _)| to.to_sqlx())).collect::<Vec<_>>() as _,
        &skipped
            .iter()
            .map(|it| it.stretch.map(|(_, count)| i32::try_from(count).unwrap_or(i32::MAX)))
            .collect::<Vec<_>>() as _,
        &skipped.iter().map(|it| i16::try_from(it.cause_depth).unwrap_or(i16::MAX)).collect::<Vec<_>>(),
        &skipped.iter().map(|it| it.event.clone()).collect::<Vec<_>>() as _,
    )
    .execute(&mut **tx)
    .await
    .doing("write skipped occurrences to history")?;

    let told: Vec<Told> = skipped
        .iter()
        .map(|it| Told {
            agent: it.agent,
            task: Some(it.task),
            run: Some(it.id),
            topic: Topic::RunSkipped.as_str().into(),
            cause_depth: it.cause_depth,
            payload: json!({
                "run_id": it.id,
                "task_id": it.task,
                "state": RunState::Skipped,
                "reason": it.reason,
                "scheduled_at": it.occurrence_at,
                "through": it.stretch.map(|(to, _)| to),
                "occurrences": it.stretch.map_or(1, |(_, count)| count),
            }),
        })
        .collect();
    tell(tx, &told).await?;
    Ok(told)
}
