//! `approve`: what runs ask a person, and the person's answer. Whoever sits at this machine is a person.

use clap::Args;
use ordinaut_schema::id::ApprovalId;
use ordinaut_store::approvals::{Approval, Authority, Decision};
use serde_json::{Value, json};

use crate::{
    config::Config,
    failure::{Exit, Failure},
    out::{Out, clean},
    session::Session,
    times::{local, relative},
};

/// What waits, at most, in one list.
const MOST: u32 = 200;

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// Which one; without it, everything that waits is listed
    id: Option<String>,
    /// Reject it
    #[arg(long, requires = "id")]
    reject: bool,
    /// What the run is told with the answer
    #[arg(long, value_name = "TEXT", requires = "id")]
    comment: Option<String>,
    /// Approve only these items, by their numbers in the list, such as 1,3
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "id", conflicts_with = "reject")]
    items: Vec<usize>,
    /// With each that is listed, a new link: whoever has it may decide, once
    #[arg(long, conflicts_with = "id")]
    links: bool,
}

pub(crate) async fn approve(
    session: &Session,
    config: &Config,
    agent: Option<&str>,
    options: &Approve,
    out: Out,
) -> Result<(), Failure> {
    match &options.id {
        Some(id) => answer(session, id, options, out).await,
        None => list(session, config, agent.is_some(), options.links, out).await,
    }
}

async fn answer(session: &Session, id: &str, options: &Approve, out: Out) -> Result<(), Failure> {
    let id: ApprovalId = id.trim().parse().map_err(|_| {
        Failure::new(Exit::Refused, format!("`{id}` is not an approval's id")).mend("`ordinaut approve` lists them")
    })?;
    let waiting = session.store.list_approvals(None, MOST).await?;
    let shown = waiting.iter().find(|approval| approval.id == id).map(|approval| approval.shown_sha256.clone());
    let decision = Decision {
        approve: !options.reject,
        comment: options.comment.clone(),
        items: (!options.items.is_empty()).then(|| options.items.clone()),
        // One that waits no more is refused with the reason, whatever is said of it.
        shown_sha256: shown.unwrap_or_default(),
    };
    let answered = session.store.answer_approval(&session.caller, Authority::Person, id, &decision).await?;
    if out.is_json() {
        return out.json(&to_json(&answered, None));
    }
    out.line(format!("{} of \"{}\": {}", answered.state, clean(&answered.task_title), clean(&answered.message)))?;
    if decision.approve {
        out.line(lines(&answered.approved_items).join("\n"))?;
    }
    out.line(format!("run {} goes on", answered.run))
}

async fn list(session: &Session, config: &Config, one_agent: bool, links: bool, out: Out) -> Result<(), Failure> {
    let agent = one_agent.then_some(session.caller.agent);
    let waiting = session.store.list_approvals(agent, MOST).await?;
    let mut listed = Vec::with_capacity(waiting.len());
    for approval in waiting {
        let link = if links {
            let token = session.store.link_approval(approval.id).await?;
            Some(format!("{}/approvals/{token}", config.public_url))
        } else {
            None
        };
        listed.push((approval, link));
    }
    if out.is_json() {
        return out.json(&listed.iter().map(|(approval, link)| to_json(approval, link.as_deref())).collect::<Vec<_>>());
    }
    if listed.is_empty() {
        return out.line("nothing waits for your approval");
    }
    let now = session.store.now().await?;
    for (approval, link) in &listed {
        let end = format!("{} ({})", local(approval.expires_at, &session.zone), relative(approval.expires_at, now));
        let title = clean(&approval.task_title);
        out.line(format!("{}  \"{title}\" of {}, until {end}", approval.id, clean(&approval.agent_name)))?;
        for line in approval.message.lines() {
            out.line(format!("  {}", clean(line)))?;
        }
        for line in lines(&approval.data) {
            out.line(format!("    {line}"))?;
        }
        if let Some(link) = link {
            out.line(format!("  {link}"))?;
        }
    }
    out.line("`ordinaut approve <id>` approves, `--reject` rejects, `--items 1,3` approves some")
}

/// A value as a person reads it: items numbered, objects indented.
fn lines(value: &Value) -> Vec<String> {
    let items = match value {
        Value::Null => return Vec::new(),
        Value::Array(items) => Some(items),
        Value::Object(fields) => fields.get("items").and_then(Value::as_array),
        _ => None,
    };
    let mut lines = Vec::new();
    if let (Value::Object(fields), Some(_)) = (value, items) {
        for (name, field) in fields.iter().filter(|(name, _)| *name != "items") {
            lines.push(format!("{}: {}", clean(name), clean(&field.to_string())));
        }
    }
    if let Some(items) = items {
        lines.extend(items.iter().enumerate().map(|(n, item)| format!("{}. {}", n + 1, clean(&item.to_string()))));
    } else {
        let text = value.as_str().map_or_else(|| serde_json::to_string_pretty(value), |text| Ok(text.to_owned()));
        lines.extend(text.unwrap_or_default().lines().map(clean));
    }
    lines
}

fn to_json(approval: &Approval, link: Option<&str>) -> Value {
    json!({
        "id": approval.id,
        "agent": approval.agent_name,
        "task_id": approval.task,
        "task": approval.task_title,
        "run_id": approval.run,
        "message": approval.message,
        "data": approval.data,
        "shown_sha256": approval.shown_sha256,
        "requested_at": approval.requested_at,
        "expires_at": approval.expires_at,
        "on_timeout": approval.on_timeout,
        "state": approval.state,
        "answered_by": approval.answered_by,
        "comment": approval.comment,
        "approved_items": approval.approved_items,
        "link": link,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_numbered_as_they_are_picked() {
        assert_eq!(lines(&json!(["a", { "b": 1 }])), ["1. \"a\"", "2. {\"b\":1}"]);
        assert_eq!(lines(&json!({ "to": "ann", "items": [true] })), ["to: \"ann\"", "1. true"]);
        assert_eq!(lines(&json!("one\ntwo")), ["one", "two"]);
        assert!(lines(&Value::Null).is_empty());
    }
}
