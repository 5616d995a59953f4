//! Whose call works next: so many at once, and the agents by turns.
//!
//! The database's pool serves whoever asked first, and of a thousand calls of one agent each would be first. So a call
//! takes a turn before it asks the database anything: an agent has no more than its share of them, and when several
//! agents wait, each gets one before any gets a second. A call that waits for something else, such as the end of a
//! run, gives its turn back meanwhile.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ordinaut_schema::id::AgentId;
use tokio::sync::oneshot;

/// Calls that work at once, each with one connection at a time: two of the pool's eight are left for what takes no
/// turn, which is quick, such as looking up a token.
const AT_ONCE: usize = 6;
/// What one agent gets of them, also when nobody else asks: who comes next must find one free.
const SHARE: usize = 3;

/// The turns of one process; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    share: usize,
    agents: HashMap<AgentId, Line>,
    /// Agents that wait and have not had their share, the next one first.
    next: VecDeque<AgentId>,
}

/// One agent's calls; there is none for an agent that neither works nor waits.
#[derive(Debug, Default)]
struct Line {
    working: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// Whether the agent is in [`State::next`].
    is_next: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Self::new(AT_ONCE, SHARE)
    }
}

impl Turns {
    fn new(at_once: usize, share: usize) -> Self {
        let state = State { free: at_once, share, agents: HashMap::new(), next: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// A turn of `agent`'s, waited for in order. Who stops waiting loses the place and holds up nobody.
    pub(crate) async fn take(&self, agent: AgentId) -> Turn {
        let (sender, granted) = oneshot::channel();
        {
            let mut state = self.lock();
            state.agents.entry(agent).or_default().waiting.push_back(sender);
            state.line_up(agent);
            self.grant(&mut state);
        }
        granted.await.expect("a place in the line is given up only with its turn")
    }

    /// Hands out what is free.
    fn grant(&self, state: &mut State) {
        while state.free > 0
            && let Some(agent) = state.next.pop_front()
        {
            let line = state.agents.get_mut(&agent).expect("who is next has a line");
            line.is_next = false;
            while let Some(waiting) = line.waiting.pop_front() {
                match waiting.send(Turn { turns: self.clone(), agent, is_taken: true }) {
                    Ok(()) => {
                        line.working += 1;
                        state.free -= 1;
                        break;
                    }
                    // Nobody waits there any more.
                    Err(mut turn) => turn.is_taken = false,
                }
            }
            state.line_up(agent);
        }
    }

    /// The counts are whole whenever the lock is free, so a panic elsewhere leaves nothing to mend.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts an agent that may have another turn behind all who wait for theirs, and forgets one without calls.
    fn line_up(&mut self, agent: AgentId) {
        let Some(line) = self.agents.get_mut(&agent) else { return };
        if line.waiting.is_empty() {
            if line.working == 0 && !line.is_next {
                self.agents.remove(&agent);
            }
        } else if line.working < self.share && !line.is_next {
            line.is_next = true;
            self.next.push_back(agent);
        }
    }
}

/// The right to work, until it is dropped.
#[derive(Debug)]
#[must_use = "the turn is over when this is dropped"]
pub(crate) struct Turn {
    turns: Turns,
    agent: AgentId,
    is_taken: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_taken {
            return;
        }
        let mut state = self.turns.lock();
        state.free += 1;
        if let Some(line) = state.agents.get_mut(&self.agent) {
            line.working -= 1;
        }
        state.line_up(self.agent);
        self.turns.grant(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::task::JoinHandle;

    use super::*;

    /// A call that waits for its turn, lined up by the time this returns.
    async fn asking(turns: &Turns, agent: AgentId) -> JoinHandle<Turn> {
        let before = waiting(turns);
        let turns_of_call = turns.clone();
        let call = tokio::spawn(async move { turns_of_call.take(agent).await });
        while waiting(turns) == before {
            tokio::task::yield_now().await;
        }
        call
    }

    fn waiting(turns: &Turns) -> usize {
        turns.lock().agents.values().map(|line| line.waiting.len()).sum()
    }

    fn now(turns: &Turns, agent: AgentId) -> Option<Turn> {
        turns.take(agent).now_or_never()
    }

    #[tokio::test]
    async fn an_agent_has_no_more_than_its_share_and_the_next_finds_a_turn_free() {
        let turns = Turns::new(3, 2);
        let (crowd, calm) = (AgentId::new(), AgentId::new());
        let _held = [now(&turns, crowd).unwrap(), now(&turns, crowd).unwrap()];
        assert!(now(&turns, crowd).is_none());
        assert!(now(&turns, calm).is_some());
    }

    #[tokio::test]
    async fn whoever_asks_beside_a_crowd_is_next_but_one_at_most() {
        let turns = Turns::new(1, 1);
        let (crowd, calm) = (AgentId::new(), AgentId::new());
        let mut working = now(&turns, crowd).unwrap();
        let mut crowded = VecDeque::new();
        for _ in 0..100 {
            crowded.push_back(asking(&turns, crowd).await);
        }
        let ordinary = asking(&turns, calm).await;
        let mut before = 0;
        while !ordinary.is_finished() {
            drop(working);
            // One of the two is served; the runtime of a test has one thread, and so an order.
            tokio::task::yield_now().await;
            if ordinary.is_finished() {
                break;
            }
            working = crowded.pop_front().unwrap().await.unwrap();
            before += 1;
        }
        assert!(before <= 1, "{before} of the crowd came first");
    }

    #[tokio::test]
    async fn who_stops_waiting_holds_up_nobody_and_leaves_nothing_behind() {
        let turns = Turns::new(1, 1);
        let (one, other) = (AgentId::new(), AgentId::new());
        let held = now(&turns, one).unwrap();
        for _ in 0..100 {
            assert!(now(&turns, one).is_none());
        }
        let late = asking(&turns, other).await;
        drop(held);
        drop(late.await.unwrap());
        let state = turns.lock();
        assert_eq!((state.free, state.agents.len(), state.next.len()), (1, 0, 0));
    }

    /// Granted, and not looked at before the call was given up.
    #[tokio::test]
    async fn a_turn_that_nobody_came_for_goes_to_the_next() {
        let turns = Turns::new(1, 1);
        let agent = AgentId::new();
        let held = now(&turns, agent).unwrap();
        let mut abandoned = Box::pin(turns.take(agent));
        assert!(abandoned.as_mut().now_or_never().is_none());
        drop(held);
        assert_eq!(turns.lock().free, 0);
        drop(abandoned);
        assert!(now(&turns, agent).is_some());
    }
}
