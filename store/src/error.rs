//! Why the store could not do what it was asked.

use std::time::Duration;

use ordinaut_schema::{
    budget::Exhausted,
    id::{ApprovalId, RunId, TaskId},
};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("task `{task}` does not exist")]
    TaskNotFound {
        /// As it was asked for: an id or a title.
        task: String,
        /// Titles that come near.
        near: Vec<String>,
    },
    #[error("run {0} does not exist")]
    RunNotFound(RunId),
    #[error("agent `{0}` does not exist")]
    AgentNotFound(String),
    #[error("an agent named `{0}` exists already")]
    AgentNameTaken(String),
    #[error("a task titled `{title}` exists already, with another definition")]
    TitleTaken { title: String, existing: TaskId },
    #[error("task {task} is at revision {actual}, not {expected}")]
    RevisionChanged { task: TaskId, expected: u32, actual: u32 },
    /// `reason` says what the task is: cancelled, ended, not paused, …
    #[error("task {task} cannot be changed so: {reason}")]
    TaskState { task: TaskId, reason: String },
    /// Nothing was planned, because a budget is used up.
    #[error("no run of task {task} fits its budgets: {exhausted}")]
    OverBudget { task: TaskId, exhausted: Box<Exhausted> },
    #[error("the request id `{request}` was used for a run of another task")]
    RequestUsed { request: String },
    #[error("run {run} cannot be changed so: {reason}")]
    RunState { run: RunId, reason: String },
    #[error("approval {0} does not exist")]
    ApprovalNotFound(ApprovalId),
    #[error("approval {approval} cannot be answered so: {reason}")]
    ApprovalRefused { approval: ApprovalId, reason: String },
    /// What a person accepts is what they were shown, nothing else.
    #[error("not, or no more, what was shown of the server `{server}`: {}; nothing was accepted", tools.join(", "))]
    NotAsShown { server: String, tools: Vec<String> },
    /// A sub-run that could never begin or end.
    #[error("the sub-run cannot be started: {0}")]
    SubRunRefused(String),
    #[error("the agent has {limit} active tasks already, which is its limit")]
    TooManyTasks { limit: u32 },
    /// Another attempt owns the run now; this one must stop and report nothing.
    #[error("the lease on run {run} is lost")]
    LeaseLost { run: RunId },
    /// The role that programs for agents work as could see every agent's rows.
    #[error("role `{role}` is able to bypass row-level security; it must be neither superuser, owner nor BYPASSRLS")]
    RoleCanBypass { role: String },
    /// Sent, and no answer came in time: it may have been done. Read again by key.
    #[error("no answer from the database within {limit:?} to: {doing}")]
    Unknown { doing: &'static str, limit: Duration },
    #[error("could not read back {what} as stored")]
    Unreadable { what: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// `doing` completes "could not"; the cause is `source`, never part of this text.
    #[error("could not {doing}")]
    Database { doing: &'static str, source: sqlx::Error },
    #[error("could not migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

impl StoreError {
    /// Whether asking again may help: the connection or the server failed, not the question.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Database { source, .. } => match source {
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Protocol(_) => true,
                // 08 connection, 40 rollback (serialisation, deadlock), 53 resources, 57 operator intervention.
                // 55P03 a lock was not had in time, 25P03 a transaction sat idle too long: somebody else was stuck.
                // 23514 without a constraint's name: a row was on its way to a default partition while the one it
                // belongs to was attached. The same statement finds its place the second time.
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
                        || matches!(&*code, "55P03" | "25P03")
                        || (code == "23514" && error.constraint().is_none())
                }),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether PostgreSQL refused what a row says. Asked once more it may take it, where that [may help](Self::is_retryable);
    /// when it does not, the row at fault is to be found, or it holds up the others.
    pub fn is_of_a_row(&self) -> bool {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => {
                error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
            }
            _ => false,
        }
    }

    /// Whether PostgreSQL rolled the transaction back for the sake of others (a deadlock, a serialisation failure):
    /// nothing of it was done, and the same once more may go through.
    pub(crate) fn is_rolled_back(&self) -> bool {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => {
                error.code().is_some_and(|code| matches!(&*code, "40001" | "40P01"))
            }
            _ => false,
        }
    }

    /// The name of the constraint that refused the write, if one did.
    pub(crate) fn constraint(&self) -> Option<&str> {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => error.constraint(),
            _ => None,
        }
    }

    pub(crate) fn unreadable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unreadable { what: what.into(), source: source.into() }
    }
}

/// Whether a connection was found to be gone: the server ended it, or is not the one it was. What was asked on it first
/// was not begun.
pub(crate) fn is_gone(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // 57P01 to 57P05: ended by the operator, by a crash, for being idle; 08: the connection.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P0") || code.starts_with("08"))
        }
        _ => false,
    }
}

/// Whether a table is asked for that no migration has made yet.
pub(crate) fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01"))
}

/// Names the operation while it is still known: `.doing("claim due runs")?`.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { doing, source })
    }
}
