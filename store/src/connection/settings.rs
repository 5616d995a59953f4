//! How to connect: as whom, over how many connections, and what these are set to.

use std::time::Duration;

/// Connections for what is asked for each batch of runs: a claim, and two batches of conclusions on their way.
pub(super) const HOT: u32 = 3;
/// The fewest for everything else that an executor asks.
const FEWEST: u32 = 3;

/// Which role the connections take: how much of the database exists for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One agent at a time, by row-level security.
    Mcp,
    /// Every agent: executors and the operator's command line.
    Executor,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mcp => "ordinaut_mcp",
            Self::Executor => "ordinaut_executor",
        }
    }

    /// How statements are planned: once, since planning takes longer than many of them. An executor's go by key, however
    /// long the queue is at the moment: planned for the values at hand, a batch of 500 reads a queue of 20,000 from end to
    /// end, three times a commit (19 ms instead of 1). So a scan is the last resort.
    pub(super) const fn plans(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Mcp => &[("plan_cache_mode", "force_generic_plan")],
            Self::Executor => &[("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")],
        }
    }

    /// As [`Role::plans`], for the connections of claims and conclusions: nothing is sorted that an index has in order, though
    /// it be planned while the queue is short.
    pub(super) const fn hot_plans() -> [(&'static str, &'static str); 2] {
        [("enable_bitmapscan", "off"), ("enable_sort", "off")]
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `postgres://…`, a Unix socket by `?host=/dir`.
    pub url: String,
    pub role: Role,
    /// For all verbs but those that have connections of their own.
    pub max_connections: u32,
    /// How long a verb may take before its outcome is given up as unknown.
    pub deadline: Duration,
}

impl Settings {
    pub fn new(url: impl Into<String>, role: Role) -> Self {
        Self { url: url.into(), role, max_connections: 8, deadline: Duration::from_secs(30) }
    }

    /// An executor's, which has so many connections: those for claims and conclusions are among them, those that renew
    /// leases, hint and listen are not.
    pub fn of_executor(url: impl Into<String>, connections: u32) -> Self {
        let max_connections = connections.saturating_sub(HOT).max(FEWEST);
        Self { max_connections, ..Self::new(url, Role::Executor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_keeps_to_its_number_of_connections_and_has_some_for_everything() {
        assert_eq!(Settings::of_executor("", 8).max_connections + HOT, 8);
        assert_eq!(Settings::of_executor("", 6).max_connections, FEWEST);
        assert_eq!(Settings::of_executor("", 0).max_connections, FEWEST);
    }
}
