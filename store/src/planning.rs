//! Planning: tasks that are due are locked, decided by [`ordinaut_schema::planning::plan`], and written, in one
//! transaction. Any number of executors may plan: the lock skips what another is planning, and the cursor only moves
//! forward.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use ordinaut_schema::{
    event::Topic,
    id::{AgentId, OccurrenceKey, Shard, TaskId},
    limits::Limits,
    planning::{Duplicates, Plan, Standing, Stretch, plan},
    run::{SkipReason, Trigger},
    task::{Dedupe, TaskSpec, TaskState},
};
use serde_json::json;
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    Store,
    admission::{Live, LockedTask, NewRun, enter_runs, live_runs},
    connection::at,
    duplicates::{Keys, key_of},
    error::{Doing as _, StoreError},
    inbound::trigger_own,
    outbox::{Told, tell},
    runs::{self, cancel_live},
    skips::{Skipped, write_skipped},
};

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned {
    /// Tasks looked at; as many as asked means there may be more.
    pub tasks: u32,
    pub runs: u32,
    pub skipped: u32,
    /// Waiting runs that became pending.
    pub woken: u32,
    /// The earliest instant at which something will be due.
    pub next_due_at: Option<Timestamp>,
    /// The database's clock when it was read.
    pub now: Option<Timestamp>,
}

/// A due task under its lock.
struct DueTask {
    task: LockedTask,
    title: String,
    state: TaskState,
    standing: Standing,
    spec: Result<TaskSpec, String>,
    /// The key of its occurrences: no event tells them apart.
    dedupe: Option<Dedupe>,
}

/// A due task, decided.
struct Decided {
    task: LockedTask,
    title: String,
    state: TaskState,
    /// Why it was paused, if planning paused it.
    because: Option<String>,
    plan: Plan,
}

impl Store {
    /// Plans up to `limit` due tasks, wakes waiting runs whose instant has come, and says when to look again.
    pub async fn plan_due(&self, limit: u32) -> Result<Planned, StoreError> {
        let planned = self
            .transaction("plan due tasks", move |mut tx| async move {
                let planned = plan_round(&mut tx, limit).await?;
                Ok((planned, tx))
            })
            .await?;
        if planned.runs + planned.woken > 0 {
            // Other executors may have permits free.
            self.wakeups.hint(Timestamp::UNIX_EPOCH);
        }
        Ok(planned)
    }
}

async fn plan_round(tx: &mut Transaction<'_, Postgres>, limit: u32) -> Result<Planned, StoreError> {
    let now = sqlx::query_scalar!(r#"select now() as "now!: jiff_sqlx::Timestamp""#)
        .fetch_one(&mut **tx)
        .await
        .doing("read the database's clock")?
        .to_jiff();
    let due = lock_due(tx, limit).await?;
    let tasks = u32::try_from(due.len()).unwrap_or(u32::MAX);
    let live = live_runs(tx, &due.iter().map(|due| due.task.id.uuid()).collect::<Vec<_>>()).await?;

    let mut decided = Vec::with_capacity(due.len());
    let mut entering = Vec::new();
    let mut skipped = Vec::new();
    let mut cancelling = Vec::new();
    let mut keys = lock_keys(tx, &due).await?;
    for mut due in due {
        let live = live.get(&due.task.id).copied().unwrap_or_default();
        due.standing.live_runs = live.holders;
        due.standing.queued_runs = live.all();
        let one = decide(due, live, now, &mut keys, &mut entering);
        skipped.extend(one.plan.closed.iter().map(|stretch| Skipped::stretch(&one.task, stretch)));
        if one.plan.cancel_live {
            cancelling.push(one.task.id);
        }
        decided.push(one);
    }
    if !cancelling.is_empty() {
        cancel_live(tx, runs::Live::OfTasks(&cancelling), "a newer occurrence is due").await?;
        take_turns_again(tx, &cancelling, &mut entering).await?;
    }
    move_cursors(tx, &decided).await?;
    keys.write(tx).await?;
    enter_runs(tx, &entering).await?;
    let mut told = write_skipped(tx, &skipped).await?;
    told.extend(tell_changes(tx, &decided).await?);
    if !told.is_empty() {
        trigger_own(tx, &told).await?;
    }
    let woken = wake(tx, limit).await?;
    Ok(Planned {
        tasks,
        runs: u32::try_from(entering.len()).unwrap_or(u32::MAX),
        skipped: u32::try_from(skipped.len()).unwrap_or(u32::MAX),
        woken,
        next_due_at: next_due(tx).await?,
        now: Some(now),
    })
}

/// Locks the ledger rows of what these tasks' runs are known by. After the tasks, as everyone does.
async fn lock_keys(tx: &mut Transaction<'_, Postgres>, due: &[DueTask]) -> Result<Keys, StoreError> {
    Keys::lock(tx, due.iter().filter_map(|due| Some((due.task.agent, due.dedupe.as_ref()?.key.clone())))).await
}

/// Decides anew whose turn it is, of tasks whose live runs were just cancelled: those that were idle are gone.
async fn take_turns_again(
    tx: &mut Transaction<'_, Postgres>,
    tasks: &[TaskId],
    entering: &mut [NewRun],
) -> Result<(), StoreError> {
    let live = live_runs(tx, &tasks.iter().map(|task| task.uuid()).collect::<Vec<_>>()).await?;
    for task in tasks {
        let mut taken = live.get(task).copied().unwrap_or_default().all() > 0;
        for run in entering.iter_mut().filter(|run| run.task == *task) {
            run.blocked = taken;
            taken = true;
        }
    }
    Ok(())
}

/// Asks the plan, and turns its occurrences into runs. A schedule that cannot be followed pauses its task.
fn decide(due: DueTask, live: Live, now: Timestamp, keys: &mut Keys, entering: &mut Vec<NewRun>) -> Decided {
    let DueTask { task, title, state, mut standing, spec, dedupe } = due;
    // Now, not when the rows were locked: a task before this one may have taken the key.
    standing.duplicates = dedupe.as_ref().map(|Dedupe { key, window }| Duplicates {
        window: *window,
        seen_at: keys.seen(task.agent, key).map(|seen| seen.occurrence_at),
    });
    let planned = spec.and_then(|spec| {
        let schedule = spec.schedule(&Limits::DEFAULT).map_err(|faults| faults.to_string())?;
        let plan = plan(task.id, &spec, &schedule, &standing, now).map_err(|gave_up| gave_up.to_string())?;
        Ok((spec, plan))
    });
    let (spec, plan) = match planned {
        Ok(planned) => planned,
        Err(why) => {
            let plan = Plan {
                next_occurrence_at: standing.next_occurrence_at,
                last_occurrence_at: standing.last_occurrence_at,
                runs_planned: standing.runs_planned,
                open: standing.open_stretch,
                ..Plan::default()
            };
            let because = Some(format!("its schedule cannot be followed: {why}"));
            return Decided { task, title, state: TaskState::Paused, because, plan };
        }
    };
    let mut taken = live.all() > 0;
    for planned in &plan.runs {
        let key = OccurrenceKey::at(planned.occurrence_at);
        let mut run = NewRun::of(&task, &spec, Trigger::Schedule, key, planned.occurrence_at, planned.due_at);
        run.serial = planned.serial;
        run.blocked = planned.serial && taken;
        taken = true;
        if let Some(Dedupe { key, .. }) = &dedupe {
            keys.take(task.agent, key, run.id, run.occurrence_at, now);
        }
        entering.push(run);
    }
    let state = match state {
        _ if plan.ended => TaskState::Ended,
        TaskState::Paused if plan.resumed => TaskState::Active,
        state => state,
    };
    Decided { task, title, state, because: None, plan }
}

async fn lock_due(tx: &mut Transaction<'_, Postgres>, limit: u32) -> Result<Vec<DueTask>, StoreError> {
    use jiff_sqlx::Timestamp as Instant;
    let rows = sqlx::query_file!("queries/lock_due_tasks.sql", i64::from(limit))
        .fetch_all(&mut **tx)
        .await
        .doing("lock due tasks")?;
    rows.into_iter()
        .map(|row| {
            let id = TaskId::from_uuid(row.id);
            let reason = |text: Option<String>| text.as_deref().and_then(SkipReason::from_text);
            let state = TaskState::from_text(&row.state)
                .ok_or_else(|| StoreError::unreadable(format!("the state of task {id}"), row.state))?;
            let stretch = reason(row.stretch_reason)
                .zip(row.stretch_from)
                .zip(row.stretch_to)
                .zip(row.stretch_count)
                .zip(row.stretch_opened_at)
                .map(|((((reason, from), to), count), opened_at)| Stretch {
                    reason,
                    from: from.to_jiff(),
                    to: to.to_jiff(),
                    count: u32::try_from(count).unwrap_or(0),
                    opened_at: opened_at.to_jiff(),
                });
            let spec = TaskSpec::from_stored(row.definition).map_err(|error| error.to_string());
            Ok(DueTask {
                dedupe: spec.as_ref().ok().and_then(|spec| key_of(spec, id, None, None)),
                task: LockedTask {
                    id,
                    shard: Shard(u8::try_from(row.shard).unwrap_or(0)),
                    agent: AgentId::from_uuid(row.agent_id),
                    revision: row.revision,
                },
                title: row.title,
                state,
                standing: Standing {
                    next_occurrence_at: row.next_occurrence_at.map(Instant::to_jiff),
                    last_occurrence_at: row.last_occurrence_at.map(Instant::to_jiff),
                    runs_planned: u64::try_from(row.runs_planned).unwrap_or(0),
                    paused: state == TaskState::Paused,
                    resume_at: row.resume_at.map(Instant::to_jiff),
                    pass: row.pass_until.map(Instant::to_jiff).zip(reason(row.pass_reason)),
                    snoozed_until: row.snoozed_until.map(Instant::to_jiff),
                    skip_next: u32::try_from(row.skip_next).unwrap_or(0),
                    open_stretch: stretch,
                    live_runs: 0,
                    queued_runs: 0,
                    duplicates: None,
                },
                spec,
            })
        })
        .collect()
}

async fn move_cursors(tx: &mut Transaction<'_, Postgres>, decided: &[Decided]) -> Result<(), StoreError> {
    if decided.is_empty() {
        return Ok(());
    }
    let instants = |of: fn(&Decided) -> Option<Timestamp>| decided.iter().map(|it| at(of(it))).collect::<Vec<_>>();
    let open = |of: fn(&Stretch) -> Timestamp| {
        decided.iter().map(|it| it.plan.open.as_ref().map(|open| of(open).to_sqlx())).collect::<Vec<_>>()
    };
    sqlx::query_file!(
        "queries/move_cursors.sql",
        &decided.iter().map(|it| it.task.id.uuid()).collect::<Vec<Uuid>>(),
        &instants(|it| it.plan.next_occurrence_at) as _,
        &instants(|it| it.plan.next_due_at) as _,
        &instants(|it| it.plan.last_occurrence_at) as _,
        &decided.iter().map(|it| i64::try_from(it.plan.runs_planned).unwrap_or(i64::MAX)).collect::<Vec<_>>(),
        &instants(|it| it.plan.snoozed_until) as _,
        &decided.iter().map(|it| i32::try_from(it.plan.skip_next).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
        &decided.iter().map(|it| it.state.as_str().to_owned()).collect::<Vec<_>>(),
        &decided.iter().map(|it| it.because.clone()).collect::<Vec<_>>() as _,
        &decided.iter().map(|it| it.plan.open.map(|open| open.reason.as_str().to_owned())).collect::<Vec<_>>() as _,
        &open(|open| open.from) as _,
        &open(|open| open.to) as _,
        &decided
            .iter()
            .map(|it| it.plan.open.map(|open| i32::try_from(open.count).unwrap_or(i32::MAX)))
            .collect::<Vec<_>>() as _,
        &open(|open| open.opened_at) as _,
    )
    .execute(&mut **tx)
    .await
    .doing("move cursors")?;
    Ok(())
}

/// Tells of tasks that ended, resumed by themselves, or had to be paused.
async fn tell_changes(tx: &mut Transaction<'_, Postgres>, decided: &[Decided]) -> Result<Vec<Told>, StoreError> {
    let told: Vec<Told> = decided
        .iter()
        .filter_map(|it| {
            let topic = match (it.state, &it.because) {
                (TaskState::Ended, _) => Topic::TaskEnded,
                (TaskState::Paused, Some(_)) => Topic::TaskPaused,
                (TaskState::Active, _) if it.plan.resumed => Topic::TaskResumed,
                _ => return None,
            };
            Some(Told {
                agent: it.task.agent,
                task: Some(it.task.id),
                run: None,
                topic: topic.as_str().into(),
                cause_depth: 0,
                payload: json!({ "task_id": it.task.id, "title": it.title, "because": it.because }),
            })
        })
        .collect();
    tell(tx, &told).await?;
    Ok(told)
}

/// Makes waiting runs pending whose instant has come.
async fn wake(tx: &mut Transaction<'_, Postgres>, limit: u32) -> Result<u32, StoreError> {
    let woken = sqlx::query!(
        "
        update due_work
        set state = 'pending',
            rank = (extract(epoch from wake_at) * 1000000)::bigint + (priority - 1) * 30000000::bigint,
            wake_at = null
        where ctid = any (array(
            select waiting.ctid
            from due_work as waiting
            where waiting.state = 'waiting'
              and waiting.wake_at <= now()
            order by waiting.wake_at
            limit $1
            for update skip locked
        ))
        ",
        i64::from(limit)
    )
    .execute(&mut **tx)
    .await
    .doing("wake waiting runs")?;
    Ok(u32::try_from(woken.rows_affected()).unwrap_or(u32::MAX))
}

async fn next_due(tx: &mut Transaction<'_, Postgres>) -> Result<Option<Timestamp>, StoreError> {
    let next = sqlx::query_scalar!(
        r#"
        select least(
            (select min(next_due_at) from task where next_due_at is not null),
            (select min(wake_at) from due_work where state = 'waiting')
        ) as "next: jiff_sqlx::Timestamp"
        "#
    )
    .fetch_one(&mut **tx)
    .await
    .doing("look for the next instant")?;
    Ok(next.map(jiff_sqlx::Timestamp::to_jiff))
}
