//! Planning: tasks that are due are locked, decided by [`ordinaut_schema::planning::plan`], and written, in one
//! transaction. Any number of executors may plan: the lock skips what another is planning, and the cursor only moves
//! forward.

mod ahead;
mod row;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use ordinaut_schema::{
    event::Topic,
    id::{OccurrenceKey, TaskId},
    limits::Limits,
    planning::{Duplicates, Plan, Reach, Stretch, plan},
    run::Trigger,
    task::{Dedupe, TaskSpec, TaskState},
};
use serde_json::json;
use sqlx::{Postgres, Transaction, types::Uuid};

pub use self::ahead::Ahead;
use self::row::{DueRow, DueTask};
use crate::{
    Store,
    admission::{Live, LockedTask, NewRun, enter_runs, live_runs},
    budgets::{Budgets, lock_agents},
    connection::at,
    duplicates::Keys,
    error::{Doing as _, StoreError},
    faults,
    inbound::trigger_own,
    outbox::{Told, tell},
    runs::{self, cancel_live},
    skips::{Skipped, write_skipped},
};

/// What one round did.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// Tasks looked at; as many as asked means there may be more.
    pub tasks: u32,
    pub runs: u32,
    pub skipped: u32,
    /// Of the tasks that there are runs of now, in the revision that they were planned in.
    pub definitions: Vec<((TaskId, u32), TaskSpec)>,
}

/// What runs take that several tasks have in common.
struct Ledger {
    keys: Keys,
    budgets: Budgets,
}

/// A due task, decided.
struct Decided {
    task: LockedTask,
    title: String,
    state: TaskState,
    /// Why it was paused, if planning paused it.
    because: Option<String>,
    plan: Plan,
    /// What its runs do, if there are any.
    spec: Option<TaskSpec>,
}

impl Store {
    /// Plans up to `limit` due tasks.
    pub async fn plan_due(&self, limit: u32) -> Result<Planned, StoreError> {
        self.transaction("plan due tasks", move |mut tx| async move {
            let planned = plan_round(&mut tx, limit).await?;
            if planned.runs > 0 {
                faults::reached("before-plan-commit");
            }
            Ok((planned, tx))
        })
        .await
    }
}

async fn plan_round(tx: &mut Transaction<'_, Postgres>, limit: u32) -> Result<Planned, StoreError> {
    let due = lock_due(tx, limit).await?;
    let Some(now) = due.first().map(|due| due.now) else { return Ok(Planned::default()) };
    let tasks = u32::try_from(due.len()).unwrap_or(u32::MAX);
    let (decided, runs) = plan_tasks(tx, due, (now, Reach::Due)).await?;
    let skipped: usize = decided.iter().map(|it| it.plan.closed.len()).sum();
    let definitions = decided.into_iter().filter_map(|it| {
        let revision = u32::try_from(it.task.revision).ok()?;
        Some(((it.task.id, revision), it.spec?))
    });
    let definitions = definitions.collect();
    Ok(Planned { tasks, runs, skipped: u32::try_from(skipped).unwrap_or(u32::MAX), definitions })
}

/// So many visits at most settle a task: twenty million occurrences.
const VISITS: usize = 1_000;

/// Decides every occurrence that a task's schedule has yielded by `now`, before another schedule takes its place in this
/// transaction, which holds the task's row: none is left out of the ledger. A schedule that cannot be followed is left
/// as it is, for the next one to mend.
///
/// # Errors
/// [`StoreError::TaskState`] when the backlog is too long to be settled at once.
pub(crate) async fn settle(tx: &mut Transaction<'_, Postgres>, task: TaskId, now: Timestamp) -> Result<(), StoreError> {
    for _ in 0..VISITS {
        let row = sqlx::query_file_as!(DueRow, "queries/task_to_plan.sql", task.uuid())
            .fetch_one(&mut **tx)
            .await
            .doing("read a task to settle")?;
        let due = DueTask::try_from(row)?;
        let before = due.standing.next_occurrence_at;
        if before.is_none_or(|next| next > now) {
            return Ok(());
        }
        let (decided, _) = plan_tasks(tx, vec![due], (now, Reach::Passed)).await?;
        if decided.iter().all(|it| it.plan.next_occurrence_at == before) {
            return Ok(());
        }
    }
    let reason = "more of its occurrences are due than can be settled at once; ask again in a minute".to_owned();
    Err(StoreError::TaskState { task, reason })
}

/// Decides and writes, under the tasks' locks; answers with how many runs there are now.
async fn plan_tasks(
    tx: &mut Transaction<'_, Postgres>,
    due: Vec<DueTask>,
    (now, reach): (Timestamp, Reach),
) -> Result<(Vec<Decided>, u32), StoreError> {
    let live = live_runs(tx, &due.iter().map(|due| due.task.id.uuid()).collect::<Vec<_>>()).await?;

    let mut decided = Vec::with_capacity(due.len());
    let mut entering = Vec::new();
    let mut skipped = Vec::new();
    let mut cancelling = Vec::new();
    let agents = due.iter().filter(|due| due.has_budget).map(|due| due.task.agent).collect();
    let agents = lock_agents(tx, &agents).await?;
    let keys = lock_keys(tx, &due).await?;
    let budgets = Budgets::count(tx, &agents, &due.iter().filter_map(|due| due.wants(now)).collect::<Vec<_>>()).await?;
    let mut ledger = Ledger { keys, budgets };
    for mut due in due {
        let live = live.get(&due.task.id).copied().unwrap_or_default();
        due.standing.live_runs = live.holders;
        due.standing.queued_runs = live.all();
        (due.standing.allowances, due.standing.reservation) = ledger.budgets.left(&due.task);
        let one = decide(due, live, (now, reach), &mut ledger, &mut entering);
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
    ledger.keys.write(tx).await?;
    enter_runs(tx, &entering).await?;
    let mut told = write_skipped(tx, &skipped).await?;
    told.extend(tell_changes(tx, &decided).await?);
    if !told.is_empty() {
        trigger_own(tx, &told).await?;
    }
    Ok((decided, u32::try_from(entering.len()).unwrap_or(u32::MAX)))
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
fn decide(
    due: DueTask,
    live: Live,
    (now, reach): (Timestamp, Reach),
    Ledger { keys, budgets }: &mut Ledger,
    entering: &mut Vec<NewRun>,
) -> Decided {
    let DueTask { task, title, state, mut standing, spec, dedupe, .. } = due;
    // Now, not when the rows were locked: a task before this one may have taken the key.
    standing.duplicates = dedupe.as_ref().map(|Dedupe { key, window }| Duplicates {
        window: *window,
        seen_at: keys.seen(task.agent, key).map(|seen| seen.occurrence_at),
    });
    let planned = spec.and_then(|spec| {
        let schedule = spec.schedule(&Limits::DEFAULT).map_err(|faults| faults.to_string())?;
        let plan = plan(task.id, &spec, &schedule, &standing, now, reach).map_err(|gave_up| gave_up.to_string())?;
        Ok((spec, plan))
    });
    let (spec, plan) = match planned {
        Ok(planned) => planned,
        Err(why) => {
            let plan = Plan {
                next_occurrence_at: standing.next_occurrence_at,
                next_due_at: standing.next_occurrence_at.filter(|_| reach == Reach::Passed),
                snoozed_until: standing.snoozed_until,
                skip_next: standing.skip_next,
                last_occurrence_at: standing.last_occurrence_at,
                runs_planned: standing.runs_planned,
                open: standing.open_stretch,
                ..Plan::default()
            };
            // Another schedule is on its way: no reason to pause.
            let because = (reach == Reach::Due).then(|| format!("its schedule cannot be followed: {why}"));
            let state = if because.is_some() { TaskState::Paused } else { state };
            return Decided { task, title, state, because, plan, spec: None };
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
        budgets.take(&mut run);
        entering.push(run);
    }
    let state = match state {
        _ if plan.ended && reach == Reach::Due => TaskState::Ended,
        TaskState::Paused if plan.resumed => TaskState::Active,
        state => state,
    };
    let spec = (!plan.runs.is_empty()).then_some(spec);
    Decided { task, title, state, because: None, plan, spec }
}

async fn lock_due(tx: &mut Transaction<'_, Postgres>, limit: u32) -> Result<Vec<DueTask>, StoreError> {
    sqlx::query_file_as!(DueRow, "queries/lock_due_tasks.sql", i64::from(limit))
        .fetch_all(&mut **tx)
        .await
        .doing("lock due tasks")?
        .into_iter()
        .map(DueTask::try_from)
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
