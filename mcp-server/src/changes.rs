//! What changes, told to whoever follows it: subscribers, and calls that wait for a run.
//!
//! Redis only says when to look; what has changed is read from PostgreSQL, as the subscriber's own agent, and
//! compared with what was seen before. So a Redis that is down, late, repetitive or lying costs latency and never a
//! change: everything that is followed is looked at every few seconds anyway. One worker for the whole process,
//! from the first follower to the last; while nobody follows, nothing is read.
//!
//! A follower that does not take its changes holds a set of what it has not taken, never longer than what it
//! follows, and holds up nobody.
//!
//! - `followers`: who follows what, and what they were not told yet; no I/O
//! - `look`: the versions in PostgreSQL; `stream`: the events in Redis

mod followers;
mod look;
mod stream;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ordinaut_schema::id::{AgentId, RunId, TaskId};
use ordinaut_store::versions::Version;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::Backend;

use self::followers::Followers;

/// How often everything followed is looked at while events come in, unless the operator says otherwise.
const NET: Duration = Duration::from_secs(5);

/// What one session may follow.
pub(crate) const MOST: usize = 200;
/// How many of an agent's sessions and calls follow something at once, at most: its sessions, and as many calls.
const MOST_OF_AGENT: usize = 400;
/// The same of all agents.
const MOST_IN_ALL: usize = 4_000;

/// How long after a step was told to have ended its journal is looked at once more: progress comes before it.
const SETTLED: Duration = Duration::from_millis(150);

/// Something that can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    Task(TaskId),
    Run(RunId),
    /// Which tasks there are.
    List,
}

/// The changes of one process; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Changes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    backend: Backend,
    state: Mutex<State>,
    /// Something followed may have changed.
    stirred: Notify,
}

#[derive(Debug)]
struct State {
    net: Duration,
    followers: Followers,
    /// Events come in: looking without being told is only the safety net.
    fed: bool,
    work: Option<AbortOnDropHandle<()>>,
}

/// Nobody else can follow anything now: each has a place in memory, and what it follows is looked at every few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "so many sessions and calls follow something already that no more can, of this agent ({MOST_OF_AGENT}) or in all; end one first"
)]
pub(crate) struct Crowded;

/// Why nothing more can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this session follows {MOST} resources already, which is the most; end a subscription first")]
pub(crate) struct TooMany;

impl Changes {
    pub(crate) fn new(backend: Backend) -> Self {
        let state = State { net: NET, followers: Followers::default(), fed: false, work: None };
        Self(Arc::new(Shared { backend, state: Mutex::new(state), stirred: Notify::new() }))
    }

    /// Has everything followed looked at so often, whether an event came or not.
    pub(crate) fn look_every(&self, net: Duration) {
        self.0.lock().net = net;
    }

    /// A follower of nothing yet, which sees what `agent` may see.
    pub(crate) fn follow(&self, agent: AgentId) -> Result<Following, Crowded> {
        let wake = Arc::new(Notify::new());
        let mut state = self.0.lock();
        if !state.followers.has_room(agent) {
            return Err(Crowded);
        }
        let number = state.followers.enter(agent, wake.clone());
        if state.work.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            state.fed = false;
            state.work = Some(AbortOnDropHandle::new(tokio::spawn(work(self.0.clone()))));
        }
        Ok(Following { shared: self.0.clone(), agent, number, wake })
    }

    /// A call of `agent`'s has changed something through this process: whoever follows it here need not wait for the event.
    pub(crate) fn stir(&self, agent: AgentId) {
        if self.0.lock().followers.stir_agent(agent) {
            self.0.stirred.notify_one();
        }
    }

    /// How many follow something at this moment, waiting calls included.
    pub(crate) fn followers(&self) -> usize {
        self.0.lock().followers.len()
    }
}

/// Looks and listens until the last follower is gone, which aborts it.
async fn work(shared: Arc<Shared>) {
    tokio::join!(look::serve(&shared), stream::serve(&shared));
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the maps whole, so a panic elsewhere does no harm here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One follower; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Following {
    shared: Arc<Shared>,
    agent: AgentId,
    number: u64,
    wake: Arc<Notify>,
}

impl Following {
    /// Tells changes of `subject` after `version`.
    pub(crate) fn add(&self, subject: Subject, version: Version) -> Result<(), TooMany> {
        self.shared.lock().followers.add(self.agent, self.number, subject, Some(version))
    }

    /// Tells when `subject` may have changed, for one who looks for itself, and nothing where events do not come.
    pub(crate) fn hint(&self, subject: Subject) -> Result<(), TooMany> {
        self.shared.lock().followers.add(self.agent, self.number, subject, None)
    }

    pub(crate) fn remove(&self, subject: Subject) {
        self.shared.lock().followers.remove(self.agent, self.number, subject);
    }

    /// What changed since the last call, in one piece however often it did; waits for something.
    pub(crate) async fn next(&self) -> Vec<Subject> {
        loop {
            let told = self.shared.lock().followers.take(self.agent, self.number);
            if !told.is_empty() {
                return told;
            }
            // A permit is kept when the change came in between.
            self.wake.notified().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let ended = {
            let mut state = self.shared.lock();
            state.followers.leave(self.agent, self.number);
            if state.followers.len() == 0 { state.work.take() } else { None }
        };
        // Aborted outside of the lock.
        drop(ended);
    }
}
