//! Telegram, by a bot. The text goes as it is: no mark of it is read as formatting.

use ordinaut_schema::{
    operator::Credential,
    run::{ErrorKind, StepFailure},
};
use serde_json::{Value, json};
use url::Url;

use super::{
    Sending,
    message::{Measure, cut},
};

const MOST: usize = 4_096;

pub(super) struct Bot<'a> {
    pub(super) token: &'a Credential,
    pub(super) chat_id: &'a str,
    pub(super) base_url: &'a Url,
}

pub(super) async fn send(bot: &Bot<'_>, mut sending: Sending<'_>) -> Result<Value, StepFailure> {
    let token = sending.used.fill(bot.token, sending.secrets).await?;
    let is_token = token.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-'));
    if !is_token {
        let message = "`token` is none of Telegram's (123456:ABC…); the operator mends it";
        return Err(StepFailure::new(ErrorKind::ClientError, message));
    }
    let mut url = bot.base_url.clone();
    url.set_path(&format!("{}/bot{token}/sendMessage", bot.base_url.path().trim_end_matches('/')));
    let text = cut(&sending.message.joined(""), MOST, Measure::Utf16);
    let body = json!({ "chat_id": bot.chat_id, "text": text, "link_preview_options": { "is_disabled": true } });
    let reply = sending.post_json(url, &[], &body).await?;
    let id = reply.json().and_then(|told| told.pointer("/result/message_id").cloned());
    Ok(id.map_or_else(|| json!({}), |id| json!({ "message_id": id })))
}
