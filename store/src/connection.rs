//! The pool: who it works as, how long it waits, and how a transaction survives a caller that goes away.

mod settings;

use std::{future::Future, pin::pin, str::FromStr, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use ordinaut_schema::id::AgentId;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool, Postgres, Transaction,
    pool::PoolConnectionMetadata,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use self::settings::HOT;
pub use self::settings::{Role, Settings};
use crate::{
    afterwards::{self, Again},
    error::{Doing as _, StoreError, is_gone, is_missing_table},
    unanswered::{Doubt, Unanswered, Within as _},
    wakeups::Wakeups,
};

/// How often a transaction is begun that PostgreSQL rolls back for the sake of others.
const TRIES: u32 = 5;
/// Connections for what must not wait: one, and one more while the first turns out to be dead.
const URGENT: u32 = 2;
/// How long after its last use a connection is taken to be alive, unasked. Each has just been asked when it came back to
/// the pool; asking once more delays every verb by a round trip.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// What begins a [`View`](crate::View): the clock and an agent's standing. Planned anew in every view, it took longer than
/// all else that begins one.
const PREPARE_VIEW: &str = "
    prepare ordinaut_view (uuid) as
    select clock_timestamp() as now, agent.id is not null as is_known, agent.timezone
    from (select) as one
    left join agent on agent.id = $1";
/// After so many deadlines a transaction that nobody waits for any more is given up.
const GIVEN_UP: u32 = 4;

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
    /// What the HTTP request is called in which the call came, if it came in one.
    pub http_request_id: Option<String>,
}

impl Caller {
    /// The agent of this machine's own user; made by the first migration.
    pub const LOCAL_AGENT: AgentId =
        AgentId::from_uuid(sqlx::types::Uuid::from_u128(0x0000_0000_0000_8000_8000_0000_0000_0001));

    pub fn local(principal: &str) -> Self {
        Self::of(Self::LOCAL_AGENT, principal)
    }

    /// Somebody who acts for `agent`, in no call of a client's.
    pub fn of(agent: AgentId, principal: impl Into<String>) -> Self {
        Self { agent, principal: principal.into(), client: None, traceparent: None, http_request_id: None }
    }
}

/// A pool of connections in one role. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    /// Connections of their own, made when they are first needed, for what keeps leases alive: behind everything that
    /// the runs themselves write it would come too late.
    pub(crate) urgent: PgPool,
    /// Few connections, for claims and conclusions, made when they are first needed. A backend plans every statement for
    /// itself and reads what it has to know of each table, a partition of history a day among them; the pool gives
    /// them out in turn, so that a dozen would each be learning for as long as a queue takes to be drained.
    pub(crate) hot: PgPool,
    pub(crate) deadline: Duration,
    pub(crate) doubt: Doubt,
    pub(crate) wakeups: Wakeups,
    pub(crate) again: Again,
    #[cfg(test)]
    pub(crate) cut: crate::cut_off::Cut,
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
            .options(settings.role.plans().iter().copied())
            .options([
                ("idle_in_transaction_session_timeout", "30s"),
                // Every statement is short, and one over history's partitions looks costly enough to be compiled: which
                // took 5 s before it read 67 pages.
                ("jit", "off"),
                ("lock_timeout", "10s"),
                ("statement_timeout", "60s"),
                ("timezone", "UTC"),
            ])
            .disable_statement_logging();
        let (role, doubt) = (settings.role, Doubt::default());
        let asked = doubt.clone();
        let pools = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(Duration::from_secs(10))
            .test_before_acquire(false)
            .before_acquire(|connection, known| Box::pin(ask_if_idle(connection, known)))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    let take_role = match role {
                        Role::Mcp => "set role ordinaut_mcp",
                        Role::Executor => "set role ordinaut_executor",
                    };
                    connection.execute(take_role).await?;
                    match connection.execute(PREPARE_VIEW).await {
                        // Nothing is here yet: whoever connects first makes it.
                        Err(error) if is_missing_table(&error) => Ok(()),
                        prepared => prepared.map(drop),
                    }
                })
            })
            .after_release(move |connection, _| {
                let asked = asked.clone();
                Box::pin(async move { asked.try_out(connection).await })
            });
        let urgent = pools.clone().max_connections(URGENT).connect_lazy_with(options.clone());
        let hot = pools.clone().max_connections(HOT).connect_lazy_with(options.clone().options(Role::hot_plans()));
        let pool = pools.connect_with(options).await.doing("connect to the database")?;
        let wakeups = Wakeups::new(&pool);
        let store = Self {
            pool,
            urgent,
            hot,
            deadline: settings.deadline,
            doubt,
            wakeups,
            again: Again::default(),
            #[cfg(test)]
            cut: crate::cut_off::Cut::default(),
        };
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
        .within(self, "look at the role's rights")
        .await?;
        if role.can_bypass { Err(StoreError::RoleCanBypass { role: role.name }) } else { Ok(()) }
    }

    /// The database's clock, which is the clock.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!: jiff_sqlx::Timestamp""#);
        Ok(now.fetch_one(&self.pool).within(self, "read the database's clock").await?.to_jiff())
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.urgent.close().await;
        self.hot.close().await;
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
    /// [`StoreError::Unknown`] when no answer came within the deadline. It may commit all the same, for a while; what
    /// has no answer by then never gets one, and its connection is closed.
    pub(crate) async fn transaction<T, W, F>(&self, doing: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(Transaction<'static, Postgres>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>> + Send,
    {
        self.transact(&self.pool, doing, None, work).await
    }

    /// As [`Store::transaction`], on one of the connections for what is asked for each batch of runs.
    pub(crate) async fn hot_transaction<T, W, F>(&self, doing: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(Transaction<'static, Postgres>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>> + Send,
    {
        self.transact(&self.hot, doing, None, work).await
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
        self.transact(&self.pool, doing, Some(begin_as(caller)), work).await
    }

    /// `None` when it was given up, and dropped where it stood.
    #[cfg(not(test))]
    async fn until_given_up<T>(&self, working: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.deadline * GIVEN_UP, working).await.ok()
    }

    /// A test says at which wait that is.
    #[cfg(test)]
    async fn until_given_up<T>(&self, working: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.deadline * GIVEN_UP, self.cut.off(working)).await.ok().flatten()
    }

    async fn transact<T, W, F>(
        &self,
        pool: &PgPool,
        doing: &'static str,
        begin: Option<String>,
        work: W,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(Transaction<'static, Postgres>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>> + Send,
    {
        let (store, pool) = (self.clone(), pool.clone());
        let apart = tokio::spawn(async move {
            let working = pin!(again_when_rolled_back(&pool, doing, begin.as_deref(), work));
            // Dropped before the work, so that its connection is doubted by the time it comes back.
            let unanswered = Unanswered::new(&store.doubt);
            let Some(done) = store.until_given_up(working).await else {
                return Err(StoreError::Unknown { doing, limit: store.deadline });
            };
            unanswered.answered();
            let (answer, left) = done?;
            store.see_to(left);
            Ok(answer)
        });
        match tokio::time::timeout(self.deadline, apart).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Err(_elapsed) => Err(StoreError::Unknown { doing, limit: self.deadline }),
        }
    }
}

/// For a pool, before it gives a connection out.
///
/// # Errors
/// The connection does not answer.
pub(crate) async fn ask_if_idle(
    connection: &mut PgConnection,
    known: PoolConnectionMetadata,
) -> Result<bool, sqlx::Error> {
    if known.idle_for >= TRUSTED_FOR {
        connection.ping().await?;
    }
    Ok(true)
}

/// Begins, and takes the caller's view, in one message; `due_work.traceparent` of what is planned is the caller's.
///
/// One message takes no parameters: an agent's id is digits and dashes, and so is a trace, or it is left out.
fn begin_as(caller: &Caller) -> String {
    let is_plain = |trace: &&str| trace.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let trace = caller.traceparent.as_deref().filter(is_plain).unwrap_or_default();
    format!("begin; set local ordinaut.agent = '{}'; set local ordinaut.traceparent = '{trace}'", caller.agent)
}

/// Commits `work`, however often PostgreSQL rolls it back for the sake of others, within reason.
async fn again_when_rolled_back<T, W, F>(
    pool: &PgPool,
    doing: &'static str,
    begin: Option<&str>,
    work: W,
) -> Result<(T, afterwards::Left), StoreError>
where
    W: FnOnce(Transaction<'static, Postgres>) -> F + Clone,
    F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>>,
{
    for _ in 1..TRIES {
        let copy = work.clone();
        match afterwards::collect(once(pool, doing, begin, copy)).await {
            Err(error) if error.is_rolled_back() => {
                tracing::debug!(error = &error as &dyn std::error::Error, "beginning anew: {doing}");
            }
            done => return done,
        }
    }
    afterwards::collect(once(pool, doing, begin, work)).await
}

/// Begins, works, commits.
async fn once<T, W, F>(pool: &PgPool, doing: &'static str, begin: Option<&str>, work: W) -> Result<T, StoreError>
where
    W: FnOnce(Transaction<'static, Postgres>) -> F,
    F: Future<Output = Result<(T, Transaction<'static, Postgres>), StoreError>>,
{
    let tx = begin_on(pool, begin).await.doing(doing)?;
    let (answer, tx) = work(tx).await?;
    tx.commit().await.doing(doing)?;
    Ok(answer)
}

/// Begins, on another connection where one turns out to be gone: nothing was begun on it.
async fn begin_on(pool: &PgPool, begin: Option<&str>) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let begin = begin.unwrap_or("begin");
    for _ in 0..pool.options().get_max_connections() {
        match pool.begin_with(AssertSqlSafe(begin.to_owned())).await {
            Err(error) if is_gone(&error) => {}
            answer => return answer,
        }
    }
    pool.begin_with(AssertSqlSafe(begin.to_owned())).await
}

/// Narrows a transaction to one agent's rows, where the role is subject to row-level security.
///
/// Answers with the database's clock, which costs no further question.
pub(crate) async fn become_agent(tx: &mut Transaction<'_, Postgres>, agent: AgentId) -> Result<Timestamp, StoreError> {
    let view = sqlx::query!(
        r#"
        select set_config('ordinaut.agent', $1, true) as "agent!",
            set_config('ordinaut.traceparent', '', true) as "traceparent!",
            clock_timestamp() as "now!: jiff_sqlx::Timestamp"
        "#,
        agent.to_string(),
    )
    .fetch_one(&mut **tx)
    .await
    .doing("take the agent's view")?;
    Ok(view.now.to_jiff())
}

/// The database's instant of this transaction.
pub(crate) async fn transaction_now(connection: &mut PgConnection) -> Result<Timestamp, StoreError> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!: jiff_sqlx::Timestamp""#)
        .fetch_one(connection)
        .await
        .doing("read the database's clock")?;
    Ok(now.to_jiff())
}

/// Binds an optional instant.
pub(crate) fn at(instant: Option<Timestamp>) -> Option<jiff_sqlx::Timestamp> {
    instant.map(ToSqlx::to_sqlx)
}
