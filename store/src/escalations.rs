//! Escalations: messages of an inbox that stayed unread are sent to a channel once.
//!
//! A message is claimed by moving its next try ahead, so that of several executors one sends it. Once a channel took it,
//! it is never claimed again; an executor that died between the two leaves it to the next try, so that it may be sent
//! twice. What was acknowledged before it is claimed is not sent.

use std::time::Duration;

use jiff::Timestamp;
use ordinaut_schema::id::{AgentId, MessageId, RunId, TaskId};

use crate::{Store, StoreError, unanswered::Within as _};

/// How long one that is claimed is nobody else's; then twice as long each time. Longer than sending may take.
const FIRST_PAUSE: Duration = Duration::from_mins(2);
/// The last comes 17 hours after the first.
const TRIES: i32 = 10;

/// A message that one executor may send now.
#[derive(Debug, Clone)]
pub struct Escalation {
    pub message: MessageId,
    pub agent: AgentId,
    pub task: TaskId,
    pub run: Option<RunId>,
    /// What the task's present revision names; none where it does not escalate any more.
    pub channel: Option<String>,
    pub level: String,
    pub title: Option<String>,
    pub body: String,
    pub posted_at: Timestamp,
    /// There is no further try.
    pub is_last: bool,
}

impl Store {
    /// Claims the message that has been due longest. Role executor only.
    pub async fn claim_escalation(&self) -> Result<Option<Escalation>, StoreError> {
        let row = sqlx::query_file!("queries/claim_escalation.sql", FIRST_PAUSE.as_secs_f64(), TRIES)
            .fetch_optional(&self.pool)
            .within(self, "claim an unread message")
            .await?;
        Ok(row.map(|row| Escalation {
            message: MessageId::from_uuid(row.id),
            agent: AgentId::from_uuid(row.agent_id),
            task: TaskId::from_uuid(row.task_id),
            run: row.run_id.map(RunId::from_uuid),
            channel: row.channel,
            level: row.level,
            title: row.title,
            body: row.body,
            posted_at: row.posted_at.to_jiff(),
            is_last: row.is_last,
        }))
    }

    /// Notes that a claimed message needs no further try: a channel took it (`sent`), or nothing is to be sent.
    pub async fn settle_escalation(&self, message: MessageId, sent: bool) -> Result<(), StoreError> {
        sqlx::query!(
            "update inbox set escalate_at = null, escalated_at = case when $2::boolean then now() end where id = $1",
            message.uuid(),
            sent,
        )
        .execute(&self.pool)
        .within(self, "note that an unread message was sent")
        .await
        .map(drop)
    }
}
