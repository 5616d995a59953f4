//! Planning: tasks that are due are locked, decided by [`ordinaut_schema::planning::plan`], and written, in one
//! transaction. Any number of executors may plan: the lock skips what another is planning, and the cursor only moves
//! forward.

use jiff::Timestamp;

use crate::{Store, StoreError};

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

impl Store {
    /// Plans up to `limit` due tasks, wakes waiting runs whose instant has come, and says when to look again.
    pub async fn plan_due(&self, limit: u32) -> Result<Planned, StoreError> {
        let _ = limit;
        todo!("the lead")
    }
}
