//! Definitions that were read before. A revision never changes, so it is never read twice while it is kept, and what
//! follows from it alone is found out once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ordinaut_schema::{action::needs_grants, id::TaskId, secret::may_name, task::TaskSpec};
use ordinaut_store::{Store, StoreError, claims::ClaimedRun};

use crate::pipeline::scope::names_previous;

/// Past this many, all are forgotten and those in use are read again.
const KEPT: usize = 2_000;

/// A definition, and what every attempt at it has to know.
#[derive(Debug)]
pub(crate) struct Revision {
    pub(crate) spec: TaskSpec,
    /// An expression names the last succeeded run.
    pub(crate) names_previous: bool,
    /// A step is only called if its agent is granted it, or may name a secret.
    pub(crate) needs_grants: bool,
}

impl Revision {
    fn of(spec: TaskSpec) -> Arc<Self> {
        let names_previous = names_previous(&spec);
        let needs_grants = spec.steps().any(|step| needs_grants(&step.uses) || may_name(&step.uses, &step.with));
        Arc::new(Self { spec, names_previous, needs_grants })
    }
}

type Kept = HashMap<(TaskId, u32), Arc<Revision>>;

#[derive(Debug, Default)]
pub(crate) struct Revisions(Mutex<Kept>);

impl Revisions {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what the scheduler has just read.
    pub(crate) fn planned(&self, planned: Vec<((TaskId, u32), TaskSpec)>) {
        self.keep(planned.into_iter().map(|(revision, spec)| (revision, Revision::of(spec))).collect());
    }

    fn keep(&self, found: Vec<((TaskId, u32), Arc<Revision>)>) {
        let mut kept = self.kept();
        if kept.len() + found.len() > KEPT {
            kept.clear();
        }
        kept.extend(found);
    }

    /// Reads what a claim brought and is not known, in one question. What does not come this way, its attempt asks for.
    pub(crate) async fn learn(&self, store: &Store, runs: &[ClaimedRun]) {
        let unknown: Vec<(TaskId, u32)> = {
            let kept = self.kept();
            let mut unknown: Vec<_> = runs.iter().map(|run| (run.task, run.revision)).collect();
            unknown.retain(|revision| !kept.contains_key(revision));
            unknown.sort_unstable();
            unknown.dedup();
            unknown
        };
        // One is asked for by its attempt as soon.
        if unknown.len() < 2 {
            return;
        }
        match store.find_revisions(&unknown).await {
            Ok(found) => {
                self.keep(found.into_iter().map(|(known, spec)| (known, Revision::of(spec))).collect());
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "definitions are read one by one");
            }
        }
    }

    /// As it was read before.
    pub(crate) fn known(&self, task: TaskId, revision: u32) -> Option<Arc<Revision>> {
        self.kept().get(&(task, revision)).cloned()
    }

    pub(crate) async fn find(&self, store: &Store, task: TaskId, revision: u32) -> Result<Arc<Revision>, StoreError> {
        if let Some(known) = self.known(task, revision) {
            return Ok(known);
        }
        let found = Revision::of(store.find_revision(task, revision).await?);
        self.keep(vec![((task, revision), found.clone())]);
        Ok(found)
    }
}
