//! One agent's view of what is stored: a transaction that reads, in as few messages as it takes.
//!
//! A transaction of its own for each question costs six round trips: is the connection alive, begin, the agent, the
//! question, commit, and whatever the question needs to know first. Here one message begins the transaction, narrows it
//! to the agent and brings back what every answer needs: the clock and the agent's zone. Then each question is one
//! message. Nobody waits for the end, since a transaction that only read has nothing to say: it is rolled back after
//! the answer.
//!
//! Plans are kept. What a view asks is written so that one plan suits all values, because history has a partition a day,
//! and planning for all of them takes longer than reading a page.
//!
//! Row-level security is what it is elsewhere: the agent is set for this transaction, and ends with it. A connection on
//! which a question was cut off, by a caller who went away or by the deadline, is closed: the pool gets back only
//! connections whose transaction is known to be over.

use std::{future::Future, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use ordinaut_schema::id::AgentId;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Postgres, Row as _, pool::PoolConnection};
use tokio::time::timeout;

use crate::{
    Caller, Store,
    error::{Doing as _, StoreError, is_gone},
};

const BEGIN: &str = "begin to read";
/// How long the end of a transaction may take: a connection that went deaf must not keep its place in the pool.
const GOODBYE: Duration = Duration::from_secs(5);

/// What one agent sees, at one instant. Dropped, it is over.
#[derive(Debug)]
pub struct View {
    agent: AgentId,
    now: Timestamp,
    /// `None`: there is no such agent.
    standing: Option<Standing>,
    deadline: Duration,
    transaction: Open,
}

/// What an agent's row says that answers depend on.
#[derive(Debug)]
struct Standing {
    timezone: Option<String>,
}

impl Store {
    /// Begins to read as `caller`'s agent.
    pub async fn view(&self, caller: &Caller) -> Result<View, StoreError> {
        let (agent, deadline) = (caller.agent, self.deadline);
        let begun = async {
            for _ in 0..self.pool.options().get_max_connections() {
                match self.begin_once(agent).await {
                    // The server was restarted since the connection was used last: another one is made.
                    Err(StoreError::Database { source, .. }) if is_gone(&source) => {}
                    begun => return begun,
                }
            }
            self.begin_once(agent).await
        };
        within(deadline, BEGIN, begun).await
    }

    async fn begin_once(&self, agent: AgentId) -> Result<View, StoreError> {
        let mut transaction = Open::on(self.pool.acquire().await.doing(BEGIN)?);
        // One message takes no parameters; an agent's id is digits and dashes, whoever's it is.
        let begin = format!(
            "begin isolation level repeatable read, read only;
             set local ordinaut.agent = '{agent}';
             execute ordinaut_view ('{agent}')"
        );
        let rows = transaction
            .ask(|connection| Box::pin(sqlx::raw_sql(AssertSqlSafe(begin)).fetch_all(connection)))
            .await
            .doing(BEGIN)?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound).doing(BEGIN)?;
        let is_known: bool = row.try_get("is_known").doing(BEGIN)?;
        let timezone = row.try_get("timezone").doing(BEGIN)?;
        Ok(View {
            agent,
            now: row.try_get::<jiff_sqlx::Timestamp, _>("now").doing(BEGIN)?.to_jiff(),
            standing: is_known.then_some(Standing { timezone }),
            deadline: self.deadline,
            transaction,
        })
    }
}

impl View {
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    /// The database's clock as it began.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The zone of the agent's tasks that name none, where it has one.
    ///
    /// # Errors
    /// [`StoreError::AgentNotFound`]
    pub fn timezone(&self) -> Result<Option<&str>, StoreError> {
        match &self.standing {
            Some(standing) => Ok(standing.timezone.as_deref()),
            None => Err(StoreError::AgentNotFound(self.agent.to_string())),
        }
    }

    /// One question, within the deadline.
    pub(crate) async fn ask<T, Q>(&mut self, doing: &'static str, question: Q) -> Result<T, StoreError>
    where
        Q: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        let (deadline, transaction) = (self.deadline, &mut self.transaction);
        within(deadline, doing, async { transaction.ask(question).await.doing(doing) }).await
    }

    /// Several, of verbs that others ask in transactions of their own.
    pub(crate) async fn ask_all<T, Q>(&mut self, doing: &'static str, questions: Q) -> Result<T, StoreError>
    where
        Q: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        let (deadline, transaction) = (self.deadline, &mut self.transaction);
        within(deadline, doing, transaction.ask(questions)).await
    }
}

async fn within<T>(
    limit: Duration,
    doing: &'static str,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(limit, answer).await.unwrap_or(Err(StoreError::Unknown { doing, limit }))
}

/// A connection with a transaction on it that the pool's own bookkeeping does not know of.
#[derive(Debug)]
struct Open {
    connection: Option<PoolConnection<Postgres>>,
    /// A question is under way, or was cut off.
    asking: bool,
}

impl Open {
    fn on(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Some(connection), asking: false }
    }

    async fn ask<T, E, Q>(&mut self, question: Q) -> Result<T, E>
    where
        Q: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>>,
    {
        let connection = self.connection.as_mut().expect("a view has its connection until it is dropped");
        self.asking = true;
        let answer = question(connection).await;
        self.asking = false;
        answer
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.asking {
            connection.close_on_drop();
            return;
        }
        // As the pool itself does when it is given a connection back: there is nobody to wait, and an end that fails
        // costs the connection only.
        tokio::spawn(async move {
            if !matches!(timeout(GOODBYE, connection.execute("rollback")).await, Ok(Ok(_))) {
                tracing::debug!("a view did not end; its connection is closed");
                connection.close_on_drop();
            }
        });
    }
}
