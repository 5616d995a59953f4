//! The relay: the outbox, in order, into `ordinaut:events`; and progress, as it comes.
//!
//! One relay at a time, by a lease in the store. It tells at least once: the position moves after Redis has
//! answered, and every event keeps its `event_id`, by which listeners drop what they had. A Redis that lost what it
//! was told (emptied, restored, replaced) is filled again from the start of the outbox window.

use std::time::Duration;

use async_trait::async_trait;
use ordinaut_schema::id::{EventId, LeaseToken, Shard};
use ordinaut_store::{
    Store,
    outbox::{OutboxEvent, Position, RelayLease},
};
use redis::{Client, InfoDict, Pipeline, aio::MultiplexedConnection, streams::StreamRangeReply};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{EVENTS, EventsError, Work, keep_working, until};
use crate::{metrics, progress::ProgressEvent};

/// Events of one pipeline.
const BATCH: u32 = 500;
const LEASE: Duration = Duration::from_secs(15);
/// How often the outbox is looked at when nothing is new.
const IDLE: Duration = Duration::from_millis(200);
/// How often an idle relay makes sure that Redis still has what it was told.
const INSPECTION: Duration = Duration::from_secs(2);

/// How events are published.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Events that the stream keeps, about.
    pub kept: usize,
    pub shard: Shard,
}

/// Relays until `drain`.
pub async fn serve(store: Store, client: Client, settings: Settings, drain: CancellationToken) -> anyhow::Result<()> {
    let token = LeaseToken::from_uuid(EventId::new().uuid());
    let relay = Relay { store, settings, token, drain: drain.clone() };
    keep_working("event relay", &client, &drain, relay).await;
    Ok(())
}

/// Tells progress until `drain`; what comes while Redis is away is dropped by the bounded channel.
pub async fn serve_progress(
    client: Client,
    settings: Settings,
    progress: mpsc::Receiver<ProgressEvent>,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    let telling = Telling { settings, progress, drain: drain.clone() };
    keep_working("progress", &client, &drain, telling).await;
    Ok(())
}

struct Telling {
    settings: Settings,
    progress: mpsc::Receiver<ProgressEvent>,
    drain: CancellationToken,
}

#[async_trait]
impl Work for Telling {
    async fn work(&mut self, mut connection: MultiplexedConnection) -> Result<(), EventsError> {
        let mut waiting = Vec::new();
        loop {
            waiting.clear();
            match until(&self.drain, self.progress.recv_many(&mut waiting, BATCH as usize)).await {
                None | Some(0) => break,
                Some(_) => {}
            }
            let mut pipeline = redis::pipe();
            for event in &waiting {
                add_progress(&mut pipeline, event, self.settings.kept);
            }
            pipeline.exec_async(&mut connection).await?;
        }
        // Every sender is gone, or the process drains: either way there is nothing left to tell.
        self.drain.cancelled().await;
        Ok(())
    }
}

struct Relay {
    store: Store,
    settings: Settings,
    token: LeaseToken,
    drain: CancellationToken,
}

#[async_trait]
impl Work for Relay {
    async fn work(&mut self, connection: MultiplexedConnection) -> Result<(), EventsError> {
        Relaying { relay: self, connection, inspected_at: None }.serve().await
    }
}

struct Relaying<'a> {
    relay: &'a Relay,
    connection: MultiplexedConnection,
    inspected_at: Option<Instant>,
}

impl Relaying<'_> {
    async fn serve(&mut self) -> Result<(), EventsError> {
        let drain = &self.relay.drain;
        while !drain.is_cancelled() {
            let shard = self.relay.settings.shard;
            let Some(mut lease) = self.relay.store.take_relay(shard, self.relay.token, LEASE).await? else {
                // Another relays: what it knows of Redis must be looked at again once it is our turn.
                self.inspected_at = None;
                until(drain, tokio::time::sleep(LEASE / 3)).await;
                continue;
            };
            let taken_at = Instant::now();
            // Renewed well before it ends: nothing is sent under a lease that may be over.
            while taken_at.elapsed() < LEASE / 3 && !drain.is_cancelled() {
                if !self.round(&mut lease).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sends the next batch; `false` when the lease is lost.
    async fn round(&mut self, lease: &mut RelayLease) -> Result<bool, EventsError> {
        if self.inspected_at.is_none_or(|at| at.elapsed() >= INSPECTION) && !self.inspect(lease).await? {
            return Ok(false);
        }
        let events = self.relay.store.read_outbox(self.relay.settings.shard, lease.told, BATCH).await?;
        let Some(last) = events.last() else {
            until(&self.relay.drain, tokio::time::sleep(IDLE)).await;
            return Ok(true);
        };
        let told = last.position;
        let mut pipeline = redis::pipe();
        for event in &events {
            add(&mut pipeline, event, self.relay.settings.kept);
        }
        let ids: Vec<String> = pipeline.query_async(&mut self.connection).await?;
        lease.told = told;
        lease.last_stream_id = ids.into_iter().next_back();
        metrics::get().events_published.add(events.len() as u64, &[]);
        Ok(self.relay.store.move_relay(self.relay.settings.shard, lease).await?)
    }

    /// Makes sure that Redis still has the last event it was told; if not, goes back to the start of the window.
    async fn inspect(&mut self, lease: &mut RelayLease) -> Result<bool, EventsError> {
        let server: InfoDict = redis::cmd("INFO").arg("server").query_async(&mut self.connection).await?;
        let run_id: Option<String> = server.get("run_id");
        let has_last = match &lease.last_stream_id {
            None => true,
            Some(last) => {
                let found: StreamRangeReply =
                    redis::cmd("XRANGE").arg(EVENTS).arg(last).arg(last).query_async(&mut self.connection).await?;
                !found.ids.is_empty()
            }
        };
        let length: usize = redis::cmd("XLEN").arg(EVENTS).query_async(&mut self.connection).await?;
        let same_server = lease.redis_run_id.is_none() || lease.redis_run_id == run_id;
        self.inspected_at = Some(Instant::now());
        let seen = Seen { same_server, has_last, full: length >= self.relay.settings.kept };
        if seen.is_lost() {
            warn!("Redis lost events that it had been told; telling all of the outbox window again");
            metrics::get().events_republished.add(1, &[]);
            lease.told = Position::default();
            lease.last_stream_id = None;
        } else if same_server {
            if lease.redis_run_id.is_some() {
                return Ok(true);
            }
        } else {
            info!("Redis was restarted and still has what it was told");
        }
        lease.redis_run_id = run_id;
        Ok(self.relay.store.move_relay(self.relay.settings.shard, lease).await?)
    }
}

/// What an inspection found.
#[derive(Debug, Clone, Copy)]
struct Seen {
    same_server: bool,
    /// The last event it was told is still there.
    has_last: bool,
    /// The stream is as long as it may be, so that old entries are trimmed.
    full: bool,
}

impl Seen {
    /// Whether events that were told are gone.
    ///
    /// A restart alone loses nothing where the last event is still there: what Redis persists, it persists in order.
    /// Without it, only trimming by a full stream of the same server is innocent.
    const fn is_lost(self) -> bool {
        !(self.has_last || self.full && self.same_server)
    }
}

fn add(pipeline: &mut Pipeline, event: &OutboxEvent, kept: usize) {
    let text = |id: Option<String>| id.unwrap_or_default();
    pipeline.cmd("XADD").arg(EVENTS).arg("MAXLEN").arg("~").arg(kept).arg("*").arg(&[
        ("event_id", event.event.to_string()),
        ("sequence", event.position.id.to_string()),
        ("topic", event.topic.clone()),
        ("at", event.at.to_string()),
        ("agent", event.agent.to_string()),
        ("task", text(event.task.map(|id| id.to_string()))),
        ("run", text(event.run.map(|id| id.to_string()))),
        ("payload", event.payload.to_string()),
    ]);
}

fn add_progress(pipeline: &mut Pipeline, event: &ProgressEvent, kept: usize) {
    pipeline
        .cmd("XADD")
        .arg(EVENTS)
        .arg("MAXLEN")
        .arg("~")
        .arg(kept)
        .arg("*")
        .arg(&[
            ("event_id", EventId::new().to_string()),
            ("topic", event.topic.to_string()),
            ("agent", event.agent.to_string()),
            ("task", event.task.to_string()),
            ("run", event.run.to_string()),
            ("payload", event.payload.to_string()),
        ])
        .ignore();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_lost_events_when_the_last_one_is_gone_and_nothing_trimmed_it() {
        let seen = |same_server, has_last, full| Seen { same_server, has_last, full }.is_lost();
        assert!(!seen(true, true, false));
        assert!(!seen(false, true, false), "restarted, and its file had everything");
        assert!(seen(false, false, false), "replaced by an empty one");
        assert!(seen(true, false, false), "emptied");
        assert!(!seen(true, false, true), "trimmed");
        assert!(seen(false, false, true), "restored from an older copy");
    }
}
