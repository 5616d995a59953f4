//! The outbox as the relay reads it: in order, below the oldest open transaction, by one relay per shard.
//!
//! Order is by `(xid, id)`: an event whose transaction began to write after another one's commit comes after it.
//! So the events of one task are in the order in which they caused each other.
//!
//! The way in is [`tell`], in the transaction of the change: an event that is told happened.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::id::{AgentId, EventId, LeaseToken, RunId, Shard, TaskId};
use serde_json::Value;
use sqlx::{Postgres, Transaction};

use crate::{Store, StoreError, afterwards, error::Doing as _, unanswered::Within as _};

/// An event about to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) agent: AgentId,
    pub(crate) task: Option<TaskId>,
    pub(crate) run: Option<RunId>,
    /// One of `ordinaut_schema::event::Topic`, or what a publisher chose.
    pub(crate) topic: Cow<'static, str>,
    pub(crate) cause_depth: u16,
    pub(crate) payload: Value,
}

/// Records events in the transaction of the change that they tell of, in the order given.
pub(crate) async fn tell(tx: &mut Transaction<'_, Postgres>, told: &[Told]) -> Result<(), StoreError> {
    if told.is_empty() {
        return Ok(());
    }
    let agents: Vec<_> = told.iter().map(|event| event.agent.uuid()).collect();
    let tasks: Vec<_> = told.iter().map(|event| event.task.map(TaskId::uuid)).collect();
    let runs: Vec<_> = told.iter().map(|event| event.run.map(RunId::uuid)).collect();
    let topics: Vec<_> = told.iter().map(|event| event.topic.clone().into_owned()).collect();
    let depths: Vec<_> = told.iter().map(|event| i16::try_from(event.cause_depth).unwrap_or(i16::MAX)).collect();
    let payloads: Vec<_> = told.iter().map(|event| event.payload.clone()).collect();
    sqlx::query_file!("queries/tell.sql", &agents, &tasks as _, &runs as _, &topics, &depths, &payloads,)
        .execute(&mut **tx)
        .await
        .doing("record events")?;
    afterwards::told();
    Ok(())
}

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

/// What a relay reads.
#[derive(Debug, Clone)]
pub struct Unrelayed {
    /// The next ones that no open transaction can still precede.
    pub events: Vec<OutboxEvent>,
    /// There are more, behind an open transaction.
    pub is_held_up: bool,
}

/// Where an event stands in the order; also its sequence number for consumers (`id`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub xid: u64,
    pub id: i64,
}

impl Position {
    /// `xid8` has no Rust type: it travels as text.
    fn from_row(xid: &str, id: i64) -> Result<Self, StoreError> {
        let xid = xid.parse().map_err(|error: std::num::ParseIntError| {
            StoreError::unreadable(format!("transaction id `{xid}` of the outbox"), error)
        })?;
        Ok(Self { xid, id })
    }
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
        let row = sqlx::query_file!("queries/take_relay.sql", i16::from(shard.0), token.uuid(), lease.as_secs_f64())
            .fetch_optional(&self.pool)
            .within(self, "take the relay's lease")
            .await?;
        row.map(|row| {
            Ok(RelayLease {
                token,
                told: Position::from_row(&row.xid, row.id)?,
                redis_run_id: row.redis_run_id,
                last_stream_id: row.last_stream_id,
            })
        })
        .transpose()
    }

    /// The next events after `told`, as far as no open transaction can still precede them.
    pub async fn read_outbox(&self, shard: Shard, told: Position, limit: u32) -> Result<Unrelayed, StoreError> {
        let rows = sqlx::query_file!(
            "queries/read_outbox.sql",
            i16::from(shard.0),
            told.xid.to_string(),
            told.id,
            i64::from(limit),
        )
        .fetch_all(&self.pool)
        .within(self, "read the outbox")
        .await?;
        let mut read = Unrelayed { events: Vec::with_capacity(rows.len()), is_held_up: false };
        for row in rows {
            // In order: whatever comes after one that is held up is, too.
            let Some(payload) = row.payload else {
                read.is_held_up = true;
                break;
            };
            read.events.push(OutboxEvent {
                position: Position::from_row(&row.xid, row.id)?,
                event: EventId::from_uuid(row.event_id),
                at: row.at.to_jiff(),
                agent: AgentId::from_uuid(row.agent_id),
                task: row.task_id.map(TaskId::from_uuid),
                run: row.run_id.map(RunId::from_uuid),
                topic: row.topic,
                payload,
            });
        }
        Ok(read)
    }

    /// Moves the position, if the lease is still held; `false` when it is not.
    ///
    /// The position is the caller's: back to the start, too, when a lost Redis is to be filled again.
    pub async fn move_relay(&self, shard: Shard, lease: &RelayLease) -> Result<bool, StoreError> {
        let moved = sqlx::query!(
            "
            update relay_position
            set xid = $3::text::xid8,
                id = $4,
                redis_run_id = $5,
                last_stream_id = $6
            where shard = $1
              and lease_token = $2
            ",
            i16::from(shard.0),
            lease.token.uuid(),
            lease.told.xid.to_string(),
            lease.told.id,
            lease.redis_run_id,
            lease.last_stream_id,
        )
        .execute(&self.pool)
        .within(self, "move the relay")
        .await?;
        Ok(moved.rows_affected() == 1)
    }
}
