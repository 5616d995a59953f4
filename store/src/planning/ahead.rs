//! What planning waits for.

use jiff::Timestamp;

use crate::{Store, StoreError, unanswered::Within as _};

/// When to plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Waiting runs that have become pending.
    pub woken: u32,
    /// The earliest instant at which something will be due.
    pub next_due_at: Option<Timestamp>,
    /// The database's clock when it was read.
    pub now: Timestamp,
}

impl Store {
    /// Wakes up to `limit` waiting runs whose instant has come, and says when to plan.
    pub async fn look_ahead(&self, limit: u32) -> Result<Ahead, StoreError> {
        let ahead = sqlx::query_file!("queries/look_ahead.sql", i64::from(limit))
            .fetch_one(&self.pool)
            .within(self, "wake waiting runs and look for the next instant")
            .await?;
        if ahead.woken > 0 {
            self.wakeups.hint_claimable();
        }
        Ok(Ahead {
            woken: u32::try_from(ahead.woken).unwrap_or(u32::MAX),
            next_due_at: ahead.next.map(jiff_sqlx::Timestamp::to_jiff),
            now: ahead.now.to_jiff(),
        })
    }
}
