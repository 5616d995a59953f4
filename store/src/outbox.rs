//! The outbox as the relay reads it: in order, below the oldest open transaction, by one relay per shard.
//!
//! Order is by `(xid, id)`: an event whose transaction began to write after another one's commit comes after it.
//! So the events of one task are in the order in which they caused each other.

use std::time::Duration;

use jiff::Timestamp;
use ordinaut_schema::id::{AgentId, EventId, LeaseToken, RunId, Shard, TaskId};
use serde_json::Value;

use crate::{Store, StoreError};

/// An event as it was recorded.
#[derive(Debug, Clone)]
pub struct OutboxEvent {
    pub position: Position,
    pub event: EventId,
    pub at: Timestamp,
    pub agent: AgentId,
    pub task: Option<TaskId>,
    pub run: Option<RunId>,
    pub topic: String,
    pub payload: Value,
}

/// Where an event stands in the order; also its sequence number for consumers (`id`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub xid: u64,
    pub id: i64,
}

/// How far the relay has told, and whom.
#[derive(Debug, Clone)]
pub struct RelayLease {
    pub token: LeaseToken,
    pub told: Position,
    pub redis_run_id: Option<String>,
    pub last_stream_id: Option<String>,
}

impl Store {
    /// Takes or renews the relay's lease; `None` while another relay holds it.
    ///
    /// A position that lies ahead of the database's own transaction counter (a restored dump) is set back to the start.
    pub async fn take_relay(
        &self,
        shard: Shard,
        token: LeaseToken,
        lease: Duration,
    ) -> Result<Option<RelayLease>, StoreError> {
        let _ = (shard, token, lease);
        todo!("helper D")
    }

    /// The next events after `told` that no open transaction can still precede.
    pub async fn read_outbox(&self, shard: Shard, told: Position, limit: u32) -> Result<Vec<OutboxEvent>, StoreError> {
        let _ = (shard, told, limit);
        todo!("helper D")
    }

    /// Moves the position, if the lease is still held; `false` when it is not.
    pub async fn move_relay(&self, shard: Shard, lease: &RelayLease) -> Result<bool, StoreError> {
        let _ = (shard, lease);
        todo!("helper D")
    }
}
