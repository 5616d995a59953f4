//! Which executors run: so that answers can say whether anything will happen.

use jiff::Timestamp;
use sqlx::types::Uuid;

use crate::{Store, StoreError};

#[derive(Debug, Clone)]
pub struct ExecutorRecord {
    pub id: Uuid,
    pub name: String,
    pub version: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    pub state: String,
}

impl Store {
    /// Says that an executor is alive, and how it is (`running`, `draining`, `stopped`).
    pub async fn report_executor(&self, id: Uuid, name: &str, version: &str, state: &str) -> Result<(), StoreError> {
        let _ = (id, name, version, state);
        todo!("helper D")
    }

    /// Those seen within the last minute and not stopped, newest first.
    pub async fn live_executors(&self) -> Result<Vec<ExecutorRecord>, StoreError> {
        todo!("helper D")
    }
}
