//! `approval.request`: the run is parked until a person decides, or nobody did in time.

use async_trait::async_trait;
use ordinaut_schema::{
    action::parking::{ApprovalState, OnTimeout, approval_request},
    run::{ErrorKind, StepFailure},
};
use ordinaut_store::{
    Store,
    approvals::{Approval, NewApproval},
};
use serde_json::{Value, json};

use super::{Action, Answer, StepCall, store_failure};

#[derive(Debug)]
pub struct RequestApproval {
    store: Store,
}

impl RequestApproval {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Action for RequestApproval {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let request = approval_request(&call.input).map_err(|why| StepFailure::new(ErrorKind::ClientError, why))?;
        let new = NewApproval {
            agent: call.agent,
            task: call.task,
            run: call.run,
            key: call.idempotency_key,
            cause_depth: call.cause_depth,
            request,
        };
        let approval = self.store.request_approval(&new).await.map_err(|error| store_failure(&error))?;
        outcome(approval)
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
