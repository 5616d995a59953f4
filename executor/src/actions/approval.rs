//! `approval.request`: the run is parked until a person decides, or nobody did in time.
//!
//! Where the step names a channel, the person is told through it, once an approval: with what is asked, and a link to
//! decide by where the operator says under which address people reach `ordinaut-mcp http`. A link is for people: it
//! stands in no output, failure or message that an agent's tools show. A channel that cannot be reached now is tried
//! again while the approval waits, for the inbox and the command line know of it already.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use ordinaut_schema::{
    action::parking::{ApprovalState, OnTimeout, approval_channel, approval_request},
    run::{ErrorKind, StepFailure},
};
use ordinaut_store::{
    Store,
    approvals::{Approval, NewApproval},
};
use serde_json::{Value, json};

use super::{
    Action, Answer, StepCall,
    notify::{Announced, NotifySend},
    store_failure,
};
use crate::clock::DatabaseClock;

/// How long at least until a channel that could not be reached is tried again. Then twice as long, and so on: tries are
/// counted with what the agent may send in a day.
const TELL_AGAIN: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct RequestApproval {
    store: Store,
    clock: DatabaseClock,
    notify: Arc<NotifySend>,
    /// What links begin with.
    public_url: Option<String>,
}

impl RequestApproval {
    pub fn new(store: Store, clock: DatabaseClock, notify: Arc<NotifySend>, public_url: Option<String>) -> Self {
        Self { store, clock, notify, public_url }
    }

    /// Tells the person through the step's channel, unless it was done.
    async fn tell(&self, call: &StepCall, channel: &str, approval: &Approval) -> Result<(), StepFailure> {
        if approval.told_at.is_some() {
            return Ok(());
        }
        let token = match &self.public_url {
            Some(_) => self.store.link_approval(approval.id).await.map_err(|error| store_failure(&error))?,
            None => String::new(),
        };
        let decide = match &self.public_url {
            Some(url) => format!("Decide: {url}/approvals/{token}"),
            None => format!("Decide: `ordinaut approve {}`, or `ordinaut approve` for what is asked", approval.id),
        };
        let input = json!({
            "channel": channel,
            "title": format!("\"{}\" waits for your approval", approval.task_title),
            "text": format!("{}\n{decide}\nUntil {}.", approval.message, approval.expires_at),
        });
        let announcement = StepCall { uses: "notify.send".to_owned(), input, ..call.clone() };
        self.notify.announce(announcement, Announced { link: &token, run: Some(call.run) }).await?;
        self.store.approval_told(approval.id).await.map_err(|error| store_failure(&error))
    }
}

#[async_trait]
impl Action for RequestApproval {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let unfit = |why: String| StepFailure::new(ErrorKind::ClientError, why);
        let request = approval_request(&call.input).map_err(unfit)?;
        let channel = approval_channel(&call.input).map_err(unfit)?;
        let new = NewApproval {
            agent: call.agent,
            task: call.task,
            run: call.run,
            key: call.idempotency_key.clone(),
            cause_depth: call.cause_depth,
            request,
        };
        let approval = self.store.request_approval(&new).await.map_err(|error| store_failure(&error))?;
        let told = match channel.filter(|_| approval.state == ApprovalState::Waiting) {
            Some(channel) => self.tell(&call, channel, &approval).await,
            None => Ok(()),
        };
        let now = self.clock.now();
        let waited = Duration::try_from(now.duration_since(approval.requested_at)).unwrap_or_default();
        match (told, outcome(approval)?) {
            (Err(failure), Answer::Parked { until, mut waiting }) if failure.kind.is_transient() => {
                waiting["not_told"] = json!(failure.message);
                let again = now.saturating_add(waited.max(TELL_AGAIN)).unwrap_or(Timestamp::MAX);
                Ok(Answer::Parked { until: until.min(again), waiting })
            }
            (Err(failure), _) => Err(failure),
            (Ok(()), answer) => Ok(answer),
        }
    }
}

fn outcome(approval: Approval) -> Result<Answer, StepFailure> {
    let status = match (approval.state, approval.on_timeout) {
        (ApprovalState::Waiting, _) => {
            return Ok(Answer::Parked {
                until: approval.expires_at,
                waiting: json!({
                    "waiting_for": "approval",
                    "approval": approval.id,
                    "message": approval.message,
                    "until": approval.expires_at,
                }),
            });
        }
        (ApprovalState::TimedOut, OnTimeout::Fail) => {
            let message = format!("nobody answered approval {} by {}", approval.id, approval.expires_at);
            return Err(StepFailure::new(ErrorKind::Denied, message));
        }
        (ApprovalState::TimedOut, OnTimeout::Approve) => {
            let items = approval.items().map_or_else(|| approval.data.clone(), |items| json!(items));
            return Ok(output("approved", &items, None, Some("on_timeout")));
        }
        (ApprovalState::Closed, _) => {
            return Err(StepFailure::new(ErrorKind::Cancelled, "the run that asked is over"));
        }
        (ApprovalState::Approved | ApprovalState::Rejected, _) | (ApprovalState::TimedOut, OnTimeout::Reject) => {
            approval.state.as_str()
        }
    };
    let items = if approval.approved_items.is_null() { json!([]) } else { approval.approved_items };
    Ok(output(status, &items, approval.comment.as_deref(), approval.answered_by.as_deref()))
}

fn output(status: &str, approved_items: &Value, comment: Option<&str>, by: Option<&str>) -> Answer {
    json!({ "status": status, "approved_items": approved_items, "comment": comment, "by": by }).into()
}
