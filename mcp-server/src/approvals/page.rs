//! What an approval's page says, as HTML. Pure; every text that is not ours goes through [`escaped`].

use ordinaut_schema::action::parking::ApprovalState;
use ordinaut_store::approvals::Approval;
use serde_json::Value;

use crate::tools::visible;

pub(super) const STYLE: &str = "\
body { font-family: sans-serif; max-width: 45em; margin: 2em auto; padding: 0 1em; line-height: 1.4 }
pre, li { white-space: pre-wrap; overflow-wrap: anywhere }
pre { background: #f2f2f2; padding: 0.7em }
button { font-size: 1em; padding: 0.4em 1.2em; margin-right: 1em }
input[type=text] { width: 100%; font-size: 1em }
";

/// The page of an approval that waits.
pub(super) fn form(approval: &Approval) -> String {
    let items = approval.items();
    let body = format!(
        "{}<form method=\"post\">\n<input type=\"hidden\" name=\"shown_sha256\" value=\"{}\">\n{}\
         <p><label>Comment<br><input type=\"text\" name=\"comment\" maxlength=\"2000\"></label></p>\n\
         <p><button name=\"decision\" value=\"approve\">Approve</button>\
         <button name=\"decision\" value=\"reject\">Reject</button></p>\n</form>\n\
         <p>Until {}. The link decides once.</p>\n",
        asked(approval),
        escaped(&approval.shown_sha256),
        items.map_or_else(|| data(&approval.data), |items| choices(&approval.data, items)),
        escaped(&approval.expires_at.to_string()),
    );
    document(&body)
}

/// The page of one that was decided, or that nobody can decide any more.
pub(super) fn over(approval: &Approval) -> String {
    let by = approval.answered_by.as_deref().unwrap_or_default();
    let standing = match approval.state {
        ApprovalState::Approved => format!("Approved by {}.", escaped(by)),
        ApprovalState::Rejected => format!("Rejected by {}.", escaped(by)),
        ApprovalState::Waiting | ApprovalState::TimedOut => "Nobody answered in time.".to_owned(),
        ApprovalState::Closed => "The run that asked is over.".to_owned(),
    };
    document(&format!("{}<p><strong>{standing}</strong></p>\n", asked(approval)))
}

/// A page of one sentence.
pub(super) fn words(text: &str) -> String {
    document(&format!("<p>{}</p>\n", escaped(text)))
}

fn asked(approval: &Approval) -> String {
    format!(
        "<h1>{}</h1>\n<p>asks, for the agent {}:</p>\n<pre>{}</pre>\n",
        escaped(&approval.task_title),
        escaped(&approval.agent_name),
        escaped(&approval.message)
    )
}

fn data(data: &Value) -> String {
    let text = match data {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    format!("<pre>{}</pre>\n", escaped(&text))
}

fn choices(data: &Value, items: &[Value]) -> String {
    let beside = data.as_object().into_iter().flatten().filter(|(name, _)| *name != "items");
    let beside: String = beside
        .map(|(name, value)| format!("<pre>{}: {}</pre>\n", escaped(name), escaped(&value.to_string())))
        .collect();
    let boxes: String = items
        .iter()
        .enumerate()
        .map(|(n, item)| {
            let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            let number = n + 1;
            let text = escaped(&text);
            format!(
                "<li><label><input type=\"checkbox\" name=\"item\" value=\"{number}\" checked> {text}</label></li>\n"
            )
        })
        .collect();
    format!("{beside}<ol>\n{boxes}</ol>\n")
}

fn document(body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <title>Ordinaut: approval</title>\n<link rel=\"stylesheet\" href=\"style.css\">\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// Text as HTML shows it, with what could hide in it written out.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup_and_nothing_of_it_hides() {
        let hostile = "<script>x('&\")</script>\u{202e}";
        assert_eq!(escaped(hostile), "&lt;script&gt;x(&#39;&amp;&quot;)&lt;/script&gt;\\u{202e}");
    }
}
