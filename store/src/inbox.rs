//! The inbox: messages an agent's assistant picks up, and what happened since it last looked.

use jiff::Timestamp;
use ordinaut_schema::id::{AgentId, MessageId, RunId, TaskId};

use crate::{Caller, Store, StoreError};

/// A message to be posted.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub agent: AgentId,
    pub task: Option<TaskId>,
    pub run: Option<RunId>,
    /// Posting again under it changes nothing.
    pub key: String,
    /// `info`, `warning` or `error`.
    pub level: String,
    pub title: Option<String>,
    pub body: String,
    pub cause_depth: u16,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub id: MessageId,
    pub task: Option<TaskId>,
    pub run: Option<RunId>,
    pub level: String,
    pub title: Option<String>,
    pub body: String,
    pub posted_at: Timestamp,
    pub acked_at: Option<Timestamp>,
}

impl Store {
    /// Posts, once per key, with its `inbox.posted` event. Answers the id, the old one on a repeat.
    pub async fn post_message(&self, message: &NewMessage) -> Result<MessageId, StoreError> {
        let _ = message;
        todo!("helper D")
    }

    /// Acknowledges every message up to `through`, then lists what is unread, oldest first.
    pub async fn check_inbox(
        &self,
        caller: &Caller,
        ack_through: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let _ = (caller, ack_through, limit);
        todo!("helper D")
    }
}
