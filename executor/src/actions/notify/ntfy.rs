//! ntfy: a push notification to whoever subscribed to a topic.

use ordinaut_schema::{operator::Credential, run::StepFailure};
use serde_json::{Value, json};
use url::Url;

use super::{
    Sending,
    message::{Level, Measure, cut},
};

/// Beyond it ntfy turns the text into a file.
const MOST_BYTES: usize = 4_096;
const MOST_TITLE: usize = 250;

pub(super) struct Topic<'a> {
    pub(super) base_url: &'a Url,
    pub(super) name: &'a str,
    pub(super) token: Option<&'a Credential>,
}

pub(super) async fn send(topic: &Topic<'_>, mut sending: Sending<'_>) -> Result<Value, StepFailure> {
    let mut headers = vec![("Idempotency-Key", sending.call.idempotency_key.clone())];
    if let Some(token) = topic.token {
        let token = sending.used.fill(token, sending.secrets).await?;
        headers.push(("Authorization", format!("Bearer {token}")));
    }
    let message = sending.message;
    let priority = match message.level {
        Level::Info => 3,
        Level::Warning => 4,
        Level::Error => 5,
    };
    let mut body = json!({
        "topic": topic.name,
        "message": cut(&message.text, MOST_BYTES, Measure::Bytes),
        "priority": priority,
    });
    if let Some(title) = message.heading() {
        body["title"] = json!(cut(&title, MOST_TITLE, Measure::Bytes));
    }
    let reply = sending.post_json(topic.base_url.clone(), &headers, &body).await?;
    let id = reply.json().and_then(|told| told.get("id").cloned());
    Ok(id.map_or_else(|| json!({}), |id| json!({ "message_id": id })))
}
