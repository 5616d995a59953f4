//! Slack, by an incoming webhook.

use ordinaut_schema::{operator::Credential, run::StepFailure};
use serde_json::{Value, json};

use super::{
    Sending,
    message::{Measure, cut},
};

/// Beyond it Slack cuts by itself.
const MOST: usize = 40_000;

pub(super) async fn send(url: &Credential, mut sending: Sending<'_>) -> Result<Value, StepFailure> {
    let url = sending.used.fill_url(url, sending.secrets).await?;
    let text = cut(&escaped(&sending.message.joined("*")), MOST, Measure::Chars);
    // Plain `@channel` stays plain: names are not looked for.
    let body = json!({ "text": text, "link_names": false, "unfurl_links": false });
    sending.post_json(url, &[], &body).await?;
    Ok(json!({}))
}

/// Slack's own marks (`<!everyone>`, `<@U1>`, links) begin with `<`: written out, they are text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn marks_that_mention_everybody_are_text() {
        assert_eq!(super::escaped("<!everyone> a & b"), "&lt;!everyone&gt; a &amp; b");
    }
}
