//! Events that come in: recorded, and the runs they cause planned, in one transaction; Redis is not on that path.
//!
//! The guard is the `received` row of the event's id: the same id again, however late, causes nothing and is answered
//! with what it caused the first time. Ordinaut's own events need no guard: they are recorded once, with their cause.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ordinaut_schema::{
    event::{MAX_CAUSE_DEPTH, Topic, TopicPattern},
    id::{AgentId, EventId, OccurrenceKey, RunId, Shard, TaskId},
    run::{SkipReason, Trigger},
    schedule::Overlap,
    task::{Dedupe, TaskSpec, TaskState},
    template::{self, Scope, is_truthy},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction, types::Uuid};
use tracing::warn;

use crate::{
    Caller, Store,
    admission::{LockedTask, NewRun, Turn, enter_runs, entry, live_runs},
    budgets::{Budgets, Wanted, lock_agents},
    connection::transaction_now,
    duplicates::{Keys, key_of},
    error::{Doing as _, StoreError},
    outbox::{Told, tell},
    runs::{Live, cancel_live},
    skips::{Skipped, write_skipped},
    unanswered::Within as _,
};

/// An event on its way in.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The publisher's own id: the same id again changes nothing. Drawn when absent.
    pub id: Option<String>,
    pub topic: String,
    pub payload: Value,
    /// How long the chain of causes is; 0 for what people and other systems publish.
    pub cause_depth: u16,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub event_id: String,
    /// It had been seen before; these are the runs it caused then.
    pub duplicate: bool,
    pub runs: Vec<RunId>,
    /// Tasks that listen and did not run: (title, reason).
    pub skipped: Vec<(String, String)>,
}

/// What `received` keeps of the first answer.
#[derive(Serialize, Deserialize)]
struct Answer {
    runs: Vec<RunId>,
    skipped: Vec<(String, String)>,
}

/// An event as tasks see it.
struct Cause<'a> {
    agent: AgentId,
    /// A task that does not hear of it, though it listens: the one whose coming into being it tells.
    deaf: Option<TaskId>,
    id: &'a str,
    topic: &'a str,
    payload: &'a Value,
    depth: u16,
    at: Timestamp,
}

impl Store {
    /// Records an event of `caller`'s agent and plans the runs it causes.
    pub async fn publish_event(&self, caller: &Caller, event: NewEvent) -> Result<Published, StoreError> {
        let agent = caller.agent;
        self.transaction_as(caller, "publish an event", move |mut tx| async move {
            let published = publish(&mut tx, agent, event).await?;
            Ok((published, tx))
        })
        .await
    }

    /// The agent with that name, for events that arrive from other systems.
    pub async fn agent_named(&self, name: &str) -> Result<AgentId, StoreError> {
        sqlx::query_scalar!("select id from agent where name = $1 and revoked_at is null", name)
            .fetch_optional(&self.pool)
            .within(self, "look for an agent")
            .await?
            .map(AgentId::from_uuid)
            .ok_or_else(|| StoreError::AgentNotFound(name.to_owned()))
    }
}

async fn publish(tx: &mut Transaction<'_, Postgres>, agent: AgentId, event: NewEvent) -> Result<Published, StoreError> {
    let event_id = event.id.unwrap_or_else(|| EventId::new().to_string());
    let key = OccurrenceKey::event(&event_id);
    let first_seen = sqlx::query_scalar!(
        r#"
        insert into received (agent_id, key)
        values ($1, $2)
        on conflict do nothing
        returning first_seen_at as "at: jiff_sqlx::Timestamp"
        "#,
        agent.uuid(),
        key.as_str()
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("note an event's id")?;
    let Some(at) = first_seen else {
        let answer = sqlx::query_scalar!(
            "select answer from received where agent_id = $1 and key = $2",
            agent.uuid(),
            key.as_str()
        )
        .fetch_one(&mut **tx)
        .await
        .doing("read what an event caused")?;
        let first: Answer = answer
            .and_then(|answer| serde_json::from_value(answer).ok())
            .unwrap_or(Answer { runs: Vec::new(), skipped: Vec::new() });
        return Ok(Published { event_id, duplicate: true, runs: first.runs, skipped: first.skipped });
    };

    tell(
        tx,
        &[Told {
            agent,
            task: None,
            run: None,
            topic: event.topic.clone().into(),
            cause_depth: event.cause_depth,
            payload: json!({ "id": event_id, "data": event.payload }),
        }],
    )
    .await?;
    let cause = Cause {
        agent,
        deaf: None,
        id: &event_id,
        topic: &event.topic,
        payload: &event.payload,
        depth: event.cause_depth,
        at: at.to_jiff(),
    };
    let answer = trigger(tx, &cause).await?;
    sqlx::query!(
        "update received set answer = $3 where agent_id = $1 and key = $2",
        agent.uuid(),
        key.as_str(),
        json!(answer)
    )
    .execute(&mut **tx)
    .await
    .doing("note what an event caused")?;
    Ok(Published { event_id, duplicate: false, runs: answer.runs, skipped: answer.skipped })
}

/// Plans what Ordinaut's own events cause, in the transaction that records them.
pub(crate) async fn trigger_own(tx: &mut Transaction<'_, Postgres>, told: &[Told]) -> Result<(), StoreError> {
    let agents: BTreeSet<Uuid> = told.iter().map(|event| event.agent.uuid()).collect();
    let agents: Vec<Uuid> = agents.into_iter().collect();
    let listening = sqlx::query_scalar!(
        r#"
        select distinct agent_id as "agent_id!"
        from task
        where agent_id = any ($1)
          and schedule_kind = 'event'
          and state in ('active', 'paused')
        "#,
        &agents
    )
    .fetch_all(&mut **tx)
    .await
    .doing("look for listening tasks")?;
    if listening.is_empty() {
        return Ok(());
    }
    let at = transaction_now(tx).await?;
    for event in told.iter().filter(|event| listening.contains(&event.agent.uuid())) {
        let id = EventId::new().to_string();
        let cause = Cause {
            agent: event.agent,
            deaf: event.task.filter(|_| event.topic == Topic::TaskCreated.as_str()),
            id: &id,
            topic: &event.topic,
            payload: &event.payload,
            depth: event.cause_depth,
            at,
        };
        trigger(tx, &cause).await?;
    }
    Ok(())
}

struct Listener {
    task: LockedTask,
    title: String,
    state: TaskState,
    spec: TaskSpec,
    dedupe: Option<Dedupe>,
    /// Its agent has a budget.
    has_budget: bool,
}

/// Plans a run of every task that listens to the event and whose filter it passes.
async fn trigger(tx: &mut Transaction<'_, Postgres>, cause: &Cause<'_>) -> Result<Answer, StoreError> {
    let mut answer = Answer { runs: Vec::new(), skipped: Vec::new() };
    let listeners = lock_listeners(tx, cause).await?;
    if listeners.is_empty() {
        return Ok(answer);
    }
    let event = json!({ "id": cause.id, "topic": cause.topic, "payload": cause.payload });
    let mut addressed = Vec::new();
    for listener in listeners {
        match passes(&listener.spec, &event) {
            Ok(true) if cause.depth >= MAX_CAUSE_DEPTH => {
                answer.skipped.push((listener.title, format!("the chain of causes is {MAX_CAUSE_DEPTH} deep")));
            }
            Ok(true) => {
                let dedupe = key_of(&listener.spec, listener.task.id, None, Some(&event));
                addressed.push(Listener { dedupe, ..listener });
            }
            Ok(false) => {}
            Err(why) => answer.skipped.push((listener.title, format!("its event_filter failed: {why}"))),
        }
    }
    let going = || addressed.iter().filter(|it| it.state != TaskState::Paused);
    let agents = lock_agents(tx, &going().filter(|it| it.has_budget).map(|it| it.task.agent).collect()).await?;
    let asked = going().filter_map(|it| Some((it.task.agent, it.dedupe.as_ref()?.key.clone())));
    let mut keys = Keys::lock(tx, asked).await?;
    let wanted: Vec<_> =
        going().map(|it| Wanted { task: &it.task, spec: &it.spec, from: cause.at, to: cause.at }).collect();
    let mut budgets = Budgets::count(tx, &agents, &wanted).await?;
    // A duplicate makes nobody give way, nor does what is over budget.
    let giving_way: Vec<TaskId> = addressed
        .iter()
        .filter(|it| it.state == TaskState::Active && it.spec.overlap == Overlap::CancelRunning)
        .filter(|it| duplicate_of(&keys, it, cause.at).is_none())
        .filter(|it| budgets.allows(&it.task, &caused(it, cause, &event)).is_ok())
        .map(|it| it.task.id)
        .collect();
    if !giving_way.is_empty() {
        // Boxed: a cancelled run is told of, and whoever listens to that may have runs to cancel in turn.
        Box::pin(cancel_live(tx, Live::OfTasks(&giving_way), "a newer event came")).await?;
    }
    let live = live_runs(tx, &addressed.iter().map(|it| it.task.id.uuid()).collect::<Vec<_>>()).await?;
    let mut runs = Vec::new();
    let mut skipped = Vec::new();
    for listener in addressed {
        // Now: the task before this one may have taken the same key.
        let before = duplicate_of(&keys, &listener, cause.at);
        let mut run = caused(&listener, cause, &event);
        let over_budget = budgets.allows(&listener.task, &run).err();
        let Listener { task, title, state, spec, dedupe, .. } = listener;
        let turn = match state {
            TaskState::Paused => Err(SkipReason::Paused),
            TaskState::Active | TaskState::Ended | TaskState::Cancelled if before.is_some() => {
                Err(SkipReason::Duplicate)
            }
            TaskState::Active | TaskState::Ended | TaskState::Cancelled if over_budget.is_some() => {
                Err(SkipReason::Budget)
            }
            TaskState::Active | TaskState::Ended | TaskState::Cancelled => {
                entry(&spec, live.get(&task.id).copied().unwrap_or_default())
            }
        };
        match turn {
            Ok(turn) => {
                run.blocked = turn == Turn::Later;
                budgets.take(&mut run);
                if let Some(Dedupe { key, .. }) = &dedupe {
                    keys.take(task.agent, key, run.id, cause.at, cause.at);
                }
                answer.runs.push(run.id);
                runs.push(run);
            }
            Err(reason) => {
                let why = match (reason, before, over_budget) {
                    (SkipReason::Duplicate, Some(run), _) => format!("{reason} of run {run}"),
                    (SkipReason::Budget, _, Some(exhausted)) => format!("{reason}: {exhausted}"),
                    _ => reason.to_string(),
                };
                answer.skipped.push((title, why));
                skipped.push(Skipped::of(&run, reason));
            }
        }
    }
    keys.write(tx).await?;
    enter_runs(tx, &runs).await?;
    // These are not listened to in turn: an event that nobody could take would otherwise echo.
    write_skipped(tx, &skipped).await?;
    Ok(answer)
}

/// The run that an event causes of a task.
fn caused(listener: &Listener, cause: &Cause<'_>, event: &Value) -> NewRun {
    let key = OccurrenceKey::event(cause.id);
    let mut run = NewRun::of(&listener.task, &listener.spec, Trigger::Event, key, cause.at, cause.at);
    run.cause_depth = cause.depth + 1;
    run.event = Some(event.clone());
    run
}

/// The run that makes an event at `at` a duplicate for a task.
fn duplicate_of(keys: &Keys, listener: &Listener, at: Timestamp) -> Option<RunId> {
    let Dedupe { key, window } = listener.dedupe.as_ref()?;
    let seen = keys.seen(listener.task.agent, key)?;
    (at < seen.holds_until(*window)).then_some(seen.run)
}

/// Whether an event passes a task's filter, which names `event` and `params` as every expression of a definition
/// does: no filter lets all pass.
fn passes(spec: &TaskSpec, event: &Value) -> Result<bool, ordinaut_schema::run::StepFailure> {
    let Some(filter) = spec.event_filter.as_deref() else { return Ok(true) };
    let scope = Scope { event: event.clone(), params: Value::Object(spec.params.clone()), ..Scope::default() };
    Ok(is_truthy(&template::evaluate(filter, &scope)?))
}

/// Finds the tasks whose topic matches, then locks those, in id order.
async fn lock_listeners(tx: &mut Transaction<'_, Postgres>, cause: &Cause<'_>) -> Result<Vec<Listener>, StoreError> {
    let candidates = sqlx::query!(
        r#"
        select id, topic as "topic!"
        from task
        where agent_id = $1
          and schedule_kind = 'event'
          and state in ('active', 'paused')
        "#,
        cause.agent.uuid()
    )
    .fetch_all(&mut **tx)
    .await
    .doing("look for tasks that listen")?;
    let listens = |to: &str| TopicPattern::parse(to).is_ok_and(|pattern| pattern.matches(cause.topic));
    let matching: Vec<Uuid> = candidates
        .into_iter()
        .filter(|task| cause.deaf.map(TaskId::uuid) != Some(task.id))
        .filter(|task| listens(&task.topic))
        .map(|task| task.id)
        .collect();
    if matching.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query!("select from task where id = any ($1) order by id for no key update", &matching)
        .fetch_all(&mut **tx)
        .await
        .doing("lock tasks that listen")?;
    // A statement of its own: an edit that the lock waited for has a definition that the one above does not see.
    let rows = sqlx::query!(
        r#"
        select task.id, task.shard, task.agent_id, task.revision, task.title, task.state, task.topic as "topic!",
            task_revision.definition,
            exists (select from agent_budget where agent_id = task.agent_id) as "has_budget!"
        from task
        join task_revision on task_revision.task_id = task.id and task_revision.revision = task.revision
        where task.id = any ($1)
          and task.schedule_kind = 'event'
          and task.state in ('active', 'paused')
        order by task.id
        "#,
        &matching
    )
    .fetch_all(&mut **tx)
    .await
    .doing("read tasks that listen")?;
    // A definition that a newer program wrote is that program's to run: it must not keep others from being concluded.
    Ok(rows
        .into_iter()
        .filter(|row| listens(&row.topic))
        .filter_map(|row| {
            let state = TaskState::from_text(&row.state)?;
            let spec = TaskSpec::from_stored(row.definition)
                .inspect_err(|error| warn!(task.id = %row.id, %error, "cannot read the definition of task {}", row.id))
                .ok()?;
            Some(Listener {
                task: LockedTask {
                    id: TaskId::from_uuid(row.id),
                    shard: Shard(u8::try_from(row.shard).unwrap_or(0)),
                    agent: AgentId::from_uuid(row.agent_id),
                    revision: row.revision,
                },
                title: row.title,
                state,
                spec,
                dedupe: None,
                has_budget: row.has_budget,
            })
        })
        .collect())
}
