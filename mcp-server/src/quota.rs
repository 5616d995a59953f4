//! How many sessions there may be, in all and for one agent, and how fast an agent may open them.
//!
//! Both HTTP transports draw on one [`Quota`]: an abandoned session costs memory until it idles out, and neither
//! transport of the SDK counts them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ordinaut_schema::id::AgentId;
use tokio::time::Instant;

/// The limits that a [`Quota`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    pub sessions: usize,
    pub sessions_per_agent: usize,
    /// Sessions that one agent may open in a minute; also the burst.
    pub opened_per_minute: u32,
}

/// Why a session is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("{limit} sessions are open, which is this server's limit; close one, or try again later")]
    Sessions { limit: usize },
    #[error("this agent has {limit} sessions open, which is its limit; close one, or wait for idle ones to end")]
    Agent { limit: usize },
    #[error("this agent opens sessions faster than {per_minute} a minute; try again in {}s", wait.as_secs())]
    TooFast { per_minute: u32, wait: Duration },
}

impl Full {
    /// When another try makes sense.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Sessions { .. } | Self::Agent { .. } => Duration::from_secs(30),
            Self::TooFast { wait, .. } => wait,
        }
    }
}

/// Counts sessions; see the module.
#[derive(Debug)]
pub struct Quota {
    limits: SessionLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    agents: HashMap<AgentId, Usage>,
}

#[derive(Debug)]
struct Usage {
    open: usize,
    /// Openings left, refilled with time up to a minute's worth.
    allowance: f64,
    refilled_at: Instant,
}

impl Quota {
    pub fn new(limits: SessionLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Opens a session for `agent`; it counts until the seat is dropped.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn admit(self: &Arc<Self>, agent: AgentId, now: Instant) -> Result<Seat, Full> {
        let limits = self.limits;
        let burst = f64::from(limits.opened_per_minute);
        let mut state = self.lock();
        if state.open >= limits.sessions {
            return Err(Full::Sessions { limit: limits.sessions });
        }
        let usage = state.agents.entry(agent).or_insert(Usage { open: 0, allowance: burst, refilled_at: now });
        if usage.open >= limits.sessions_per_agent {
            return Err(Full::Agent { limit: limits.sessions_per_agent });
        }
        usage.refill(now, burst);
        if usage.allowance < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - usage.allowance) * 60.0 / burst).max(Duration::from_secs(1));
            return Err(Full::TooFast { per_minute: limits.opened_per_minute, wait });
        }
        usage.allowance -= 1.0;
        usage.open += 1;
        state.open += 1;
        Ok(Seat { quota: self.clone(), agent })
    }

    /// Sessions open now.
    pub fn open(&self) -> usize {
        self.lock().open
    }

    /// The counts are whole after every statement, so a panic elsewhere leaves nothing to mend.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    fn refill(&mut self, now: Instant, burst: f64) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        self.allowance = (self.allowance + elapsed.as_secs_f64() * burst / 60.0).min(burst);
        self.refilled_at = now;
    }
}

/// An open session's place in the [`Quota`].
#[derive(Debug)]
#[must_use = "the session counts only while its seat is held"]
pub struct Seat {
    quota: Arc<Quota>,
    agent: AgentId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.quota.lock();
        state.open -= 1;
        if let Some(usage) = state.agents.get_mut(&self.agent) {
            usage.open -= 1;
        }
        // Agents come and go; what a rested one would be given again need not be remembered.
        if state.agents.len() > 1024 {
            let rested = Duration::from_mins(1);
            state.agents.retain(|_, usage| usage.open > 0 || usage.refilled_at.elapsed() < rested);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits = SessionLimits { sessions: 3, sessions_per_agent: 2, opened_per_minute: 60 };

    #[test]
    fn a_dropped_seat_makes_room() {
        let quota = Quota::new(LIMITS);
        let now = Instant::now();
        let (one, two) = (AgentId::new(), AgentId::new());
        let first = quota.admit(one, now).unwrap();
        let _second = quota.admit(one, now).unwrap();
        assert_eq!(quota.admit(one, now).unwrap_err(), Full::Agent { limit: 2 });
        let _third = quota.admit(two, now).unwrap();
        assert_eq!(quota.admit(two, now).unwrap_err(), Full::Sessions { limit: 3 });
        drop(first);
        assert!(quota.admit(two, now).is_ok());
    }

    #[test]
    fn an_agent_that_opens_too_fast_is_told_when_to_return() {
        let quota = Quota::new(SessionLimits { opened_per_minute: 6, ..LIMITS });
        let (agent, now) = (AgentId::new(), Instant::now());
        for _ in 0..6 {
            drop(quota.admit(agent, now).unwrap());
        }
        let full = quota.admit(agent, now).unwrap_err();
        assert_eq!(full, Full::TooFast { per_minute: 6, wait: Duration::from_secs(10) });
        assert!(quota.admit(agent, now + full.retry_after()).is_ok());
    }
}
