//! Reads `ordinaut:events`, from the moment somebody follows something: which tasks and runs to look at.
//!
//! The one place of this program that knows Redis. It only reads, and nothing is believed: an event names what may
//! have changed, and PostgreSQL says whether it did.

use std::time::Duration;

use ordinaut_schema::{event::Topic, id::AgentId};
use ordinaut_store::embedded::current;
use redis::{
    AsyncConnectionConfig, Client, RedisError,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamRangeReply, StreamReadReply},
};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::{Shared, Subject};

const EVENTS: &str = "ordinaut:events";
/// Events of one read.
const BATCH: usize = 500;
/// The longest a read waits; the answer may take a little longer.
const BLOCK: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Reads, and connects again with growing pauses, until the last follower is gone.
pub(super) async fn serve(shared: &Shared) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        let begun = Instant::now();
        let Err(error) = read(shared, &mut told).await;
        shared.lock().fed = false;
        shared.stirred.notify_one();
        // One line an outage, not one a try.
        if !told && let Some(error) = error {
            let error = &error as &dyn std::error::Error;
            warn!(error, "events cannot be read from Redis; subscribers hear of changes a little later");
            told = true;
        }
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends with an error only; with none of its own where no Redis is known.
async fn read(shared: &Shared, told: &mut bool) -> Result<std::convert::Infallible, Option<RedisError>> {
    let Some(url) = address(shared) else {
        debug!("no Redis is known; subscribers hear of changes a little later");
        return Err(None);
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(3)))
        .set_response_timeout(Some(BLOCK + ANSWER));
    let client = Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut last = end(&mut connection).await?;
    if *told {
        info!("events are read from Redis again");
        *told = false;
    }
    // What changed before this place in the stream was told by nobody: all is looked at once.
    {
        let mut state = shared.lock();
        state.fed = true;
        state.followers.stir_all();
    }
    shared.stirred.notify_one();
    loop {
        for entry in next(&mut connection, &last).await? {
            stir(shared, &entry);
            last = entry.id;
        }
    }
}

/// Where Redis is: as configured, or this machine's own.
fn address(shared: &Shared) -> Option<String> {
    let services = shared.backend.now().ok()?;
    match (services.redis_url, services.embedded) {
        (Some(url), _) => Some(url.expose().to_owned()),
        (None, Some(set)) => current(&set.layout)?.redis_url,
        (None, None) => None,
    }
}

/// The last entry there is. `$` would name another place at each read, and lose what comes between two.
async fn end(connection: &mut MultiplexedConnection) -> Result<String, RedisError> {
    let newest: StreamRangeReply =
        redis::cmd("XREVRANGE").arg(EVENTS).arg("+").arg("-").arg("COUNT").arg(1).query_async(connection).await?;
    Ok(newest.ids.into_iter().next().map_or_else(|| "0-0".to_owned(), |entry| entry.id))
}

async fn next(connection: &mut MultiplexedConnection, after: &str) -> Result<Vec<StreamId>, RedisError> {
    let reply: Option<StreamReadReply> = redis::cmd("XREAD")
        .arg("COUNT")
        .arg(BATCH)
        .arg("BLOCK")
        .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(1))
        .arg("STREAMS")
        .arg(EVENTS)
        .arg(after)
        .query_async(connection)
        .await?;
    Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect())
}

/// Has what an event is about looked at, if its agent follows it.
fn stir(shared: &Shared, entry: &StreamId) {
    let Some(agent) = field(entry, "agent").and_then(|agent| agent.parse::<AgentId>().ok()) else { return };
    let topic = field(entry, "topic").unwrap_or_default();
    let task = field(entry, "task").and_then(|task| task.parse().ok()).map(Subject::Task);
    let run = field(entry, "run").and_then(|run| run.parse().ok()).map(Subject::Run);
    let list = topic.starts_with("task.").then_some(Subject::List);
    // Told while it is only about to be written.
    let early = topic == Topic::StepFinished.to_string();
    let mut look = false;
    {
        let mut state = shared.lock();
        for subject in [task, run, list].into_iter().flatten() {
            look |= state.followers.stir(agent, subject, early);
        }
    }
    if look {
        shared.stirred.notify_one();
    }
}

fn field(entry: &StreamId, name: &str) -> Option<String> {
    entry.get(name)
}
