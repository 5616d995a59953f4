//! A fresh, migrated database for one test: copied from a template, dropped with the fixture.

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::Timestamp as Instant;
use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{RunState, SkipReason},
};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::types::{Json, Uuid};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Postgres, Transaction};

use super::servers::Servers;
use crate::wakeups::CHANNEL;

/// Any number, the same for every test process: only one makes a template at a time.
const TEMPLATE_LOCK: i64 = 0x6f72_6469;

/// A database that belongs to one test.
#[derive(Debug)]
pub struct Database {
    pub pool: PgPool,
    pub url: String,
    name: String,
    servers: Servers,
}

/// Makes a fresh database with all migrations.
///
/// # Panics
/// When that fails: the test cannot go on.
pub async fn database() -> Database {
    Database::on(Servers::shared().await).await
}

impl Database {
    pub(super) async fn on(servers: Servers) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let template = template(&servers).await.expect("the template database can be made");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}_{:08x}", std::process::id(), rand::random::<u32>());
        let mut connection = connect(&servers, "postgres").await.expect("the test PostgreSQL answers");
        execute(&mut connection, format!("create database {name} template {template}"))
            .await
            .expect("a test database can be copied");

        Self::open(servers, name).await
    }

    /// Makes one with nothing in it, for what is to be restored.
    pub(super) async fn empty_on(servers: Servers) -> Self {
        let name = format!("restored_{:08x}", rand::random::<u32>());
        let mut connection = connect(&servers, "postgres").await.expect("the test PostgreSQL answers");
        execute(&mut connection, format!("create database {name}")).await.expect("a database can be made");
        Self::open(servers, name).await
    }

    async fn open(servers: Servers, name: String) -> Self {
        let options = servers.postgres.clone().database(&name);
        let url = options.to_url_lossy().to_string();
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await
            .expect("a test database answers");
        Self { pool, url, name, servers }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A row of history, as whole-system tests count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRun {
    pub task: TaskId,
    pub state: RunState,
    pub attempts: i32,
}

impl Database {
    /// All of history, of every agent.
    ///
    /// # Panics
    /// It cannot be read.
    pub async fn history(&self) -> Vec<EndedRun> {
        let rows: Vec<(Uuid, String, i32)> = sqlx::query_as("select task_id, state, attempts from run")
            .fetch_all(&self.pool)
            .await
            .expect("history can be read");
        rows.into_iter()
            .map(|(task, state, attempts)| EndedRun {
                task: TaskId::from_uuid(task),
                state: RunState::from_text(&state).expect("history has known states"),
                attempts,
            })
            .collect()
    }

    /// Makes the database one that a program one version back migrated, as far as its own records say.
    ///
    /// # Panics
    /// They cannot be changed.
    pub async fn forget_last_migration(&self) {
        sqlx::query("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
            .execute(&self.pool)
            .await
            .expect("a migration can be forgotten");
    }

    /// Every row of every table as text: what is not in it was not kept.
    ///
    /// # Panics
    /// It cannot be read.
    pub async fn every_row(&self) -> String {
        let tables: Vec<String> = sqlx::query_scalar(
            "select quote_ident(relname) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
        )
        .fetch_all(&self.pool)
        .await
        .expect("tables can be listed");
        let mut all = String::new();
        for table in tables {
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("select t::text from {table} as t")))
                .fetch_all(&self.pool)
                .await
                .expect("rows can be read");
            all.push_str(&rows.join("\n"));
        }
        all
    }

    /// Runs statements of a test's own, as the owner: scenes that no verb sets.
    ///
    /// # Errors
    /// PostgreSQL's own words, for whoever wrote them.
    pub async fn run_sql(&self, statements: &str) -> Result<(), String> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.pool).await.map(drop).map_err(said)
    }

    /// What a query of a test's own answers, as the owner: an object for each row, in its order.
    ///
    /// # Errors
    /// PostgreSQL's own words, for whoever wrote it.
    pub async fn rows(&self, query: &str) -> Result<Vec<Value>, String> {
        let query = query.trim().trim_end_matches(';');
        let rows: Json<Vec<Value>> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select coalesce(json_agg(answer), '[]') from (\n{query}\n) as answer"
        )))
        .fetch_one(&self.pool)
        .await
        .map_err(said)?;
        Ok(rows.0)
    }

    /// How many runs are not over.
    ///
    /// # Panics
    /// They cannot be counted.
    pub async fn live_runs(&self) -> i64 {
        sqlx::query_scalar("select count(*) from due_work").fetch_one(&self.pool).await.expect("runs can be counted")
    }
}

impl Database {
    /// Locks these journaled steps until the transaction ends: nobody's write of their results is done before.
    ///
    /// # Panics
    /// One of them is not journaled.
    pub async fn hold_steps(&self, steps: &[(RunId, &str)]) -> Transaction<'static, Postgres> {
        let mut tx = self.pool.begin().await.expect("a test database answers");
        for (run, step) in steps {
            sqlx::query("select from step_journal where run_id = $1 and step = $2 for update")
                .bind(run.uuid())
                .bind(*step)
                .fetch_one(&mut *tx)
                .await
                .expect("the step has begun");
        }
        tx
    }

    /// How many sessions wait for a lock of a journaled step.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn waiting_for_steps(&self) -> i64 {
        sqlx::query_scalar(
            "
            select count(*)
            from pg_stat_activity
            where datname = current_database()
              and wait_event_type = 'Lock'
              and query like '%step_journal%'
            ",
        )
        .fetch_one(&self.pool)
        .await
        .expect("the owner sees who waits")
    }

    /// Ends every session that waits for a lock: what it was to write is not written. A server finds out late that a
    /// client which it has nothing to say to is dead, and would do its last wish.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn cut_off_waiting(&self) {
        sqlx::query(
            "
            select pg_terminate_backend(pid, 10000)
            from pg_stat_activity
            where datname = current_database()
              and wait_event_type = 'Lock'
            ",
        )
        .execute(&self.pool)
        .await
        .expect("the owner ends sessions");
    }
}

/// How far a task's schedule has been followed, with the stretch that is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub next_occurrence_at: Option<Timestamp>,
    /// The reason, the first and the last occurrence, and how many.
    pub open: Option<(SkipReason, Timestamp, Timestamp, u32)>,
}

impl Database {
    /// Has executors look at once, as a hint does; for when the clock was moved, which nobody tells them.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn wake_executors(&self) {
        sqlx::query("select pg_notify($1, '0')").bind(CHANNEL).execute(&self.pool).await.expect("a hint can be sent");
    }

    /// # Panics
    /// There is no such task.
    pub async fn cursor(&self, task: TaskId) -> Cursor {
        type Row = (Option<Instant>, Option<String>, Option<Instant>, Option<Instant>, Option<i32>);
        let (next, reason, from, to, count): Row = sqlx::query_as(
            "
            select next_occurrence_at, stretch_reason, stretch_from, stretch_to, stretch_count
            from task
            where id = $1
            ",
        )
        .bind(task.uuid())
        .fetch_one(&self.pool)
        .await
        .expect("the task is there");
        let open = reason.zip(from).zip(to).zip(count).map(|(((reason, from), to), count)| {
            let reason = SkipReason::from_text(&reason).expect("a stretch has a known reason");
            (reason, from.to_jiff(), to.to_jiff(), count.unsigned_abs())
        });
        Cursor { next_occurrence_at: next.map(Instant::to_jiff), open }
    }

    /// How many tasks have an occurrence that is due and not decided.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn due_tasks(&self) -> i64 {
        sqlx::query_scalar("select count(*) from task where next_due_at <= clock_timestamp()")
            .fetch_one(&self.pool)
            .await
            .expect("tasks can be counted")
    }

    /// The most runs in flight that any one task has.
    ///
    /// # Panics
    /// The database is gone.
    pub async fn most_live_runs(&self) -> i64 {
        sqlx::query_scalar(
            "select coalesce(max(n), 0) from (select count(*) as n from due_work group by task_id) as each",
        )
        .fetch_one(&self.pool)
        .await
        .expect("runs can be counted")
    }
}

fn said(error: sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (servers, name) = (self.servers.clone(), self.name.clone());
        // Dropping cannot wait on the test's own runtime, which may be the thread it runs on.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = connect(&servers, "postgres").await?;
                execute(&mut connection, format!("drop database if exists {name} with (force)")).await
            })
        });
        // A test that stopped its servers leaves nothing to drop, and the watcher removes what remains.
        let _ = dropped.join();
    }
}

/// Finds or makes the migrated database that this test program's are copied from.
///
/// The migrations are compiled into the program, so a template belongs to one build of one program.
async fn template(servers: &Servers) -> sqlx::Result<String> {
    let program = env::current_exe()?;
    let mut hasher = DefaultHasher::new();
    (&program, program.metadata()?.modified()?).hash(&mut hasher);
    let name = format!("template_{:016x}", hasher.finish());

    let mut connection = connect(servers, "postgres").await?;
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut connection).await?;
    let known: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut connection)
        .await?;
    if !known {
        let unfinished = format!("{name}_unfinished");
        execute(&mut connection, format!("drop database if exists {unfinished} with (force)")).await?;
        execute(&mut connection, format!("create database {unfinished}")).await?;
        let url = options(servers, &unfinished).to_url_lossy().to_string();
        crate::migrate(&url).await.expect("the migrations apply to an empty database");
        execute(&mut connection, format!("alter database {unfinished} rename to {name}")).await?;
    }
    connection.close().await?;
    Ok(name)
}

fn options(servers: &Servers, database: &str) -> PgConnectOptions {
    servers.postgres.clone().database(database)
}

async fn connect(servers: &Servers, database: &str) -> sqlx::Result<PgConnection> {
    PgConnection::connect_with(&options(servers, database)).await
}

/// Runs a statement with a name of our own making in it, which no parameter can carry.
async fn execute(connection: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}
