//! Tasks as lists show them, and what of that was worked out before.
//!
//! A definition is by far the largest thing that is stored of a task, and of it a list says a sentence, a zone and what
//! comes next. So that much is kept, and a page whose tasks were listed before is one small question. What is kept never
//! goes stale: a revision does not change, and one that came back otherwise, from a backup, was written at another instant.
//! Whether a caller sees a task is for PostgreSQL to say, each time: only what its answer names is looked up here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use ordinaut_schema::{id::TaskId, task::TaskSpec};
use ordinaut_store::{StoreError, View, tasks::Standing};
use serde_json::{Value, json};

use super::super::show::{Timing, standing};

/// Past this many, all are forgotten and those in use are read again.
const KEPT: usize = 1_000;

/// What was worked out of definitions, for all sessions of a process.
#[derive(Debug, Default)]
pub(crate) struct Listings(Mutex<HashMap<Definition, Arc<Listed>>>);

/// A definition, by where it is stored.
type Definition = (TaskId, u32, Timestamp);

fn definition_of(task: &Standing) -> Definition {
    (task.id, task.revision, task.updated_at)
}

/// What a list says of a definition.
#[derive(Debug)]
pub(super) struct Listed {
    timing: Timing,
    sentence: String,
}

impl Listed {
    fn new(spec: &TaskSpec) -> Self {
        let timing = Timing::of(spec);
        let sentence = timing.sentence();
        Self { timing, sentence }
    }

    /// The task for programs, and on one line.
    pub(super) fn show(&self, task: &Standing) -> (Value, String) {
        let Self { timing, sentence } = self;
        let next = timing.next(task, 1);
        let next = next.first();
        let coming = next.map_or_else(String::new, |next| format!("; next {}", next.line(&timing.zone)));
        let line = format!("- \"{}\" ({}, {}): {sentence}{coming}", task.title, task.id, task.state);
        let mut fields = standing(task, &timing.zone);
        fields.insert("schedule".to_owned(), json!(sentence));
        if let Some(next) = next {
            fields.insert("next".to_owned(), json!(next.local));
        }
        (Value::Object(fields), line)
    }
}

impl Listings {
    /// What to say of each of `tasks`, which `view` saw, in their order. Definitions that are not known are read.
    pub(super) async fn of(&self, view: &mut View, tasks: &[Standing]) -> Result<Vec<Arc<Listed>>, StoreError> {
        let mut known = self.known(tasks);
        let unknown = tasks.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(task, _)| task);
        let read = view.definitions_of(unknown).await?;
        for (task, known) in tasks.iter().zip(&mut known) {
            if let Some(spec) = read.get(&task.id) {
                *known = Some(Arc::new(Listed::new(spec)));
            }
        }
        let missing = || StoreError::TaskNotFound { task: "of a list".to_owned(), near: Vec::new() };
        let all = known.into_iter().map(|known| known.ok_or_else(missing)).collect::<Result<Vec<_>, _>>()?;
        if !read.is_empty() {
            self.keep(tasks.iter().map(definition_of).zip(all.iter().cloned()));
        }
        Ok(all)
    }

    fn known(&self, tasks: &[Standing]) -> Vec<Option<Arc<Listed>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().map(|task| kept.get(&definition_of(task)).cloned()).collect()
    }

    fn keep(&self, listed: impl Iterator<Item = (Definition, Arc<Listed>)>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.extend(listed);
    }
}
