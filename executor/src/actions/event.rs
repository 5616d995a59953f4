//! `event.publish`: an event of the agent's own, recorded under the call's key, one deeper in its chain of causes.

use async_trait::async_trait;
use ordinaut_schema::{
    event::check_published_topic,
    run::{ErrorKind, StepFailure},
};
use ordinaut_store::{Caller, Store, inbound::NewEvent};
use serde_json::{Map, Value, json};

use super::{Action, Answer, StepCall, store_failure};

#[derive(Debug)]
pub struct EventPublish {
    store: Store,
}

impl EventPublish {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Action for EventPublish {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let topic = call.input.get("topic").and_then(Value::as_str).unwrap_or_default();
        check_published_topic(topic).map_err(|fault| StepFailure::new(ErrorKind::ClientError, fault.message))?;
        let event = NewEvent {
            id: Some(call.idempotency_key.clone()),
            topic: topic.to_owned(),
            payload: call.input.get("payload").cloned().unwrap_or_else(|| Value::Object(Map::new())),
            cause_depth: call.cause_depth.saturating_add(1),
        };
        let traceparent = ordinaut_telemetry::span::current();
        let caller = Caller { traceparent, ..Caller::of(call.agent, "executor") };
        let published = self.store.publish_event(&caller, event).await.map_err(|error| store_failure(&error))?;
        let skipped: Vec<Value> =
            published.skipped.iter().map(|(task, reason)| json!({ "task": task, "reason": reason })).collect();
        Ok(json!({ "event_id": published.event_id, "runs": published.runs, "skipped": skipped }).into())
    }
}
