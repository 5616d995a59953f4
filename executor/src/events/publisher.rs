//! The relay: the outbox, in order, into `ordinaut:events`; and progress, as it comes.
//!
//! One relay at a time, by a lease in the store. It tells at least once: the position moves after Redis has
//! answered, and every event keeps its `event_id`, by which listeners drop what they had. A Redis that lost what it
//! was told (emptied, restored, replaced) is filled again from the start of the outbox window.
//!
//! That a stream was emptied cannot be seen by what is in it: what is told next may be there before anybody looks. So
//! the relay marks the streams that it fills, by a consumer group that nobody reads, which goes when its stream goes; and
//! nobody but the relay makes the stream: what others would tell an absent one is dropped, and the relay's own answer
//! says that it was absent.

use std::time::Duration;

use async_trait::async_trait;
use ordinaut_schema::id::{EventId, LeaseToken, Shard};
use ordinaut_store::{
    Store, faults,
    outbox::{OutboxEvent, Position, RelayLease},
};
use redis::{
    Client, InfoDict, Pipeline,
    aio::MultiplexedConnection,
    streams::{StreamInfoGroupsReply, StreamRangeReply},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{EVENTS, EventsError, Work, keep_working, until};
use crate::{metrics, progress::ProgressEvent};

/// The consumer group that marks a stream as one which has been told everything since it was made.
const MARK: &str = "ordinaut-relay";
/// Progress that is told a second, about: more than anybody follows, and it would cost the runs themselves what it takes.
const PROGRESS: u32 = 2_000;
/// Events of one pipeline.
const BATCH: u32 = 500;
const LEASE: Duration = Duration::from_secs(15);
/// How often the outbox is looked at when nothing is said to be new: what was not said, or not heard, is found so.
const IDLE: Duration = Duration::from_secs(2);
/// How close batches follow each other that are not full: each is a write, and one write can tell of many commits.
const PACE: Duration = Duration::from_millis(5);
/// How soon events behind an open transaction are looked for again, at first and at last.
const HELD_UP: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
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
            // What comes meanwhile waits, and past what may wait is dropped.
            let told = u32::try_from(waiting.len()).unwrap_or(BATCH);
            until(&self.drain, tokio::time::sleep(Duration::from_secs(1) * told / PROGRESS)).await;
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
        let ended = Relaying { relay: self, connection, inspected_at: None, pause: HELD_UP.0 }.serve().await;
        // Another may relay from now on.
        self.store.keep_hints_here(false);
        ended
    }
}

struct Relaying<'a> {
    relay: &'a Relay,
    connection: MultiplexedConnection,
    inspected_at: Option<Instant>,
    /// Before the next look at what is held up.
    pause: Duration,
}

impl Relaying<'_> {
    async fn serve(&mut self) -> Result<(), EventsError> {
        let drain = &self.relay.drain;
        while !drain.is_cancelled() {
            let shard = self.relay.settings.shard;
            let Some(mut lease) = self.relay.store.take_relay(shard, self.relay.token, LEASE).await? else {
                // Another relays: what it knows of Redis must be looked at again once it is our turn.
                self.inspected_at = None;
                self.relay.store.keep_hints_here(false);
                until(drain, tokio::time::sleep(LEASE / 3)).await;
                continue;
            };
            let taken_at = Instant::now();
            self.relay.store.keep_hints_here(true);
            // Renewed well before it ends: nothing is sent under a lease that may be over.
            while taken_at.elapsed() < LEASE / 3 && !drain.is_cancelled() {
                if !self.round(&mut lease).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sends the next batch, and waits where there is no other; `false` when the lease is lost.
    async fn round(&mut self, lease: &mut RelayLease) -> Result<bool, EventsError> {
        if self.inspected_at.is_none_or(|at| at.elapsed() >= INSPECTION) && !self.inspect(lease).await? {
            return Ok(false);
        }
        let read = self.relay.store.read_outbox(self.relay.settings.shard, lease.told, BATCH).await?;
        let sent = read.events.len();
        if sent > 0 {
            self.pause = HELD_UP.0;
            if !self.send(lease, &read.events).await? {
                return Ok(false);
            }
            if lease.told == Position::default() {
                // Begun again.
                return Ok(true);
            }
        }
        self.rest(sent, read.is_held_up).await;
        Ok(true)
    }

    /// Waits until there may be something to send.
    async fn rest(&mut self, sent: usize, is_held_up: bool) {
        let drain = &self.relay.drain;
        if is_held_up {
            until(drain, tokio::time::sleep(self.pause)).await;
            self.pause = (self.pause * 2).min(HELD_UP.1);
            return;
        }
        self.pause = HELD_UP.0;
        if sent == BATCH as usize {
            return;
        }
        if sent > 0 {
            until(drain, tokio::time::sleep(PACE)).await;
        }
        // What was said since the outbox was read is not lost. Nothing depends on it: it is not heard of every commit.
        until(drain, tokio::time::timeout(IDLE, self.relay.store.told())).await;
    }

    /// `false` when the lease is lost.
    async fn send(&mut self, lease: &mut RelayLease, events: &[OutboxEvent]) -> Result<bool, EventsError> {
        let Some(last) = events.last() else { return Ok(true) };
        let mut pipeline = redis::pipe();
        for event in events {
            add(&mut pipeline, event, self.relay.settings.kept);
        }
        faults::reached("before-relay");
        let ids: Vec<Option<String>> = pipeline.query_async(&mut self.connection).await?;
        faults::reached("after-xadd");
        let Some(ids) = ids.into_iter().collect::<Option<Vec<String>>>() else {
            return self.begin_again(lease).await;
        };
        lease.told = last.position;
        lease.last_stream_id = ids.into_iter().next_back();
        metrics::get().events_published.add(events.len() as u64, &[]);
        Ok(self.relay.store.move_relay(self.relay.settings.shard, lease).await?)
    }

    /// Makes sure that Redis still has what it was told; if not, goes back to the start of the window.
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
        let full = length >= self.relay.settings.kept;
        let seen = Seen { marked: self.is_marked().await?, same_server, has_last, full };
        self.inspected_at = Some(Instant::now());
        if seen.is_lost() {
            lease.redis_run_id = run_id;
            return self.begin_again(lease).await;
        }
        if same_server {
            if lease.redis_run_id.is_some() {
                return Ok(true);
            }
        } else {
            info!("Redis was restarted and still has what it was told");
        }
        lease.redis_run_id = run_id;
        Ok(self.relay.store.move_relay(self.relay.settings.shard, lease).await?)
    }

    async fn is_marked(&mut self) -> Result<bool, EventsError> {
        let exists: bool = redis::cmd("EXISTS").arg(EVENTS).query_async(&mut self.connection).await?;
        if !exists {
            return Ok(false);
        }
        let groups: StreamInfoGroupsReply =
            redis::cmd("XINFO").arg("GROUPS").arg(EVENTS).query_async(&mut self.connection).await?;
        Ok(groups.groups.iter().any(|group| group.name == MARK))
    }

    /// Tells all of the window, to a stream that is marked only once it is written down that this is owed: whoever
    /// takes over in between finds no mark and begins again.
    async fn begin_again(&mut self, lease: &mut RelayLease) -> Result<bool, EventsError> {
        if lease.told != Position::default() {
            warn!("Redis lost events that it had been told; telling all of the outbox window again");
            metrics::get().events_republished.add(1, &[]);
        }
        lease.told = Position::default();
        lease.last_stream_id = None;
        if !self.relay.store.move_relay(self.relay.settings.shard, lease).await? {
            return Ok(false);
        }
        let marked = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(EVENTS)
            .arg(MARK)
            .arg("$")
            .arg("MKSTREAM")
            .exec_async(&mut self.connection)
            .await;
        match marked {
            // There already: the stream was restored from an older copy.
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(true),
            marked => Ok(marked.map(|()| true)?),
        }
    }
}

/// What an inspection found.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "four facts, each of its own; what they come to is one function")]
struct Seen {
    /// The stream is the one that was filled from the start of the window.
    marked: bool,
    same_server: bool,
    /// The last event it was told is still there.
    has_last: bool,
    /// The stream is as long as it may be, so that old entries are trimmed.
    full: bool,
}

impl Seen {
    /// Whether events that were told are gone.
    ///
    /// A stream without the mark is another one. A restart alone loses nothing where the last event is still there: what Redis persists, it persists in order.
    /// Without it, only trimming by a full stream of the same server is innocent.
    const fn is_lost(self) -> bool {
        !(self.marked && (self.has_last || self.full && self.same_server))
    }
}

fn add(pipeline: &mut Pipeline, event: &OutboxEvent, kept: usize) {
    let text = |id: Option<String>| id.unwrap_or_default();
    pipeline.cmd("XADD").arg(EVENTS).arg("NOMKSTREAM").arg("MAXLEN").arg("~").arg(kept).arg("*").arg(&[
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
        .arg("NOMKSTREAM")
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
        let seen = |same_server, has_last, full| Seen { marked: true, same_server, has_last, full }.is_lost();
        assert!(!seen(true, true, false));
        assert!(!seen(false, true, false), "restarted, and its file had everything");
        assert!(seen(false, false, false), "replaced by an empty one");
        assert!(seen(true, false, false), "emptied");
        assert!(!seen(true, false, true), "trimmed");
        assert!(seen(false, false, true), "restored from an older copy");
        let whole = Seen { marked: true, same_server: true, has_last: true, full: true };
        assert!(Seen { marked: false, ..whole }.is_lost(), "emptied, and told of since");
    }
}
