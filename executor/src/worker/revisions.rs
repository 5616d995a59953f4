//! Definitions that were read before. A revision never changes, so it is never read twice while it is kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ordinaut_schema::{id::TaskId, task::TaskSpec};
use ordinaut_store::{Store, StoreError};

/// Past this many, all are forgotten and those in use are read again.
const KEPT: usize = 2_000;

#[derive(Debug, Default)]
pub(crate) struct Revisions(Mutex<HashMap<(TaskId, u32), Arc<TaskSpec>>>);

impl Revisions {
    pub(crate) async fn find(&self, store: &Store, task: TaskId, revision: u32) -> Result<Arc<TaskSpec>, StoreError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(task, revision)).cloned();
        if let Some(spec) = known {
            return Ok(spec);
        }
        let spec = Arc::new(store.find_revision(task, revision).await?);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert((task, revision), spec.clone());
        Ok(spec)
    }
}
