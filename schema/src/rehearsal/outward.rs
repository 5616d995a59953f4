//! What a call would be outwardly: a sentence for people, and what would refuse it before it went out.

use jiff::Timestamp;
use serde_json::Value;
use url::Url;

use crate::{
    action::{
        self, Catalogue,
        parking::{approval_request, wait_for, wait_until},
        split_tool,
    },
    event::check_published_topic,
    secret::{HostPattern, mark},
    template::has_template,
    time::{Zone, short, with_offset},
};

/// When a rehearsal takes place.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    pub(super) zone: Zone,
}

impl Moment {
    fn text(&self, at: Timestamp) -> String {
        with_offset(Timestamp::from_second(at.as_second()).unwrap_or(at), &self.zone)
    }
}

/// The call in a sentence. `input` is as it is shown: with `[secret NAME]` and what is still a template.
pub(super) fn call(uses: &str, input: &Value, catalogue: &Catalogue, moment: &Moment) -> String {
    let field = |name: &str| match input.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let offered = &catalogue.offered;
    match uses {
        "http.request" => format!("{} {}", field("method").to_ascii_uppercase(), field("url")),
        "notify.send" => {
            let channel = field("channel");
            match offered.channels.get(&channel) {
                Some(kind) => format!("sends a message through the channel `{channel}` ({kind})"),
                None if channel == "me" => {
                    "sends a message through the channel `me` (the inbox, and the desktop where there is one)"
                        .to_owned()
                }
                None => format!("sends a message through the channel `{channel}`"),
            }
        }
        "llm.generate" => {
            let named = Some(field("model")).filter(|name| !name.is_empty());
            match named.or_else(|| offered.default_model.clone()) {
                Some(name) => match offered.models.get(&name) {
                    Some(model) => format!("asks the model `{name}` ({model})"),
                    None => format!("asks the model `{name}`"),
                },
                None => "asks a model".to_owned(),
            }
        }
        "inbox.post" => "leaves a message in the inbox".to_owned(),
        "event.publish" => format!("publishes the event `{}`", field("topic")),
        "wait.for" => match wait_for(input).map(|wait| (wait, moment.now.checked_add(wait))) {
            Ok((wait, Ok(end))) => format!("waits {}: until {} if it begins now", short(wait), moment.text(end)),
            _ => format!("waits {}", field("duration")),
        },
        "wait.until" => match wait_until(input).map(|until| until.instant(&moment.zone)) {
            Ok(Some(end)) if end <= moment.now => format!("does not wait: {} has gone by", moment.text(end)),
            Ok(Some(end)) => format!("waits until {}", moment.text(end)),
            _ => format!("waits until {}", field("until")),
        },
        "approval.request" => match approval_request(input) {
            Ok(asked) => format!(
                "asks a person: {} (for {} at most, then {})",
                asked.message,
                short(asked.timeout),
                asked.on_timeout
            ),
            Err(_) => format!("asks a person: {}", field("message")),
        },
        "task.run" if input.get("wait") == Some(&Value::Bool(false)) => {
            format!("starts the task \"{}\" and does not wait for it", field("task"))
        }
        "task.run" => format!("runs the task \"{}\" and waits for its end", field("task")),
        "shell.exec" => format!("runs the command `{}`", field("command")),
        _ => match (uses.split_once('.'), split_tool(uses)) {
            (Some(("http", method)), _) => format!("{} {}", method.to_ascii_uppercase(), field("url")),
            (Some(("data", _)), _) => "computes a value; nothing goes out".to_owned(),
            (_, Some((server, tool))) => format!("calls the tool `{tool}` of the MCP server `{server}`"),
            _ => format!("calls `{uses}`"),
        },
    }
}

/// What would keep a rendered call from going out. Fields that are still templates are not judged.
pub(super) fn judge(uses: &str, input: &Value, is_whole: bool, catalogue: &Catalogue) -> Result<(), String> {
    action::judge_name(uses, "uses", catalogue).map_err(|fault| fault.message)?;
    action::judge_need(uses, input, "with", catalogue)
        .map_err(|fault| format!("`{}`: {}", fault.path, fault.message))?;
    let text = |name: &str| input.get(name).and_then(Value::as_str).filter(|text| !has_template(text));
    if uses.starts_with("http.") {
        let url = text("url");
        url.map_or(Ok(()), action::judge_url).map_err(|why| format!("`with.url`: {why}"))?;
        judge_secrets(input, url.and_then(|url| Url::parse(url.trim()).ok()).as_ref(), catalogue)?;
    }
    if let ("event.publish", Some(topic)) = (uses, text("topic")) {
        check_published_topic(topic).map_err(|fault| format!("`with.topic`: {}", fault.message))?;
    }
    if !is_whole {
        return Ok(());
    }
    match uses {
        "wait.for" => wait_for(input).map(drop),
        "wait.until" => wait_until(input).map(drop),
        "approval.request" => approval_request(input).map(drop),
        _ => Ok(()),
    }
}

/// Whether each secret of an input is there, granted, and bound to where the call goes.
fn judge_secrets(input: &Value, url: Option<&Url>, catalogue: &Catalogue) -> Result<(), String> {
    for name in mark::names(input) {
        let Some(hosts) = catalogue.offered.secrets.get(&name) else {
            return Err(format!("the secret `{name}` is not configured"));
        };
        if !catalogue.grants.allow_secret(&name) {
            return Err(format!("the agent is not granted the secret `{name}`; the operator grants it"));
        }
        let covers = |host: &String| url.is_none_or(|url| host.parse().is_ok_and(|it: HostPattern| it.covers(url)));
        if !hosts.iter().any(covers) {
            let host = url.and_then(Url::host_str).unwrap_or("any host");
            return Err(format!("the secret `{name}` is not bound to {host}, where this step calls"));
        }
    }
    Ok(())
}
