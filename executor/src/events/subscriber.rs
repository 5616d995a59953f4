//! Events from other systems: `XADD ordinaut:inbound * topic … data …`, with optional `id` and `agent`.
//!
//! Read as a consumer group: recorded and planned in one transaction, and acknowledged after its commit, so an entry
//! is never lost between. What was acknowledged is deleted: the stream holds only what is still to be done. An entry that comes twice is recorded once: its id is the publisher's, or the entry's own.
//! What cannot be read is acknowledged, logged, and kept on [`DEAD`] with the reason.
//!
//! A reader that drains leaves the group; one that crashed is taken out by the others, once its entries are claimed
//! over (`readers`).

use std::time::Duration;

use async_trait::async_trait;
use ordinaut_schema::{event::check_published_topic, limits::Limits};
use ordinaut_store::{Caller, Store, StoreError, inbound::NewEvent};
use redis::{
    Client, FromRedisValue, RedisError, Value as RedisValue,
    aio::MultiplexedConnection,
    streams::{StreamAutoClaimReply, StreamId, StreamPendingCountReply, StreamReadReply},
};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{BLOCK, DEAD, EventsError, INBOUND, Work, keep_working, until};
use crate::{metrics, worker::chain};

mod readers;

const GROUP: &str = "ordinaut";
const BATCH: usize = 64;
/// An entry that its reader has not acknowledged for so long is abandoned.
const ABANDONED: Duration = Duration::from_mins(1);
/// How often abandoned entries are looked for.
const SWEEP: Duration = Duration::from_secs(15);
/// Unreadable entries that are kept.
const DEAD_KEPT: usize = 1_000;

/// Reads until `drain`. `consumer` names this process within the group.
pub async fn serve(store: Store, client: Client, consumer: String, drain: CancellationToken) -> anyhow::Result<()> {
    let reader = Reader { store, consumer, drain: drain.clone() };
    keep_working("inbound events", &client, &drain, reader).await;
    Ok(())
}

struct Reader {
    store: Store,
    consumer: String,
    drain: CancellationToken,
}

#[async_trait]
impl Work for Reader {
    async fn work(&mut self, connection: MultiplexedConnection) -> Result<(), EventsError> {
        let mut inbound = Inbound { store: &self.store, connection, consumer: &self.consumer, swept_at: None };
        inbound.serve(&self.drain).await
    }
}

struct Inbound<'a> {
    store: &'a Store,
    connection: MultiplexedConnection,
    consumer: &'a str,
    swept_at: Option<Instant>,
}

impl Inbound<'_> {
    async fn serve(&mut self, drain: &CancellationToken) -> Result<(), EventsError> {
        self.make_group().await?;
        // What a former connection of ours read and did not finish comes first.
        self.read_own(drain).await?;
        while !drain.is_cancelled() {
            if self.swept_at.is_none_or(|at| at.elapsed() >= SWEEP) {
                self.claim_abandoned(drain).await?;
                readers::forget_gone(&mut self.connection, self.consumer, readers::GONE).await?;
                self.swept_at = Some(Instant::now());
            }
            // Not raced with the drain: a read that is dropped may have been delivered. It ends within its BLOCK.
            match self.read(">").await {
                Ok(entries) => self.take_in(entries, drain).await?,
                Err(error) if is_no_group(&error) => {
                    warn!("the consumer group of {INBOUND} is gone; making it again from the start of the stream");
                    self.make_group().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.leave().await
    }

    /// Takes this consumer out of the group, unless entries are still in its hands: those would be lost with it.
    async fn leave(&mut self) -> Result<(), EventsError> {
        let pending: StreamPendingCountReply = redis::cmd("XPENDING")
            .arg(INBOUND)
            .arg(GROUP)
            .arg("-")
            .arg("+")
            .arg(1)
            .arg(self.consumer)
            .query_async(&mut self.connection)
            .await?;
        if pending.ids.is_empty() {
            // Nobody else reads under this name: none can have come meanwhile.
            redis::cmd("XGROUP")
                .arg("DELCONSUMER")
                .arg(INBOUND)
                .arg(GROUP)
                .arg(self.consumer)
                .exec_async(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    async fn make_group(&mut self) -> Result<(), EventsError> {
        let made: Result<(), RedisError> = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(INBOUND)
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .query_async(&mut self.connection)
            .await;
        match made {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            other => Ok(other?),
        }
    }

    async fn read(&mut self, from: &str) -> Result<Vec<StreamId>, RedisError> {
        let reply: Option<StreamReadReply> = redis::cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg(self.consumer)
            .arg("COUNT")
            .arg(BATCH)
            .arg("BLOCK")
            .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(1))
            .arg("STREAMS")
            .arg(INBOUND)
            .arg(from)
            .query_async(&mut self.connection)
            .await?;
        Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect())
    }

    async fn read_own(&mut self, drain: &CancellationToken) -> Result<(), EventsError> {
        loop {
            let entries = match self.read("0").await {
                Ok(entries) => entries,
                // An entry that was trimmed meanwhile has no fields to read; the sweep clears it away.
                Err(error) if !error.is_io_error() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if entries.is_empty() || drain.is_cancelled() {
                return Ok(());
            }
            self.take_in(entries, drain).await?;
        }
    }

    async fn claim_abandoned(&mut self, drain: &CancellationToken) -> Result<(), EventsError> {
        let mut from = "0-0".to_owned();
        loop {
            let claimed: Result<StreamAutoClaimReply, RedisError> = redis::cmd("XAUTOCLAIM")
                .arg(INBOUND)
                .arg(GROUP)
                .arg(self.consumer)
                .arg(u64::try_from(ABANDONED.as_millis()).unwrap_or(u64::MAX))
                .arg(&from)
                .arg("COUNT")
                .arg(BATCH)
                .query_async(&mut self.connection)
                .await;
            let claimed = match claimed {
                // The read that follows makes the group again.
                Err(error) if is_no_group(&error) => return Ok(()),
                other => other?,
            };
            if !claimed.deleted_ids.is_empty() {
                metrics::get().inbound_trimmed.add(claimed.deleted_ids.len() as u64, &[]);
                warn!(
                    "{} inbound events were trimmed from the stream before they were read",
                    claimed.deleted_ids.len()
                );
            }
            if !claimed.claimed.is_empty() {
                info!("taking over {} inbound events that their reader abandoned", claimed.claimed.len());
            }
            self.take_in(claimed.claimed, drain).await?;
            from = claimed.next_stream_id;
            if from == "0-0" || drain.is_cancelled() {
                return Ok(());
            }
        }
    }

    async fn take_in(&mut self, entries: Vec<StreamId>, drain: &CancellationToken) -> Result<(), EventsError> {
        for entry in entries {
            if !self.take_in_one(&entry, drain).await? {
                return Ok(());
            }
            let mut done = redis::pipe();
            done.cmd("XACK").arg(INBOUND).arg(GROUP).arg(&entry.id);
            done.cmd("XDEL").arg(INBOUND).arg(&entry.id);
            done.exec_async(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Records an entry, waiting for the database as long as it takes; `false` when the drain came first.
    async fn take_in_one(&mut self, entry: &StreamId, drain: &CancellationToken) -> Result<bool, EventsError> {
        let reason = match Entry::read(entry) {
            Err(reason) => reason,
            Ok(read) => match self.record(&read, drain).await {
                None => return Ok(false),
                Some(Ok(())) => {
                    metrics::get().inbound_events.add(1, &[]);
                    return Ok(true);
                }
                Some(Err(error)) => chain(&error),
            },
        };
        warn!(entry = entry.id, "inbound event {} could not be taken in: {reason}", entry.id);
        metrics::get().inbound_dead.add(1, &[]);
        self.bury(entry, &reason).await?;
        Ok(true)
    }

    async fn record(&self, entry: &Entry, drain: &CancellationToken) -> Option<Result<(), StoreError>> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.record_once(entry).await {
                Err(error) if error.is_retryable() => {
                    warn!("could not record an inbound event: {}; trying again", chain(&error));
                    until(drain, tokio::time::sleep(pause)).await?;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                other => return Some(other),
            }
        }
    }

    async fn record_once(&self, entry: &Entry) -> Result<(), StoreError> {
        let agent = match &entry.agent {
            Some(name) => self.store.agent_named(name).await?,
            None => Caller::LOCAL_AGENT,
        };
        let caller = Caller::of(agent, "redis");
        self.store.publish_event(&caller, entry.event.clone()).await.map(drop)
    }

    async fn bury(&mut self, entry: &StreamId, reason: &str) -> Result<(), EventsError> {
        let mut command = redis::cmd("XADD");
        command.arg(DEAD).arg("MAXLEN").arg("~").arg(DEAD_KEPT).arg("*").arg("reason").arg(reason);
        command.arg("entry").arg(&entry.id);
        for (name, value) in &entry.map {
            // The entry's own `reason` or `entry` must not hide ours.
            command.arg(format!("field.{name}")).arg(text(value).unwrap_or_default());
        }
        command.exec_async(&mut self.connection).await?;
        Ok(())
    }
}

fn is_no_group(error: &RedisError) -> bool {
    error.code() == Some("NOGROUP")
}

fn text(value: &RedisValue) -> Option<String> {
    String::from_redis_value_ref(value).ok()
}

/// An entry, understood.
#[derive(Debug)]
struct Entry {
    /// By name; the local one when absent.
    agent: Option<String>,
    event: NewEvent,
}

impl Entry {
    /// Reads the fields; the error says what is wrong with them and how they should be.
    fn read(entry: &StreamId) -> Result<Self, String> {
        let field = |name: &str| entry.map.get(name).and_then(text).filter(|text| !text.is_empty());
        let topic =
            field("topic").ok_or("the field `topic` is missing: XADD ordinaut:inbound * topic a.b data '{}'")?;
        check_published_topic(&topic).map_err(|fault| fault.message)?;
        let payload = match field("data") {
            None => Value::Object(serde_json::Map::new()),
            Some(data) if data.len() > Limits::DEFAULT.step_output_bytes => {
                return Err(format!(
                    "the field `data` is {} bytes; an event may carry {}",
                    data.len(),
                    Limits::DEFAULT.step_output_bytes
                ));
            }
            Some(data) => serde_json::from_str(&data)
                .map_err(|error| format!("the field `data` is not JSON ({error}); text is JSON in double quotes"))?,
        };
        let id = field("id").unwrap_or_else(|| format!("inbound:{}", entry.id));
        Ok(Self { agent: field("agent"), event: NewEvent { id: Some(id), topic, payload, cause_depth: 0 } })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    fn entry(fields: &[(&str, &str)]) -> StreamId {
        let map: HashMap<String, RedisValue> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), RedisValue::BulkString(value.as_bytes().to_vec())))
            .collect();
        StreamId { id: "7-0".to_owned(), map, ..StreamId::default() }
    }

    #[test]
    fn an_entry_without_an_id_of_its_own_is_known_by_its_place_in_the_stream() {
        let read = Entry::read(&entry(&[("topic", "user.email.received"), ("data", r#"{"from":"a"}"#)])).unwrap();
        assert_eq!(read.event.id.as_deref(), Some("inbound:7-0"));
        assert_eq!(read.event.payload, json!({ "from": "a" }));
        assert_eq!(read.agent, None);

        let read = Entry::read(&entry(&[("topic", "a.b"), ("id", "x"), ("agent", "anna")])).unwrap();
        assert_eq!((read.event.id.as_deref(), read.agent.as_deref()), (Some("x"), Some("anna")));
    }

    #[test]
    fn an_entry_that_cannot_be_read_says_which_field_is_wrong() {
        for (fields, named) in [
            (vec![("data", "{}")], "topic"),
            (vec![("topic", "a..b")], "a..b"),
            (vec![("topic", "a.b"), ("data", "hello")], "data"),
        ] {
            let reason = Entry::read(&entry(&fields)).unwrap_err();
            assert!(reason.contains(named), "{reason}");
        }
    }
}
