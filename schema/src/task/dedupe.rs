//! `dedupe_key`: what it comes to for one occurrence.
//!
//! The key is a text with templates over `params`, `event` and `task`, the three that are known before anything runs.
//! It belongs to the agent, as a `concurrency_key` does: tasks that write the same key leave out each other's
//! duplicates, and `${task.id}` in it makes it one task's own. A key that comes to nothing (`null`, an empty text, a
//! template that fails on this event) leaves out nothing: a run too many is seen, one too few is not.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    id::TaskId,
    run::StepFailure,
    template::{self, Scope},
};

use super::TaskSpec;

/// Without a `dedupe_window`: long enough for what is delivered twice, short enough for what is due every hour.
const WINDOW: Duration = Duration::from_hours(1);

/// A longer key is kept by its digest.
const KEPT_BYTES: usize = 200;

/// A key that a run takes, and for how long it makes others duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedupe {
    /// As the ledger holds it.
    pub key: String,
    pub window: Duration,
}

impl TaskSpec {
    /// How long a run makes others of the same `dedupe_key` duplicates.
    pub fn dedupe_window(&self) -> Duration {
        self.dedupe_window.unwrap_or(WINDOW)
    }

    /// The key of an occurrence that `event` caused, or for which `params` were set over the task's.
    ///
    /// # Errors
    /// A template of the key cannot be rendered: there is no key.
    pub fn dedupe(
        &self,
        task: TaskId,
        params: Option<&Map<String, Value>>,
        event: Option<&Value>,
    ) -> Result<Option<Dedupe>, StepFailure> {
        let Some(written) = &self.dedupe_key else { return Ok(None) };
        let mut all = self.params.clone();
        all.extend(params.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        let scope = Scope {
            params: Value::Object(all),
            event: event.cloned().unwrap_or(Value::Null),
            task: json!({ "id": task, "title": self.title }),
            ..Scope::default()
        };
        let text = match template::render(&Value::from(written.as_str()), &scope)? {
            Value::Null => return Ok(None),
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok((!text.is_empty()).then(|| Dedupe { key: kept(&text), window: self.dedupe_window() }))
    }
}

/// `d:<key>`, or `d#<digest>` of one that is long or has characters that no ledger should hold.
fn kept(text: &str) -> String {
    if text.len() <= KEPT_BYTES && !text.contains(char::is_control) {
        return format!("d:{text}");
    }
    Sha256::digest(text.as_bytes()).iter().fold("d#".to_owned(), |mut key, byte| {
        write!(key, "{byte:02x}").expect("a text can be written to");
        key
    })
}
