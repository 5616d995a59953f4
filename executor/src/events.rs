//! Events out to Redis and in from it. Redis is never read for truth, and its absence stops nothing else.
//!
//! - [`publisher`]: the outbox, relayed in order by one executor at a time; progress, told directly
//! - [`subscriber`]: `ordinaut:inbound`, where other systems publish

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::worker::chain;

pub mod publisher;
pub mod subscriber;

/// What happens, for whoever listens.
pub const EVENTS: &str = "ordinaut:events";
/// What other systems say.
pub const INBOUND: &str = "ordinaut:inbound";
/// Entries of [`INBOUND`] that nobody could read, with the reason.
pub const DEAD: &str = "ordinaut:inbound:dead";

/// The longest a blocking read waits; the answer may take a little longer.
const BLOCK: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why a round with Redis ended.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    #[error("Redis did not do as asked")]
    Redis(#[from] RedisError),
    #[error("the store did not do as asked")]
    Store(#[from] ordinaut_store::StoreError),
}

/// What is done with a connection until it breaks.
#[async_trait]
trait Work: Send {
    /// Works until the drain, or until Redis or the store fails.
    async fn work(&mut self, connection: MultiplexedConnection) -> Result<(), EventsError>;
}

/// Connects and works, again and again with growing pauses, until `drain`.
async fn keep_working(service: &'static str, client: &Client, drain: &CancellationToken, mut work: impl Work) {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(3)))
        .set_response_timeout(Some(BLOCK + ANSWER));
    let mut pause = PAUSES.0;
    let mut told = false;
    while !drain.is_cancelled() {
        let begun = tokio::time::Instant::now();
        let ended = async {
            let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            if told {
                info!("{service}: Redis is back");
                told = false;
            }
            work.work(connection).await
        }
        .await;
        let Err(error) = ended else { continue };
        // One line an outage, not one a try.
        if !told {
            warn!("{service}: {}; trying again until it is back", chain(&error));
            told = true;
        }
        if begun.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        let wait = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        if until(drain, tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// `None` when `drain` came first.
async fn until<T>(drain: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    drain.run_until_cancelled(work).await
}
