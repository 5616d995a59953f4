//! Servers of one test alone, for those that stop, kill or restart them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{env, fs, iter};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;

use super::clock::ServerClock;
use super::database::Database;
use super::servers::{Servers, make_directory, start_watched};
use crate::embedded::{Durability, Postgres, PostgresBinaries, Redis, Site};

const END_LIMIT: Duration = Duration::from_secs(5);
const END_INTERVAL: Duration = Duration::from_millis(10);

/// A PostgreSQL and a Redis that end with this fixture.
#[derive(Debug)]
pub struct PrivateServers {
    pub site: Site,
    pub postgres: Postgres,
    pub redis: Redis,
    /// Of [`PrivateServers::start_at`] only.
    pub clock: Option<ServerClock>,
    directory: PathBuf,
}

impl PrivateServers {
    /// Starts a pair; with [`Durability::Durable`] as people have it.
    ///
    /// # Panics
    /// When they do not start: the test cannot go on.
    pub async fn start(durability: Durability) -> Self {
        let directory = a_directory();
        let (site, postgres, redis) = start_watched(&directory, durability, env::var_os("PATH")).await;
        Self { site, postgres, redis, clock: None, directory }
    }

    /// Starts a pair whose PostgreSQL has a wall clock of its own, which says `at` now. `library` is libfaketime.
    ///
    /// # Panics
    /// When they do not start: the test cannot go on.
    pub async fn start_at(at: Timestamp, library: &Path) -> Self {
        let directory = a_directory();
        make_directory(&directory);
        let path = env::var_os("PATH");
        let (clock, programs) = ServerClock::wrap(&directory, library, path.as_deref(), at);
        let beside = path.iter().flat_map(env::split_paths);
        let path = env::join_paths(iter::once(programs).chain(beside)).expect("PATH has no odd entries");
        let (site, postgres, redis) = start_watched(&directory, Durability::Fast, Some(path)).await;
        Self { site, postgres, redis, clock: Some(clock), directory }
    }

    /// Makes a fresh, migrated database here.
    pub async fn database(&self) -> Database {
        Database::on(Servers::at(&self.postgres.url(), self.redis_url())).await
    }

    /// Makes a database here with nothing in it.
    pub async fn empty_database(&self) -> Database {
        Database::empty_on(Servers::at(&self.postgres.url(), self.redis_url())).await
    }

    /// Runs a client program of this PostgreSQL's own installation (`psql`, `pg_dump`) on its database `database`, and
    /// answers what it said.
    ///
    /// # Panics
    /// It cannot be run, or fails.
    pub async fn client(&self, program: &str, database: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let found = PostgresBinaries::find(env::var_os("PATH").as_deref(), Path::new("/nonexistent"));
        let program = found.expect("PostgreSQL is installed").postgres.with_file_name(program);
        let mut child = tokio::process::Command::new(&program)
            .args(["-d", &self.postgres.url_of(database)])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a client of PostgreSQL starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may have said all it has to say before it has read all: then writing fails, and it does not matter.
        let (_, output) = tokio::join!(
            async {
                let written = stdin.write_all(input).await;
                drop(stdin);
                written
            },
            child.wait_with_output()
        );
        let output = output.expect("a client of PostgreSQL ends");
        assert!(output.status.success(), "{} failed: {}", program.display(), output.status);
        output.stdout
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

fn a_directory() -> PathBuf {
    PathBuf::from(format!("/tmp/ordinaut-test-{:016x}", rand::random::<u64>()))
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
