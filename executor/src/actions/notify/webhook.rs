//! A webhook of the operator's own: the message as JSON, under the call's key.

use std::collections::BTreeMap;

use ordinaut_schema::{operator::Credential, run::StepFailure};
use serde_json::{Value, json};

use super::Sending;

pub(super) async fn send(
    url: &Credential,
    headers: &BTreeMap<String, Credential>,
    mut sending: Sending<'_>,
) -> Result<Value, StepFailure> {
    let url = sending.used.fill_url(url, sending.secrets).await?;
    let mut sent = vec![("Idempotency-Key", sending.call.idempotency_key.clone())];
    for (name, value) in headers {
        sent.push((name, sending.used.fill(value, sending.secrets).await?));
    }
    let (call, message) = (sending.call, sending.message);
    let body = json!({
        "channel": message.channel,
        "title": message.title,
        "text": message.text,
        "level": message.level.as_str(),
        "task_id": call.task,
        "run_id": sending.run,
        "idempotency_key": call.idempotency_key,
    });
    let reply = sending.post_json(url, &sent, &body).await?;
    Ok(json!({ "status": reply.status.as_u16() }))
}
