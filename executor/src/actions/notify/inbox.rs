//! The agent's inbox: a message that its assistant picks up. Posting again under the call's key changes nothing.

use ordinaut_schema::run::StepFailure;
use ordinaut_store::{Store, inbox::NewMessage};
use serde_json::{Value, json};

use super::{Sending, store_failure};

pub(super) async fn post(store: &Store, sending: &Sending<'_>) -> Result<Value, StepFailure> {
    if sending.is_posted {
        return Ok(json!({}));
    }
    let (call, message) = (sending.call, sending.message);
    let posted = NewMessage {
        agent: call.agent,
        task: Some(call.task),
        run: Some(call.run),
        key: call.idempotency_key.clone(),
        level: message.level.as_str().to_owned(),
        title: message.title.clone(),
        body: message.text.clone(),
        cause_depth: call.cause_depth,
    };
    let id = store.post_message(&posted).await.map_err(|error| store_failure(&error))?;
    Ok(json!({ "message_id": id }))
}
