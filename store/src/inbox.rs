//! The inbox: messages an agent's assistant picks up, and what went wrong since it last looked.
//!
//! Looking reads one statement over rows that nobody acknowledged: messages; problems, which a trigger on history notes;
//! approvals that wait. It costs what is new, never what has been.
//!
//! Rows are ordered by what is drawn before the commit: one may become visible behind another that sorts after it.
//! Acknowledging therefore reaches exactly what the listing that ended at a row saw, and never one that came in between:
//! something may be shown twice, but none is lost. What a listing saw, its snapshot, is kept on the row that it showed
//! last, by the first listing that ends there.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use ordinaut_schema::{
    event::Topic,
    id::{AgentId, ApprovalId, MessageId, RunId, TaskId},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    Caller, Store, StoreError, View,
    connection::become_agent,
    error::Doing as _,
    inbound::trigger_own,
    outbox::{Told, tell},
    runs::RunRecord,
};

/// A message to be posted.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub agent: AgentId,
    pub task: Option<TaskId>,
    pub run: Option<RunId>,
    /// Posting again under it changes nothing.
    pub key: String,
    /// `info`, `warning` or `error`.
    pub level: String,
    pub title: Option<String>,
    pub body: String,
    pub cause_depth: u16,
}

/// A message that nobody acknowledged.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    pub id: MessageId,
    pub task: Option<TaskId>,
    pub run: Option<RunId>,
    pub level: String,
    pub title: Option<String>,
    pub body: String,
    pub posted_at: Timestamp,
    /// Never, of what is listed.
    #[serde(default)]
    pub acked_at: Option<Timestamp>,
    is_marked: bool,
}

/// An approval that waits, as an inbox shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Waiting {
    pub id: ApprovalId,
    pub run: RunId,
    pub message: String,
    pub expires_at: Timestamp,
}

/// How much of each to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Most {
    pub messages: u32,
    pub problems: u32,
    pub approvals: u32,
}

/// What is new: what nobody acknowledged, and what nobody decided.
#[derive(Debug, Clone)]
pub struct News {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Runs that failed, were quarantined or skipped, newest first.
    pub problems: Vec<RunRecord>,
    /// Oldest first.
    pub approvals: Vec<Waiting>,
    /// Acknowledges what is listed here, where that is anything.
    pub through: Option<AckThrough>,
    snapshot: String,
    /// The listing is the first that ends where it does: its snapshot is yet to be kept.
    unmarked: bool,
}

/// Where a listing ended: at a message, at a problem, or at both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckThrough {
    message: Option<MessageId>,
    problem: Option<RunId>,
}

impl From<MessageId> for AckThrough {
    fn from(message: MessageId) -> Self {
        Self { message: Some(message), problem: None }
    }
}

impl AckThrough {
    fn of(message: Option<MessageId>, problem: Option<RunId>) -> Option<Self> {
        (message.is_some() || problem.is_some()).then_some(Self { message, problem })
    }

    fn ids(self) -> Vec<Uuid> {
        self.message.map(MessageId::uuid).into_iter().chain(self.problem.map(RunId::uuid)).collect()
    }
}

impl fmt::Display for AckThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message, self.problem) {
            (Some(message), Some(problem)) => write!(f, "{message}+{problem}"),
            (Some(message), None) => message.fmt(f),
            (None, Some(problem)) => problem.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

/// Not what a listing said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not `ack_through` as the inbox answered it")]
pub struct NotAckThrough;

impl FromStr for AckThrough {
    type Err = NotAckThrough;

    fn from_str(text: &str) -> Result<Self, NotAckThrough> {
        if let Some((message, problem)) = text.split_once('+') {
            let (message, problem) = (message.parse().ok(), problem.parse().ok());
            return if message.is_some() && problem.is_some() {
                Ok(Self { message, problem })
            } else {
                Err(NotAckThrough)
            };
        }
        // One id alone may be of either: it names a row of one of both, and none of the other.
        Ok(Self { message: Some(text.parse().map_err(|_| NotAckThrough)?), problem: text.parse().ok() })
    }
}

impl Store {
    /// Posts, once per key, with its `inbox.posted` event. Answers the id, the old one on a repeat.
    pub async fn post_message(&self, message: &NewMessage) -> Result<MessageId, StoreError> {
        let message = message.clone();
        self.transaction("post a message", move |mut tx| async move {
            become_agent(&mut tx, message.agent).await?;
            let id = post(&mut tx, &message).await?;
            Ok((id, tx))
        })
        .await
    }

    /// Acknowledges every message up to `through`, then lists what is unread, oldest first.
    ///
    /// "Every" is what the listing that ended at `through` showed, and what was there before it.
    pub async fn check_inbox(
        &self,
        caller: &Caller,
        through: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        if let Some(through) = through {
            self.acknowledge(caller, through.into()).await?;
        }
        let news = self.view(caller).await?.news(Most { messages: limit, ..Most::default() }).await?;
        self.mark_shown(caller, &news).await?;
        Ok(news.messages)
    }

    /// Acknowledges what the listing that ended there showed. Once more, or of what is not the caller's: nothing.
    pub async fn acknowledge(&self, caller: &Caller, through: AckThrough) -> Result<(), StoreError> {
        let (agent, ids) = (caller.agent, through.ids());
        self.transaction_as(caller, "acknowledge an inbox", move |mut tx| async move {
            sqlx::query_file!("queries/acknowledge.sql", agent.uuid(), &ids)
                .execute(&mut *tx)
                .await
                .doing("acknowledge an inbox")?;
            Ok(((), tx))
        })
        .await
    }

    /// Keeps what a listing saw, so that its reader can acknowledge it: before the reader is answered. Nothing, and no
    /// question, where an earlier one ended at the same rows.
    pub async fn mark_shown(&self, caller: &Caller, news: &News) -> Result<(), StoreError> {
        let Some(AckThrough { message, problem }) = news.through.filter(|_| news.unmarked) else { return Ok(()) };
        let (agent, snapshot) = (caller.agent, news.snapshot.clone());
        self.transaction_as(caller, "keep what an inbox showed", move |mut tx| async move {
            sqlx::query_file!(
                "queries/mark_shown.sql",
                agent.uuid(),
                snapshot,
                message.map(MessageId::uuid),
                problem.map(RunId::uuid),
            )
            .execute(&mut *tx)
            .await
            .doing("keep what an inbox showed")?;
            Ok(((), tx))
        })
        .await
    }
}

impl View {
    /// What is new, by one statement. Changes nothing: [`Store::mark_shown`] makes it what can be acknowledged.
    pub async fn news(&mut self, most: Most) -> Result<News, StoreError> {
        let agent = self.agent();
        let row = self
            .ask("look what is new", move |connection| {
                Box::pin(
                    sqlx::query_file!(
                        "queries/news.sql",
                        agent.uuid(),
                        i64::from(most.messages),
                        i64::from(most.problems),
                        i64::from(most.approvals),
                    )
                    .fetch_one(connection),
                )
            })
            .await?;
        let messages: Vec<Message> = read(agent, row.messages)?;
        let problems: Vec<Problem> = read(agent, row.problems)?;
        let (last_message, last_problem) = (messages.last(), problems.last());
        let unmarked =
            last_message.is_some_and(|last| !last.is_marked) || last_problem.is_some_and(|last| !last.is_marked);
        let through = AckThrough::of(last_message.map(|last| last.id), last_problem.map(|last| last.run.id));
        Ok(News {
            approvals: read(agent, row.approvals)?,
            problems: problems.into_iter().map(|problem| problem.run).collect(),
            messages,
            through,
            snapshot: row.snapshot,
            unmarked,
        })
    }
}

#[derive(Deserialize)]
struct Problem {
    run: RunRecord,
    is_marked: bool,
}

fn read<T: serde::de::DeserializeOwned>(agent: AgentId, rows: Value) -> Result<T, StoreError> {
    serde_json::from_value(rows).map_err(|error| StoreError::unreadable(format!("the inbox of agent {agent}"), error))
}

/// Posts in a transaction of the caller's: a task that is paused says so in the transaction that pauses it.
pub(crate) async fn post(tx: &mut Transaction<'_, Postgres>, message: &NewMessage) -> Result<MessageId, StoreError> {
    let id = MessageId::new();
    let posted = sqlx::query!(
        "
        insert into inbox (id, agent_id, task_id, run_id, key, level, title, body, escalate_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, escalation_due($3))
        on conflict (agent_id, key) do nothing
        ",
        id.uuid(),
        message.agent.uuid(),
        message.task.map(TaskId::uuid),
        message.run.map(RunId::uuid),
        message.key,
        message.level,
        message.title,
        message.body,
    )
    .execute(&mut **tx)
    .await
    .doing("post a message")?;
    if posted.rows_affected() == 0 {
        let earlier = sqlx::query_scalar!(
            "select id from inbox where agent_id = $1 and key = $2",
            message.agent.uuid(),
            message.key,
        )
        .fetch_one(&mut **tx)
        .await
        .doing("find a message posted before")?;
        return Ok(MessageId::from_uuid(earlier));
    }
    let told = [Told {
        agent: message.agent,
        task: message.task,
        run: message.run,
        topic: Topic::InboxPosted.as_str().into(),
        cause_depth: message.cause_depth,
        payload: json!({
            "message_id": id,
            "task_id": message.task,
            "run_id": message.run,
            "level": message.level,
            "title": message.title,
            "body": message.body,
        }),
    }];
    tell(tx, &told).await?;
    trigger_own(tx, &told).await?;
    Ok(id)
}
