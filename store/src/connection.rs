//! The pool: who it works as, how long it waits, and how a transaction survives a caller that goes away.

use std::{future::Future, str::FromStr, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use ordinaut_schema::id::AgentId;
use sqlx::{
    ConnectOptions as _, Executor as _, PgPool, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    error::{Doing as _, StoreError},
    restored::adopt_rows,
    retention::make_partitions,
    wakeups::Wakeups,
};

static MIGRATIONS: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!("../migrations") };

/// Which role the connections take: how much of the database exists for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One agent at a time, by row-level security.
    Mcp,
    /// Every agent: executors and the operator's command line.
    Executor,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mcp => "ordinaut_mcp",
            Self::Executor => "ordinaut_executor",
        }
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `postgres://…`, a Unix socket by `?host=/dir`.
    pub url: String,
    pub role: Role,
    pub max_connections: u32,
    /// How long a verb may take before its outcome is given up as unknown.
    pub deadline: Duration,
}

impl Settings {
    pub fn new(url: impl Into<String>, role: Role) -> Self {
        Self { url: url.into(), role, max_connections: 8, deadline: Duration::from_secs(30) }
    }
}

/// On whose behalf something is done, and through what: the agent is enforced, the rest is kept in the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub agent: AgentId,
    /// `stdio`, `cli`, or the label of a token.
    pub principal: String,
    /// What the client said its name was.
    pub client: Option<String>,
}

impl Caller {
    /// The agent of this machine's own user; made by the first migration.
    pub const LOCAL_AGENT: AgentId =
        AgentId::from_uuid(sqlx::types::Uuid::from_u128(0x0000_0000_0000_8000_8000_0000_0000_0001));

    pub fn local(principal: &str) -> Self {
        Self { agent: Self::LOCAL_AGENT, principal: principal.to_owned(), client: None }
    }
}

/// A pool of connections in one role. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) deadline: Duration,
    pub(crate) wakeups: Wakeups,
}

impl Store {
    /// Connects, and makes sure that the role sees no more than it should.
    ///
    /// # Errors
    /// [`StoreError::RoleCanBypass`] when row-level security would not hold for [`Role::Mcp`].
    pub async fn connect(settings: Settings) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(&settings.url)
            .doing("read the database's address")?
            .application_name("ordinaut")
            .options([
                ("idle_in_transaction_session_timeout", "30s"),
                ("lock_timeout", "10s"),
                ("statement_timeout", "60s"),
                ("timezone", "UTC"),
            ])
            .disable_statement_logging();
        let role = settings.role;
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(Duration::from_secs(10))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    let take_role = match role {
                        Role::Mcp => "set role ordinaut_mcp",
                        Role::Executor => "set role ordinaut_executor",
                    };
                    connection.execute(take_role).await.map(drop)
                })
            })
            .connect_with(options)
            .await
            .doing("connect to the database")?;
        let wakeups = Wakeups::new(&pool);
        let store = Self { pool, deadline: settings.deadline, wakeups };
        if role == Role::Mcp {
            store.refuse_bypass().await?;
        }
        Ok(store)
    }

    async fn refuse_bypass(&self) -> Result<(), StoreError> {
        let role = sqlx::query!(
            r#"
            select rolname as "name!",
                   (rolsuper or rolbypassrls or exists (
                       select from pg_class where relowner = pg_roles.oid and relname in ('task', 'run', 'due_work')
                   )) as "can_bypass!"
            from pg_roles
            where rolname = current_user
            "#
        )
        .fetch_one(&self.pool)
        .await
        .doing("look at the role's rights")?;
        if role.can_bypass { Err(StoreError::RoleCanBypass { role: role.name }) } else { Ok(()) }
    }

    /// The database's clock, which is the clock.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!: jiff_sqlx::Timestamp""#)
            .fetch_one(&self.pool)
            .await
            .doing("read the database's clock")?;
        Ok(now.to_jiff())
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Runs `work` in a transaction of its own task: a caller that goes away, or stops waiting, cannot leave it half
    /// done on a connection that somebody else gets next.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when no answer came within the deadline.
    pub(crate) async fn transaction<T, W, F>(&self, doing: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(Transaction<'static, Postgres>) -> F + Send + 'static,
        F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>> + Send,
    {
        let pool = self.pool.clone();
        let apart = tokio::spawn(async move {
            let tx = pool.begin().await.doing(doing)?;
            let (answer, tx) = work(tx).await?;
            tx.commit().await.doing(doing)?;
            Ok(answer)
        });
        match tokio::time::timeout(self.deadline, apart).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Err(_elapsed) => Err(StoreError::Unknown { doing, limit: self.deadline }),
        }
    }

    /// As [`Store::transaction`], seeing only what `caller`'s agent owns.
    pub(crate) async fn transaction_as<T, W, F>(
        &self,
        caller: &Caller,
        doing: &'static str,
        work: W,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(Transaction<'static, Postgres>) -> F + Send + 'static,
        F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>> + Send,
    {
        let agent = caller.agent;
        self.transaction(doing, move |mut tx| async move {
            become_agent(&mut tx, agent).await?;
            work(tx).await
        })
        .await
    }
}

/// Narrows a transaction to one agent's rows, where the role is subject to row-level security.
pub(crate) async fn become_agent(tx: &mut Transaction<'_, Postgres>, agent: AgentId) -> Result<(), StoreError> {
    sqlx::query_scalar!("select set_config('ordinaut.agent', $1, true)", agent.to_string())
        .fetch_one(&mut **tx)
        .await
        .doing("take the agent's view")?;
    Ok(())
}

/// The database's instant of this transaction.
pub(crate) async fn transaction_now(tx: &mut Transaction<'_, Postgres>) -> Result<Timestamp, StoreError> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!: jiff_sqlx::Timestamp""#)
        .fetch_one(&mut **tx)
        .await
        .doing("read the database's clock")?;
    Ok(now.to_jiff())
}

/// Has this transaction's statements planned for the values they are given: a list with optional filters has no one
/// plan that suits them all.
pub(crate) async fn plan_each_time(tx: &mut Transaction<'_, Postgres>) -> Result<(), StoreError> {
    sqlx::query!("set local plan_cache_mode = 'force_custom_plan'")
        .execute(&mut **tx)
        .await
        .doing("choose how lists are planned")?;
    Ok(())
}

/// Binds an optional instant.
pub(crate) fn at(instant: Option<Timestamp>) -> Option<jiff_sqlx::Timestamp> {
    instant.map(ToSqlx::to_sqlx)
}

/// Brings the schema of the database at `url` up to this program's, under an advisory lock, and takes over what a dump
/// has brought from another cluster.
///
/// A database that a newer program migrated is left as it is: programs one version back keep working.
pub async fn migrate(url: &str) -> Result<(), StoreError> {
    let mut connection = PgConnectOptions::from_str(url)
        .doing("read the database's address")?
        .application_name("ordinaut migrate")
        .connect()
        .await
        .doing("connect to the database")?;
    MIGRATIONS.run(&mut connection).await.map_err(StoreError::Migrate)?;
    adopt_rows(&mut connection).await?;
    // Before anybody writes: a row that is on its way to the default partition cannot have its own made meanwhile.
    make_partitions(&mut connection).await
}
