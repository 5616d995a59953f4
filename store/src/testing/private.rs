//! Servers of one test alone, for those that stop, kill or restart them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::database::Database;
use super::servers::{Servers, start_watched};
use crate::embedded::{Durability, Postgres, Redis, Site};

const END_LIMIT: Duration = Duration::from_secs(5);
const END_INTERVAL: Duration = Duration::from_millis(10);

/// A PostgreSQL and a Redis that end with this fixture.
#[derive(Debug)]
pub struct PrivateServers {
    pub site: Site,
    pub postgres: Postgres,
    pub redis: Redis,
    directory: PathBuf,
}

impl PrivateServers {
    /// Starts a pair; with [`Durability::Durable`] as people have it.
    ///
    /// # Panics
    /// When they do not start: the test cannot go on.
    pub async fn start(durability: Durability) -> Self {
        let directory = PathBuf::from(format!("/tmp/ordinaut-test-{:016x}", rand::random::<u64>()));
        let (site, postgres, redis) = start_watched(&directory, durability).await;
        Self { site, postgres, redis, directory }
    }

    /// Makes a fresh, migrated database here.
    pub async fn database(&self) -> Database {
        Database::on(Servers::at(&self.postgres.url(), self.redis_url())).await
    }

    pub fn redis_url(&self) -> String {
        Redis::url(&self.site)
    }

    /// Starts again whichever was stopped.
    ///
    /// # Panics
    /// When one does not start.
    pub async fn restart(&mut self) {
        self.postgres = Postgres::start(&self.site, &mut |_| {}).await.expect("PostgreSQL for a test starts again");
        self.redis = Redis::start(&self.site).await.expect("Redis for a test starts again");
    }
}

impl Drop for PrivateServers {
    fn drop(&mut self) {
        // At once: nothing of theirs is wanted any more. PostgreSQL takes its children along on SIGQUIT.
        self.postgres.process.signal(Signal::SIGQUIT);
        self.redis.process.signal(Signal::SIGKILL);
        let deadline = Instant::now() + END_LIMIT;
        while (self.postgres.process.is_alive() || self.redis.process.is_alive()) && Instant::now() < deadline {
            std::thread::sleep(END_INTERVAL);
        }
        // What a server still writes while it ends stays behind in the temporary directory, and harms nobody.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
