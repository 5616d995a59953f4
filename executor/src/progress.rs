//! Progress of runs (`run.started`, `step.finished`), told as it happens and only if it is cheap to.
//!
//! Best effort: the channel is bounded and a full one drops. History never depends on it.

use ordinaut_schema::{
    event::Topic,
    id::{AgentId, RunId, TaskId},
};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::metrics;

/// How many progress events may wait for Redis.
const WAITING: usize = 1024;

#[derive(Debug, Clone)]
pub struct ProgressEvent {
    pub topic: Topic,
    pub agent: AgentId,
    pub task: TaskId,
    pub run: RunId,
    pub payload: Value,
}

/// Where attempts tell of their progress. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::Sender<ProgressEvent>>);

impl Progress {
    pub fn channel() -> (Self, mpsc::Receiver<ProgressEvent>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(Some(sender)), receiver)
    }

    /// Tells nobody: there is no Redis.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Never waits; drops, and counts, when nobody keeps up, and then does not even make the event.
    pub fn tell(&self, event: impl FnOnce() -> ProgressEvent) {
        let Some(sender) = &self.0 else { return };
        match sender.try_reserve() {
            Ok(place) => place.send(event()),
            Err(_full) => metrics::get().progress_dropped.add(1, &[]),
        }
    }
}
