//! Who may answer an approval, and the answer itself: the first one counts.

use ordinaut_schema::{
    action::parking::ApprovalState,
    event::Topic,
    id::{AgentId, ApprovalId},
};
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};

use super::{Approval, find, tell_of};
use crate::{Caller, Store, StoreError, audit::audit, connection::become_agent, error::Doing as _, waking::wake_run};

/// Why somebody may answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// A person, through what no model holds: the command line of this machine, a link, a form that their client
    /// showed them.
    Person,
    /// A principal of the caller's agent, whose token has `approval:answer`: never of the agent whose run asks. Only its
    /// own principals own the task and can start its runs.
    Principal,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub approve: bool,
    pub comment: Option<String>,
    /// Which of [`Approval::items`], counted from 1; `None` is all of them.
    pub items: Option<Vec<usize>>,
    /// Of what the answer is about, as it was shown.
    pub shown_sha256: String,
}

impl Store {
    /// Answers, and wakes the run; the caller is who answers, and goes to the audit log.
    ///
    /// # Errors
    /// [`StoreError::ApprovalRefused`]: it was answered, has ended, shows something else, or is not the caller's to answer.
    pub async fn answer_approval(
        &self,
        caller: &Caller,
        authority: Authority,
        id: ApprovalId,
        decision: &Decision,
    ) -> Result<Approval, StoreError> {
        let (by, decision) = (caller.clone(), decision.clone());
        self.transaction("answer an approval", move |mut tx| async move {
            let answered = answer(&mut tx, &by, authority, id, &decision).await?;
            Ok((answered, tx))
        })
        .await
    }
}

async fn answer(
    tx: &mut Transaction<'_, Postgres>,
    by: &Caller,
    authority: Authority,
    id: ApprovalId,
    decision: &Decision,
) -> Result<Approval, StoreError> {
    let refused = |reason: String| StoreError::ApprovalRefused { approval: id, reason };
    let owner = sqlx::query_scalar!("select approval_agent($1)", id.uuid())
        .fetch_one(&mut **tx)
        .await
        .doing("look whose an approval is")?
        .map(AgentId::from_uuid)
        .ok_or(StoreError::ApprovalNotFound(id))?;
    if authority == Authority::Principal && by.agent == owner {
        return Err(refused("whoever owns the task or started its run does not decide; a person does".to_owned()));
    }
    become_agent(tx, owner).await?;
    let asked = sqlx::query!("select run_id, cause_depth from approval where id = $1", id.uuid())
        .fetch_one(&mut **tx)
        .await
        .doing("read an approval")?;
    // The run first, as whoever ends it does.
    sqlx::query!("select run_id from due_work where run_id = $1 for update", asked.run_id)
        .fetch_optional(&mut **tx)
        .await
        .doing("lock a run that waits for an answer")?;
    let is_over = sqlx::query_scalar!(
        r#"select expires_at <= now() as "is_over!" from approval where id = $1 for update"#,
        id.uuid()
    )
    .fetch_optional(&mut **tx)
    .await
    .doing("lock an approval")?
    .ok_or(StoreError::ApprovalNotFound(id))?;
    let approval = find(tx, id).await?;
    judge(&approval, is_over, decision).map_err(refused)?;
    let items = approved_items(&approval, decision).map_err(refused)?;
    let state = if decision.approve { ApprovalState::Approved } else { ApprovalState::Rejected };
    sqlx::query!(
        "
        update approval
        set state = $2,
            answered_at = clock_timestamp(),
            answered_by = $3,
            comment = $4,
            approved_items = $5
        where id = $1
        ",
        id.uuid(),
        state.as_str(),
        by.principal,
        decision.comment,
        items
    )
    .execute(&mut **tx)
    .await
    .doing("keep an answer")?;
    let answered = find(tx, id).await?;
    let line = Caller { agent: owner, ..by.clone() };
    let detail = json!({
        "approval": id,
        "state": state,
        "shown_sha256": answered.shown_sha256,
        "items": decision.items,
        "comment": decision.comment,
        "answered_for": by.agent,
    });
    audit(tx, &line, "answer_approval", Some(answered.task), Some(answered.run), Some(detail)).await?;
    tell_of(tx, &answered, Topic::ApprovalAnswered, u16::try_from(asked.cause_depth).unwrap_or(0)).await?;
    wake_run(tx, answered.run).await?;
    Ok(answered)
}

/// Whether this answer still counts.
fn judge(approval: &Approval, is_over: bool, decision: &Decision) -> Result<(), String> {
    match approval.state {
        ApprovalState::Waiting if is_over => return Err(format!("it ended at {}", approval.expires_at)),
        ApprovalState::Waiting => {}
        state @ (ApprovalState::Approved | ApprovalState::Rejected) => {
            let by = approval.answered_by.as_deref().unwrap_or("somebody");
            return Err(format!("it was {state} by {by} already, and the first answer counts"));
        }
        ApprovalState::TimedOut => return Err(format!("nobody answered by its end at {}", approval.expires_at)),
        ApprovalState::Closed => return Err("the run that asked is over".to_owned()),
    }
    if approval.shown_sha256.eq_ignore_ascii_case(decision.shown_sha256.trim()) {
        Ok(())
    } else {
        Err(format!(
            "the answer is about something else than what is asked: its SHA-256 is {}; look at it again",
            approval.shown_sha256
        ))
    }
}

/// What is approved, out of what was shown and nothing else.
fn approved_items(approval: &Approval, decision: &Decision) -> Result<Value, String> {
    let shown = approval.items();
    match (&decision.items, shown) {
        _ if !decision.approve => Ok(json!([])),
        (None, None) => Ok(approval.data.clone()),
        (None, Some(items)) => Ok(json!(items)),
        (Some(_), None) => Err("what is asked is no list, so it is approved or rejected as a whole".to_owned()),
        (Some(picked), Some(items)) => {
            if let Some(wrong) = picked.iter().find(|n| **n == 0 || **n > items.len()) {
                return Err(format!("there is no item {wrong}; items are counted from 1 to {}", items.len()));
            }
            let kept = items.iter().enumerate().filter(|(n, _)| picked.contains(&(n + 1)));
            Ok(kept.map(|(_, item)| item.clone()).collect())
        }
    }
}
