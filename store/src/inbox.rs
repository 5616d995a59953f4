//! The inbox: messages an agent's assistant picks up, and what happened since it last looked.
//!
//! Messages are ordered by their ids, which are drawn before the commit: one may become visible behind another that
//! has a later id. Acknowledging therefore reaches exactly what the listing that ended at a message saw, and never one
//! that came in between: a message may be shown twice, but none is lost.

use jiff::Timestamp;
use ordinaut_schema::{
    event::Topic,
    id::{AgentId, MessageId, RunId, TaskId},
};
use serde_json::json;
use sqlx::{Postgres, Transaction};

use crate::{
    Caller, Store, StoreError,
    connection::become_agent,
    error::Doing as _,
    inbound::trigger_own,
    outbox::{Told, tell},
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

#[derive(Debug, Clone)]
pub struct Message {
    pub id: MessageId,
    pub task: Option<TaskId>,
    pub run: Option<RunId>,
    pub level: String,
    pub title: Option<String>,
    pub body: String,
    pub posted_at: Timestamp,
    pub acked_at: Option<Timestamp>,
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
        ack_through: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let agent = caller.agent;
        self.transaction_as(caller, "check the inbox", move |mut tx| async move {
            if let Some(through) = ack_through {
                acknowledge(&mut tx, agent, through).await?;
            }
            let rows = sqlx::query_file!("queries/check_inbox.sql", agent.uuid(), i64::from(limit))
                .fetch_all(&mut *tx)
                .await
                .doing("list unread messages")?;
            let messages = rows
                .into_iter()
                .map(|row| Message {
                    id: MessageId::from_uuid(row.id),
                    task: row.task_id.map(TaskId::from_uuid),
                    run: row.run_id.map(RunId::from_uuid),
                    level: row.level,
                    title: row.title,
                    body: row.body,
                    posted_at: row.posted_at.to_jiff(),
                    acked_at: row.acked_at.map(jiff_sqlx::Timestamp::to_jiff),
                })
                .collect();
            Ok((messages, tx))
        })
        .await
    }
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

async fn acknowledge(tx: &mut Transaction<'_, Postgres>, agent: AgentId, through: MessageId) -> Result<(), StoreError> {
    // A message that ended no listing is acknowledged alone: nobody knows what was shown before it.
    sqlx::query!(
        "
        update inbox
        set acked_at = now()
        from inbox as through
        where through.id = $2
          and through.agent_id = $1
          and inbox.agent_id = $1
          and inbox.acked_at is null
          and inbox.id <= $2
          and (inbox.id = $2 or pg_visible_in_snapshot(inbox.xid, through.shown_in))
        ",
        agent.uuid(),
        through.uuid(),
    )
    .execute(&mut **tx)
    .await
    .doing("acknowledge messages")?;
    Ok(())
}
