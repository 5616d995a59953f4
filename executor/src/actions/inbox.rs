//! `inbox.post`: a message that the agent's assistant picks up. Posting again under the call's key changes nothing.

use async_trait::async_trait;
use ordinaut_schema::run::{ErrorKind, StepFailure};
use ordinaut_store::{Store, inbox::NewMessage};
use serde_json::{Value, json};

use super::{Action, Answer, StepCall, store_failure};

#[derive(Debug)]
pub struct InboxPost {
    store: Store,
}

impl InboxPost {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Action for InboxPost {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let text = |name: &str| {
            call.input.get(name).filter(|value| !value.is_null()).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        };
        let Some(body) = text("text") else {
            return Err(StepFailure::new(ErrorKind::ClientError, "inbox.post needs `text`: what the message says"));
        };
        let level = text("level").unwrap_or_else(|| "info".to_owned());
        if !matches!(level.as_str(), "info" | "warning" | "error") {
            let message = format!("`level` is `{level}`; it may be info, warning or error");
            return Err(StepFailure::new(ErrorKind::ClientError, message));
        }
        let message = NewMessage {
            agent: call.agent,
            task: Some(call.task),
            run: Some(call.run),
            key: call.idempotency_key.clone(),
            level,
            title: text("title"),
            body,
            cause_depth: call.cause_depth,
        };
        let id = self.store.post_message(&message).await.map_err(|error| store_failure(&error))?;
        Ok(json!({ "message_id": id }).into())
    }
}
