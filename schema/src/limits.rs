//! The limits of SPEC section 8, with their defaults.

use std::time::Duration;

/// What one agent, one definition and one run may cost. Configurable; these are the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request or definition.
    pub definition_bytes: usize,
    pub json_depth: usize,
    /// Steps of a definition, members of `parallel` and `on_failure` included.
    pub steps: usize,
    pub step_output_bytes: usize,
    pub journal_bytes: usize,
    pub foreach_items: usize,
    pub cron_bytes: usize,
    pub rrule_bytes: usize,
    pub rrule_count: u32,
    pub active_tasks: u32,
    pub min_interval: Duration,
    /// Applies where steps use `llm`, `notify` or MCP tools.
    pub min_costly_interval: Duration,
    pub step_timeout: Duration,
    pub title_chars: usize,
    /// Calls of models by an agent's steps in one day (UTC).
    pub llm_calls_per_day: u32,
    pub notifications_per_day: u32,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        definition_bytes: 1024 * 1024,
        json_depth: 64,
        steps: 100,
        step_output_bytes: 256 * 1024,
        journal_bytes: 4 * 1024 * 1024,
        foreach_items: 1_000,
        cron_bytes: 256,
        rrule_bytes: 2 * 1024,
        rrule_count: 100_000,
        active_tasks: 10_000,
        min_interval: Duration::from_secs(1),
        min_costly_interval: Duration::from_mins(1),
        step_timeout: Duration::from_hours(1),
        title_chars: 200,
        llm_calls_per_day: 1_000,
        notifications_per_day: 500,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
