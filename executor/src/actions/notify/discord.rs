//! Discord, by a webhook.

use ordinaut_schema::{operator::Credential, run::StepFailure};
use serde_json::{Value, json};

use super::{
    Sending,
    message::{Measure, cut},
};

const MOST: usize = 2_000;

pub(super) async fn send(url: &Credential, mut sending: Sending<'_>) -> Result<Value, StepFailure> {
    let mut url = sending.used.fill_url(url, sending.secrets).await?;
    // Without it the answer comes before the message is kept, and says nothing.
    url.query_pairs_mut().append_pair("wait", "true");
    let content = cut(&sending.message.joined("**"), MOST, Measure::Utf16);
    let body = json!({ "content": content, "allowed_mentions": { "parse": [] } });
    let reply = sending.post_json(url, &[], &body).await?;
    let id = reply.json().and_then(|told| told.get("id").cloned());
    Ok(id.map_or_else(|| json!({}), |id| json!({ "message_id": id })))
}
