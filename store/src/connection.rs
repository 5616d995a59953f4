//! The pool: who it works as, how long it waits, and how a transaction survives a caller that goes away.

use std::{future::Future, str::FromStr, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use ordinaut_schema::id::AgentId;
use sqlx::{
    ConnectOptions as _, Executor as _, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    afterwards::{self, Again},
    error::{Doing as _, StoreError},
    wakeups::Wakeups,
};

/// How often a transaction is begun that PostgreSQL rolls back for the sake of others.
const TRIES: u32 = 5;

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
    /// The trace that the call is part of, as a W3C `traceparent`: the runs that it plans go on with it.
    pub traceparent: Option<String>,
}

impl Caller {
    /// The agent of this machine's own user; made by the first migration.
    pub const LOCAL_AGENT: AgentId =
        AgentId::from_uuid(sqlx::types::Uuid::from_u128(0x0000_0000_0000_8000_8000_0000_0000_0001));

    pub fn local(principal: &str) -> Self {
        Self { agent: Self::LOCAL_AGENT, principal: principal.to_owned(), client: None, traceparent: None }
    }
}

/// A pool of connections in one role. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) deadline: Duration,
    pub(crate) wakeups: Wakeups,
    pub(crate) again: Again,
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
        let store = Self { pool, deadline: settings.deadline, wakeups, again: Again::default() };
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
    /// Locks are waited for in one order: `received`, tasks by id, budgets of agents by id, runs by id; concurrency keys are not waited for by
    /// whoever holds a run. What Ordinaut's own events trigger cannot keep to it: which tasks listen to the end of a
    /// run, and which of their runs give way, is known only after runs are locked. So two may wait for each other;
    /// PostgreSQL rolls one back, and that one begins anew here, with a fresh copy of `work`.
    ///
    /// After the commit, whatever it left is seen to: hints, and admission once more (`afterwards`).
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when no answer came within the deadline.
    pub(crate) async fn transaction<T, W, F>(&self, doing: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(Transaction<'static, Postgres>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>> + Send,
    {
        let store = self.clone();
        let apart = tokio::spawn(async move {
            let (answer, left) = again_when_rolled_back(&store.pool, doing, work).await?;
            store.see_to(left);
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
        W: FnOnce(Transaction<'static, Postgres>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>> + Send,
    {
        let (agent, traceparent) = (caller.agent, caller.traceparent.clone());
        self.transaction(doing, move |mut tx| async move {
            take_view(&mut tx, agent, traceparent.as_deref()).await?;
            work(tx).await
        })
        .await
    }
}

/// Commits `work`, however often PostgreSQL rolls it back for the sake of others, within reason.
async fn again_when_rolled_back<T, W, F>(
    pool: &PgPool,
    doing: &'static str,
    work: W,
) -> Result<(T, afterwards::Left), StoreError>
where
    W: FnOnce(Transaction<'static, Postgres>) -> F + Clone,
    F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>>,
{
    for _ in 1..TRIES {
        let copy = work.clone();
        match afterwards::collect(once(pool, doing, copy)).await {
            Err(error) if error.is_rolled_back() => {
                tracing::debug!(error = &error as &dyn std::error::Error, "beginning anew: {doing}");
            }
            done => return done,
        }
    }
    afterwards::collect(once(pool, doing, work)).await
}

/// Begins, works, commits.
async fn once<T, W, F>(pool: &PgPool, doing: &'static str, work: W) -> Result<T, StoreError>
where
    W: FnOnce(Transaction<'static, Postgres>) -> F,
    F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>>,
{
    let tx = pool.begin().await.doing(doing)?;
    let (answer, tx) = work(tx).await?;
    tx.commit().await.doing(doing)?;
    Ok(answer)
}

/// Narrows a transaction to one agent's rows, where the role is subject to row-level security.
///
/// Answers with the database's clock, which costs no further question.
pub(crate) async fn become_agent(tx: &mut Transaction<'_, Postgres>, agent: AgentId) -> Result<Timestamp, StoreError> {
    take_view(tx, agent, None).await
}

/// As [`become_agent`], and `due_work.traceparent` of what is planned in it is the caller's.
async fn take_view(
    tx: &mut Transaction<'_, Postgres>,
    agent: AgentId,
    traceparent: Option<&str>,
) -> Result<Timestamp, StoreError> {
    let view = sqlx::query!(
        r#"
        select set_config('ordinaut.agent', $1, true) as "agent!",
            set_config('ordinaut.traceparent', $2, true) as "traceparent!",
            clock_timestamp() as "now!: jiff_sqlx::Timestamp"
        "#,
        agent.to_string(),
        traceparent.unwrap_or_default(),
    )
    .fetch_one(&mut **tx)
    .await
    .doing("take the agent's view")?;
    Ok(view.now.to_jiff())
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
