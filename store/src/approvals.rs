//! Approvals: what a run shows a person, and what came of it.
//!
//! An approval is asked for once per idempotency key. What it shows (message and data) never changes under its id, and
//! its SHA-256 is what is approved. The first answer counts; after its end, or when its run is over, nothing does.
//!
//! - here: the record, asking, finding, listing · `answer`: who may answer, and answering · `link`: deciding by a link
//!
//! Locks in this order: the run, then its approval. Whoever ends a run closes its approvals in the same statement.

mod answer;
mod link;

use jiff::Timestamp;
use ordinaut_schema::{
    action::parking::{ApprovalRequest, ApprovalState, OnTimeout},
    event::Topic,
    id::{AgentId, ApprovalId, RunId, TaskId},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{Postgres, Transaction, types::Uuid};

use crate::{
    Caller, Store, StoreError,
    connection::become_agent,
    error::Doing as _,
    inbound::trigger_own,
    inbox::{NewMessage, post},
    outbox::{Told, tell},
    unanswered::Within as _,
};

pub use answer::{Authority, Decision};

/// An approval, as whoever decides it sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    pub id: ApprovalId,
    pub agent: AgentId,
    pub agent_name: String,
    pub task: TaskId,
    pub task_title: String,
    pub run: RunId,
    pub message: String,
    pub data: Value,
    /// Of what is shown, in hexadecimal: an answer names it.
    pub shown_sha256: String,
    pub on_timeout: OnTimeout,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
    pub state: ApprovalState,
    pub answered_at: Option<Timestamp>,
    pub answered_by: Option<String>,
    pub comment: Option<String>,
    pub approved_items: Value,
    /// When a channel took word of it.
    pub told_at: Option<Timestamp>,
}

impl Approval {
    /// What can be approved one by one: the data if it is a list, or the list `items` in it.
    pub fn items(&self) -> Option<&[Value]> {
        let list = if self.data.is_array() { Some(&self.data) } else { self.data.get("items") };
        list.and_then(Value::as_array).map(Vec::as_slice)
    }
}

/// A call that asks.
#[derive(Debug, Clone)]
pub struct NewApproval {
    pub agent: AgentId,
    pub task: TaskId,
    pub run: RunId,
    /// The call's idempotency key.
    pub key: String,
    pub cause_depth: u16,
    pub request: ApprovalRequest,
}

impl Store {
    /// Asks, once per key, with an event and a message in the inbox; answers how it stands, timed out if its end has
    /// passed meanwhile. What nobody answered is asked anew by a retry of its run; what a person decided stands.
    ///
    /// # Errors
    /// [`StoreError::RunState`] when the run is over.
    pub async fn request_approval(&self, new: &NewApproval) -> Result<Approval, StoreError> {
        let new = new.clone();
        self.transaction("request an approval", move |mut tx| async move {
            become_agent(&mut tx, new.agent).await?;
            let approval = request(&mut tx, &new).await?;
            Ok((approval, tx))
        })
        .await
    }

    /// Notes that a channel took word of an approval: nobody tells of it again. Role executor only.
    pub async fn approval_told(&self, id: ApprovalId) -> Result<(), StoreError> {
        sqlx::query!("update approval set told_at = coalesce(told_at, now()) where id = $1", id.uuid())
            .execute(&self.pool)
            .within(self, "note that a person was told of an approval")
            .await
            .map(drop)
    }

    /// One approval of `caller`'s agent.
    ///
    /// # Errors
    /// [`StoreError::ApprovalNotFound`]
    pub async fn find_approval(&self, caller: &Caller, id: ApprovalId) -> Result<Approval, StoreError> {
        let agent = caller.agent;
        self.transaction_as(caller, "find an approval", move |mut tx| async move {
            let approval = find(&mut tx, id).await?;
            if approval.agent == agent { Ok((approval, tx)) } else { Err(StoreError::ApprovalNotFound(id)) }
        })
        .await
    }

    /// The approvals of an agent, or (`None`, in the role that sees all) of everyone, that wait for an answer.
    pub async fn list_approvals(&self, agent: Option<AgentId>, limit: u32) -> Result<Vec<Approval>, StoreError> {
        self.transaction("list approvals", move |mut tx| async move {
            if let Some(agent) = agent {
                become_agent(&mut tx, agent).await?;
            }
            let approvals = select(&mut tx, None, agent, true, limit).await?;
            Ok((approvals, tx))
        })
        .await
    }

    /// The approvals that wait for an answer from somebody other than `agent`.
    pub async fn approvals_of_others(&self, agent: AgentId, limit: u32) -> Result<Vec<Approval>, StoreError> {
        self.transaction("list approvals of others", move |mut tx| async move {
            let found = sqlx::query!(
                r#"select approval_id as "id!", agent_id as "agent!" from approvals_of_others($1, $2)"#,
                agent.uuid(),
                i64::from(limit)
            )
            .fetch_all(&mut *tx)
            .await
            .doing("look for approvals of others")?;
            let mut approvals = Vec::with_capacity(found.len());
            for one in found {
                become_agent(&mut tx, AgentId::from_uuid(one.agent)).await?;
                approvals.extend(select(&mut tx, Some(one.id), None, false, 1).await?);
            }
            Ok((approvals, tx))
        })
        .await
    }
}

async fn request(tx: &mut Transaction<'_, Postgres>, new: &NewApproval) -> Result<Approval, StoreError> {
    // Whoever ends the run closes what it asked: nothing may be asked behind its back.
    sqlx::query_scalar!("select run_id from due_work where run_id = $1 for share", new.run.uuid())
        .fetch_optional(&mut **tx)
        .await
        .doing("hold a run that asks")?
        .ok_or_else(|| StoreError::RunState { run: new.run, reason: "it is over".to_owned() })?;
    let shown = shown_sha256(&new.request);
    let earlier = sqlx::query!(
        r#"
        select id, run_id, state, shown_sha256, (state = 'waiting' and expires_at <= now()) as "is_due!"
        from approval
        where agent_id = $1
          and key = $2
        for update
        "#,
        new.agent.uuid(),
        new.key
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("look for an earlier request")?;
    let Some(earlier) = earlier else { return ask(tx, new, &shown).await };
    let is_decided = matches!(earlier.state.as_str(), "approved" | "rejected");
    if earlier.shown_sha256 != shown || (earlier.run_id != new.run.uuid() && !is_decided) {
        sqlx::query!("delete from approval where id = $1", earlier.id)
            .execute(&mut **tx)
            .await
            .doing("give up an earlier request")?;
        return ask(tx, new, &shown).await;
    }
    let id = ApprovalId::from_uuid(earlier.id);
    if earlier.is_due {
        sqlx::query!("update approval set state = 'timed_out' where id = $1", earlier.id)
            .execute(&mut **tx)
            .await
            .doing("time an approval out")?;
        let approval = find(tx, id).await?;
        tell_of(tx, &approval, Topic::ApprovalAnswered, new.cause_depth).await?;
        return Ok(approval);
    }
    find(tx, id).await
}

async fn ask(tx: &mut Transaction<'_, Postgres>, new: &NewApproval, shown: &[u8]) -> Result<Approval, StoreError> {
    let id = ApprovalId::new();
    let request = &new.request;
    sqlx::query!(
        "
        insert into approval (
            id, agent_id, task_id, run_id, key, message, data, shown_sha256, on_timeout, cause_depth, expires_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11))
        ",
        id.uuid(),
        new.agent.uuid(),
        new.task.uuid(),
        new.run.uuid(),
        new.key,
        request.message,
        request.data,
        shown,
        request.on_timeout.as_str(),
        i16::try_from(new.cause_depth).unwrap_or(i16::MAX),
        request.timeout.as_secs_f64()
    )
    .execute(&mut **tx)
    .await
    .doing("insert an approval")?;
    let approval = find(tx, id).await?;
    tell_of(tx, &approval, Topic::ApprovalRequested, new.cause_depth).await?;
    let message = NewMessage {
        agent: new.agent,
        task: Some(new.task),
        run: Some(new.run),
        key: format!("approval:{id}"),
        level: "info".to_owned(),
        title: Some(format!("\"{}\" waits for a person's approval", approval.task_title)),
        body: format!(
            "{}\nApproval {id}, until {}. A person decides: `ordinaut approve` lists it, or answer_approval asks the person \
             where the client can.",
            request.message, approval.expires_at
        ),
        cause_depth: new.cause_depth,
    };
    post(tx, &message).await?;
    Ok(approval)
}

/// The hash of what is shown. Keys in their order: what is shown is shown in it.
fn shown_sha256(request: &ApprovalRequest) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in [request.message.clone(), in_one_order(&request.data).to_string()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}

/// PostgreSQL keeps the keys of an object in an order of its own: whatever comes back must have the same hash.
pub(crate) fn in_one_order(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            fields.into_iter().map(|(key, value)| (key.clone(), in_one_order(value))).collect()
        }
        Value::Array(items) => items.iter().map(in_one_order).collect(),
        other => other.clone(),
    }
}

async fn find(tx: &mut Transaction<'_, Postgres>, id: ApprovalId) -> Result<Approval, StoreError> {
    select(tx, Some(id.uuid()), None, false, 1).await?.pop().ok_or(StoreError::ApprovalNotFound(id))
}

async fn select(
    tx: &mut Transaction<'_, Postgres>,
    id: Option<Uuid>,
    agent: Option<AgentId>,
    only_waiting: bool,
    limit: u32,
) -> Result<Vec<Approval>, StoreError> {
    let rows = sqlx::query_file!("queries/approvals.sql", id, agent.map(AgentId::uuid), only_waiting, i64::from(limit))
        .fetch_all(&mut **tx)
        .await
        .doing("read approvals")?;
    rows.into_iter()
        .map(|row| {
            let id = ApprovalId::from_uuid(row.id);
            Ok(Approval {
                id,
                agent: AgentId::from_uuid(row.agent_id),
                agent_name: row.agent_name,
                task: TaskId::from_uuid(row.task_id),
                task_title: row.task_title,
                run: RunId::from_uuid(row.run_id),
                message: row.message,
                data: row.data,
                shown_sha256: hex::encode(row.shown_sha256),
                on_timeout: OnTimeout::from_text(&row.on_timeout)
                    .ok_or_else(|| StoreError::unreadable(format!("approval {id}"), row.on_timeout))?,
                requested_at: row.requested_at.to_jiff(),
                expires_at: row.expires_at.to_jiff(),
                state: ApprovalState::from_text(&row.state)
                    .ok_or_else(|| StoreError::unreadable(format!("the state of approval {id}"), row.state))?,
                answered_at: row.answered_at.map(jiff_sqlx::Timestamp::to_jiff),
                answered_by: row.answered_by,
                comment: row.comment,
                approved_items: row.approved_items.unwrap_or_default(),
                told_at: row.told_at.map(jiff_sqlx::Timestamp::to_jiff),
            })
        })
        .collect()
}

async fn tell_of(
    tx: &mut Transaction<'_, Postgres>,
    approval: &Approval,
    topic: Topic,
    cause_depth: u16,
) -> Result<(), StoreError> {
    let told = [Told {
        agent: approval.agent,
        task: Some(approval.task),
        run: Some(approval.run),
        topic: topic.as_str().into(),
        cause_depth,
        payload: json!({
            "approval_id": approval.id,
            "task_id": approval.task,
            "run_id": approval.run,
            "state": approval.state,
            "message": approval.message,
            "shown_sha256": approval.shown_sha256,
            "expires_at": approval.expires_at,
            "answered_by": approval.answered_by,
            "comment": approval.comment,
        }),
    }];
    tell(tx, &told).await?;
    trigger_own(tx, &told).await
}
