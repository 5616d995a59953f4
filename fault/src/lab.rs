//! One fault's laboratory: private servers as people have them, a database with witnesses, a sink, a directory for logs.
//!
//! It remembers what was promised ([`crate::client`]), what must happen ([`crate::workload`]) and what was done to the
//! programs, and turns that into [`Histories`] at the end.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use ordinaut_schema::id::EventId;
use ordinaut_store::{
    embedded::Durability,
    testing::{Database, PrivateServers},
};
use serde_json::Value;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    clock,
    expected::Expected,
    fleet::{self, Names},
    histories::{Disturbance, Histories, Kept, Turns, Unreplicated},
    link::Link,
    sink::Sink,
    witness,
};

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longer than anything here takes on a loaded machine, unless it is stuck.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// An executor may keep as many events as a fault of full size makes.
const EVENTS_KEPT: u32 = 5_000_000;

/// See the module.
#[derive(Debug)]
pub struct Lab {
    pub servers: PrivateServers,
    pub database: Database,
    pub sink: Sink,
    pub directory: PathBuf,
    /// Where PostgreSQL is reached instead of its own socket.
    pub link: Option<Link>,
    /// What took over from PostgreSQL, and is read instead of it.
    pub promoted: Option<PrivateServers>,
    /// PostgreSQL's clock is moved in this lab.
    pub clocks_differ: bool,
    pub(crate) names: Names,
    pub(crate) books: Books,
}

/// What is remembered, for those who have no lab at hand; clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books(Arc<Mutex<Remembered>>);

impl Books {
    fn open(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn acknowledge(&self, kept: Kept) {
        let mut remembered = self.open();
        if remembered.unreplicated.is_some_and(|lost| lost.has(clock::now())) {
            remembered.doubtful.push(kept);
        } else {
            remembered.acknowledged.push(kept);
        }
    }
}

#[derive(Debug, Default)]
struct Remembered {
    expected: Vec<Expected>,
    acknowledged: Vec<Kept>,
    doubtful: Vec<Kept>,
    unreplicated: Option<Unreplicated>,
    turns: Vec<Turns>,
    disturbances: Vec<Disturbance>,
}

/// Waits until `look` answers.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let last = look().await;
        if let Ok(Some(seen)) = last {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            // What kept it from being seen is the better answer, when something did.
            return match last {
                Err(error) => Err(error).with_context(|| format!("not seen in {limit:?}: {what}")),
                Ok(_) => bail!("not seen in {limit:?}: {what}"),
            };
        }
        sleep(LOOK_AGAIN).await;
    }
}

impl Lab {
    /// With servers that lose nothing which was committed.
    pub async fn open() -> anyhow::Result<Self> {
        Self::over(PrivateServers::start(Durability::Durable).await).await
    }

    /// The same, behind a [`Link`].
    pub async fn linked() -> anyhow::Result<(Self, Link)> {
        let mut lab = Self::open().await?;
        let link = Link::open(lab.socket()?).await?;
        lab.link = Some(link.clone());
        Ok((lab, link))
    }

    /// Over servers that are there already.
    pub async fn over(servers: PrivateServers) -> anyhow::Result<Self> {
        let database = servers.database().await;
        let lab = Self::around(servers, database).await?;
        witness::install(&lab).await?;
        Ok(lab)
    }

    /// With a database that nobody has migrated yet, and so without witnesses.
    pub async fn bare() -> anyhow::Result<Self> {
        let servers = PrivateServers::start(Durability::Durable).await;
        let database = servers.empty_database().await;
        Self::around(servers, database).await
    }

    async fn around(servers: PrivateServers, database: Database) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("ordinaut-fault-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&directory).context("make the lab's directory")?;
        let settings = format!("[executor]\nevents_kept = {EVENTS_KEPT}\n");
        std::fs::write(directory.join("ordinaut.toml"), settings).context("configure the lab's executors")?;
        let sink = Sink::open(&directory).await?;
        let clocks_differ = servers.clock.is_some();
        let (names, books) = (Names::default(), Books::default());
        let lab = Self { servers, database, sink, directory, link: None, promoted: None, clocks_differ, names, books };
        witness::name_executors(&lab).await?;
        Ok(lab)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.books.open()
    }

    /// The socket of this lab's PostgreSQL.
    pub fn socket(&self) -> anyhow::Result<PathBuf> {
        socket_of(&self.servers)
    }

    /// How one reaches the database as that user: by the link, where there is one.
    pub fn url_as(&self, user: &str) -> String {
        match &self.link {
            Some(link) => {
                let name = self.database.name();
                format!("postgres://{user}@{}/{name}?sslmode=disable", link.address)
            }
            None => self
                .database
                .url
                .replace("user=ordinaut", &format!("user={user}"))
                .replace("//ordinaut@", &format!("//{user}@")),
        }
    }

    pub(crate) fn expect(&self, expected: Expected) {
        self.remembered().expected.push(expected);
    }

    /// What is committed from `since` on, the replica may never get.
    pub fn cut_off(&self, since: Timestamp) {
        self.remembered().unreplicated = Some(Unreplicated { since, until: Timestamp::MAX });
    }

    /// From now on the replica is what there is.
    pub fn taken_over(&self) {
        if let Some(lost) = &mut self.remembered().unreplicated {
            lost.until = clock::now();
        }
    }

    /// No more than so many calls of this path are inside at once.
    pub fn take_turns(&self, path: &str, most: usize) {
        self.remembered().turns.push(Turns { path: path.to_owned(), most });
    }

    /// Notes that something is being done to an executor, or to everything.
    pub fn disturb(&self, executor: Option<&str>) {
        let now = clock::now();
        self.remembered().disturbances.push(Disturbance {
            begun: now,
            over: now,
            executor: executor.map(str::to_owned),
        });
    }

    /// The last disturbance went on until now.
    pub fn calm(&self) {
        if let Some(last) = self.remembered().disturbances.last_mut() {
            last.over = clock::now();
        }
    }

    /// What a query answers, as the database's owner.
    pub async fn rows(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let Some(promoted) = &self.promoted else {
            return self.database.rows(query).await.map_err(|why| anyhow!("PostgreSQL: {why}"));
        };
        let query = query.trim().trim_end_matches(';');
        let query = format!("select coalesce(json_agg(answer), '[]') from ({query}) as answer");
        let answer = promoted.client("psql", self.database.name(), &["-At", "-c", &query], b"").await;
        serde_json::from_slice(&answer).context("read what psql says")
    }

    /// The number that a query answers.
    pub async fn number(&self, query: &str) -> anyhow::Result<i64> {
        let rows = self.rows(&format!("select ({query}) as number")).await?;
        rows.first().and_then(|row| row["number"].as_i64()).with_context(|| format!("no number: {query}"))
    }

    /// One command to this lab's Redis, through its own client.
    pub async fn redis(&self, command: &[&str]) -> anyhow::Result<String> {
        let url = self.servers.redis_url();
        let socket = url.split_once("://").context("the address of Redis")?.1;
        let output =
            Command::new("redis-cli").args(["-s", socket]).args(command).output().await.context("run redis-cli")?;
        anyhow::ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).context("read redis-cli's answer")
    }

    /// Waits until every schedule has come to its end and nothing is in flight, then until the stream has every event.
    ///
    /// Patience at its end is no error: what is then left is what the checker finds. As long as something ends it does
    /// not come to its end, however much there is to do on however busy a machine.
    pub async fn settle(&self) {
        let mut least = i64::MAX;
        loop {
            let fewer = until("less that is due or in flight", PATIENCE, async || {
                let open = "
                    select (select count(*) from due_work)
                        + 2 * (select count(*) from task where next_due_at is not null)
                ";
                let left = self.number(open).await?;
                Ok((left == 0 || left < least).then_some(left))
            })
            .await;
            match fewer {
                Ok(0) | Err(_) => break,
                Ok(left) => least = left,
            }
            sleep(LOOK_AGAIN).await;
        }
        let _ = until("every event in the stream", PATIENCE, async || {
            let behind = "
                select count(*)
                from outbox
                join relay_position on relay_position.shard = outbox.shard
                where (outbox.xid, outbox.id) > (relay_position.xid, relay_position.id)
            ";
            if self.number(behind).await? > 0 {
                return Ok(None);
            }
            let told = self.told().await?;
            let all = witness::ids(self).await?.iter().all(|event| told.contains(event));
            if !all {
                // A relay that finds out that Redis lost its stream looks every other second.
                sleep(Duration::from_millis(500)).await;
            }
            Ok(all.then_some(()))
        })
        .await;
    }

    /// The event ids in the stream.
    pub async fn told(&self) -> anyhow::Result<std::collections::BTreeSet<EventId>> {
        let entries = self.redis(&["xrange", "ordinaut:events", "-", "+"]).await?;
        let mut lines = entries.lines();
        let mut told = std::collections::BTreeSet::new();
        while let Some(line) = lines.next() {
            if let ("event_id", Some(Ok(event))) = (line, lines.clone().next().map(str::parse)) {
                told.insert(event);
            }
        }
        Ok(told)
    }

    /// Everything that was seen.
    pub async fn histories(&self) -> anyhow::Result<Histories> {
        let mut histories = Histories::default();
        {
            let remembered = self.remembered();
            histories.expected.clone_from(&remembered.expected);
            histories.acknowledged.clone_from(&remembered.acknowledged);
            histories.doubtful.clone_from(&remembered.doubtful);
            histories.unreplicated = remembered.unreplicated;
            histories.turns.clone_from(&remembered.turns);
            histories.disturbances.clone_from(&remembered.disturbances);
        }
        histories.clocks_differ = self.clocks_differ;
        histories.calls = self.sink.calls()?;
        witness::read(self, &mut histories).await?;
        histories.told = self.told().await?;
        Ok(histories)
    }

    /// Panics in any program of this lab.
    pub fn panics(&self) -> anyhow::Result<Vec<String>> {
        fleet::panics(&self.directory)
    }

    /// Removes the lab's files; without it they stay, for whoever looks why.
    pub fn tidy(self) {
        // What cannot be removed stays in the temporary directory and harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The socket of a private PostgreSQL.
pub fn socket_of(servers: &PrivateServers) -> anyhow::Result<PathBuf> {
    let url = servers.postgres.url();
    let host = url.split_once("host=").and_then(|(_, rest)| rest.split('&').next()).context("a socket's address")?;
    Ok(PathBuf::from(host).join(".s.PGSQL.5432"))
}
