//! What a transaction leaves to be done after its commit: a hint that something is claimable or to be relayed, and
//! admission once more where another transaction stood in the way.
//!
//! Runs enter and are admitted deep inside verbs that are about something else: whatever tells of an event may cause
//! runs of the tasks that listen. So those who enter, admit and tell say it here ([`claimable`], [`look_again`], [`told`]), to the
//! transaction that they are part of, and it is acted upon in one place when that has committed. All of it is for speed:
//! a process that dies in between costs a poll, or a sweep.
//!
//! Why admission may have to look again: whoever plans a run while the one before it is being concluded may each not see
//! the other's change, and whoever concludes does not wait for the lock of a task. The second look waits for both.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use ordinaut_schema::id::{AgentId, TaskId};
use sqlx::{Postgres, Transaction, types::Uuid};
use tracing::debug;

use crate::{
    Store,
    admission::admit,
    connection::become_agent,
    error::{Doing as _, StoreError},
};

/// Where runs take turns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Queue {
    Task(AgentId, TaskId),
    Key(AgentId, String),
}

impl Queue {
    const fn agent(&self) -> AgentId {
        match self {
            Self::Task(agent, _) | Self::Key(agent, _) => *agent,
        }
    }
}

/// What one transaction leaves.
#[derive(Debug, Default)]
pub(crate) struct Left {
    due: bool,
    claimable: bool,
    told: bool,
    again: BTreeSet<Queue>,
}

tokio::task_local! {
    static LEFT: RefCell<Left>;
}

/// Does the work of one transaction, and answers what it leaves beside what it answers.
pub(crate) async fn collect<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<(T, Left), StoreError> {
    let work = async {
        let answer = work.await?;
        Ok((answer, LEFT.with(RefCell::take)))
    };
    LEFT.scope(RefCell::default(), work).await
}

/// Runs are pending that were not: to be hinted at. Within [`collect`], like everything that enters runs.
pub(crate) fn claimable() {
    LEFT.with(|left| left.borrow_mut().claimable = true);
}

/// Events were recorded: to be relayed.
pub(crate) fn told() {
    LEFT.with(|left| left.borrow_mut().told = true);
}

/// A parked run is to be woken: its instant has come.
pub(crate) fn due() {
    LEFT.with(|left| left.borrow_mut().due = true);
}

/// Runs may be blocked here although there is room.
pub(crate) fn look_again(queues: impl IntoIterator<Item = Queue>) {
    LEFT.with(|left| left.borrow_mut().again.extend(queues));
}

/// Queues that nobody has looked at again yet. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Again(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    queues: BTreeSet<Queue>,
    /// Somebody is about to look.
    looking: bool,
}

#[cfg(test)]
impl Again {
    /// Returns when nobody looks at any queue: then no transaction of theirs is begun in between.
    pub(crate) async fn all_seen(&self) {
        while self.0.lock().unwrap_or_else(PoisonError::into_inner).looking {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

impl Store {
    /// After the commit.
    pub(crate) fn see_to(&self, left: Left) {
        if left.due {
            self.wakeups.hint(Timestamp::UNIX_EPOCH);
        } else if left.claimable {
            self.wakeups.hint_claimable();
        }
        if left.told {
            self.wakeups.tell();
        }
        if left.again.is_empty() {
            return;
        }
        let mut waiting = self.again.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.queues.extend(left.again);
        if !waiting.looking {
            waiting.looking = true;
            // Not joined: it ends by itself within its limits, and losing it costs a sweep.
            tokio::spawn(self.clone().look_at_all());
        }
    }

    /// Boxed: what it does in a transaction may leave more of the same.
    fn look_at_all(self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Some(queues) = self.next_queues() {
                let agents: BTreeSet<AgentId> = queues.iter().map(Queue::agent).collect();
                for agent in agents {
                    let own: Vec<Queue> = queues.iter().filter(|queue| queue.agent() == agent).cloned().collect();
                    if let Err(error) = self.admit_once_more(agent, own).await {
                        debug!(error = &error as &dyn std::error::Error, "blocked runs are left to the sweep");
                    }
                }
            }
        })
    }

    /// `None`, and the looking is over, when there are none.
    fn next_queues(&self) -> Option<BTreeSet<Queue>> {
        let mut waiting = self.again.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.queues.is_empty() {
            waiting.looking = false;
            return None;
        }
        Some(std::mem::take(&mut waiting.queues))
    }

    async fn admit_once_more(&self, agent: AgentId, queues: Vec<Queue>) -> Result<(), StoreError> {
        let (mut tasks, mut keys) = (Vec::new(), BTreeSet::new());
        for queue in queues {
            match queue {
                Queue::Task(_, task) => tasks.push(task.uuid()),
                Queue::Key(agent, key) => drop(keys.insert((agent, key))),
            }
        }
        let names: Vec<String> = keys.iter().map(|(_, key)| key.clone()).collect();
        let (their_tasks, their_names) = (tasks.clone(), names.clone());
        // Its locks end with it: whoever waits for a task may hold runs.
        self.transaction("wait for runs that are being concluded", move |mut tx| async move {
            become_agent(&mut tx, agent).await?;
            wait_for_holders(&mut tx, agent, &their_tasks, &their_names).await?;
            Ok(((), tx))
        })
        .await?;
        self.transaction("admit blocked runs", move |mut tx| async move {
            become_agent(&mut tx, agent).await?;
            lock_queues(&mut tx, agent, &tasks, &names).await?;
            admit(&mut tx, &tasks, &keys).await?;
            Ok(((), tx))
        })
        .await
    }
}

/// Returns when nobody is in the middle of ending one of the runs that hold these. A claim passes by this lock: it
/// changes no key.
async fn wait_for_holders(
    tx: &mut Transaction<'_, Postgres>,
    agent: AgentId,
    tasks: &[Uuid],
    keys: &[String],
) -> Result<(), StoreError> {
    sqlx::query!(
        "
        select run_id
        from due_work
        where agent_id = $1
          and (task_id = any ($2) or concurrency_key = any ($3))
          and state <> 'blocked'
        order by run_id
        for key share
        ",
        agent.uuid(),
        tasks,
        keys
    )
    .fetch_all(&mut **tx)
    .await
    .doing("wait for runs that are being concluded")?;
    Ok(())
}

/// Locks tasks and keys, waiting for whoever has them: nothing else is locked yet.
async fn lock_queues(
    tx: &mut Transaction<'_, Postgres>,
    agent: AgentId,
    tasks: &[Uuid],
    keys: &[String],
) -> Result<(), StoreError> {
    sqlx::query!("select id from task where id = any ($1) order by id for no key update", tasks)
        .fetch_all(&mut **tx)
        .await
        .doing("lock tasks for admission")?;
    sqlx::query!(
        "select key from concurrency where agent_id = $1 and key = any ($2) order by key for update",
        agent.uuid(),
        keys
    )
    .fetch_all(&mut **tx)
    .await
    .doing("lock concurrency keys")?;
    Ok(())
}
