//! `check_inbox`: what is new, and what went wrong of late.

use std::time::Duration;

use ordinaut_schema::{id::MessageId, run::RunState, time::Zone};
use ordinaut_store::{approvals::Approval, inbox::Message, runs::RunFilter};
use serde_json::{Map, Value, json};

use crate::{error::ToolError, principal::Scope};

use super::{
    Adding, Kind, Spec, add_tool,
    answer::Answer,
    call::Call,
    page::MOST,
    refusals::refuse,
    schema::{arguments, count, text},
    show::{local, plural, run_line, run_summary},
    untrusted,
};

const MESSAGES: u32 = 20;

/// How far back runs that did not go well are shown, and how many.
const LOOK_BACK: Duration = Duration::from_hours(24);
const PROBLEMS: u32 = 10;

pub(super) fn add(group: &mut Adding<'_>) {
    add_tool(group, spec(), check_inbox);
}

fn spec() -> Spec {
    Spec {
        name: "check_inbox",
        title: "Check the inbox",
        description: "Anything new? Unread messages that tasks left, oldest first, approvals that wait for a person, and runs of the last day that failed or were skipped. Acknowledge what was shown by giving its last message's id as ack_through.",
        scope: Scope::TaskRead,
        kind: Kind::Settles,
        input: arguments(
            &[],
            [
                ("ack_through", text("Marks messages as read, up to this one", "019ab2c4-5d00-7000-8f1e-2a6b7c8d9e0f")),
                ("limit", count("How many messages at most", (1, MOST), MESSAGES)),
            ],
        ),
    }
}

async fn check_inbox(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let through = given.optional_parsed::<MessageId>("ack_through", "a message's id, as check_inbox answered it");
    let limit = given.count("limit", 1..=MOST).unwrap_or(MESSAGES);
    given.finish("check_inbox")?;
    let desk = call.desk().await?;
    let zone = desk.zone();
    let messages = desk.store.check_inbox(&desk.caller, through, limit).await.map_err(|error| refuse(error, None))?;
    // A person who read that something waits has not decided it: it is shown until somebody does.
    let waiting = desk.store.list_approvals(Some(desk.caller.agent), PROBLEMS).await;
    let waiting = waiting.map_err(|error| refuse(error, None))?;
    let filter = RunFilter {
        states: vec![RunState::Failed, RunState::Quarantined, RunState::Skipped],
        since: desk.now.checked_sub(LOOK_BACK).ok(),
        ..RunFilter::default()
    };
    let problems = desk.store.list_runs(&desk.caller, &filter, None, PROBLEMS).await;
    let problems = problems.map_err(|error| refuse(error, None))?;

    let entries: Vec<Map<String, Value>> = messages.iter().map(|message| entry(message, &zone)).collect();
    let last = messages.last().map(|message| message.id);
    let first = match messages.len() {
        0 => "No unread messages.".to_owned(),
        count => format!("{}:", plural(count as u64, "unread message")),
    };
    let more = messages.len() as u64 == u64::from(limit);
    let next = match last {
        Some(last) if more => format!("There may be more: call again with ack_through \"{last}\" once these are read."),
        Some(last) => format!("Once they are read, the next check acknowledges them with ack_through \"{last}\"."),
        None => String::new(),
    };
    let undecided = if waiting.is_empty() { "" } else { "Approvals that wait for a person (answer_approval):" };
    let heading = if problems.is_empty() { "" } else { "Runs of the last 24 hours that failed or were skipped:" };
    Ok(Answer::new()
        .with("messages", entries.iter().cloned().map(Value::Object).collect::<Vec<_>>())
        .with("ack_through", last.map_or(Value::Null, |last| json!(last)))
        .with("more", more)
        .with("approvals", waiting.iter().map(|approval| Value::Object(asked(approval, &zone))).collect::<Vec<_>>())
        .with("problems", problems.iter().map(|run| Value::Object(run_summary(run, &zone))).collect::<Vec<_>>())
        .line(first)
        .lines(entries.iter().map(line))
        .line(next)
        .line(undecided)
        .lines(waiting.iter().map(|approval| asked_line(approval, &zone)))
        .line(heading)
        .lines(problems.iter().map(|run| run_line(run, &zone))))
}

fn asked(approval: &Approval, zone: &Zone) -> Map<String, Value> {
    Map::from_iter([
        ("id".to_owned(), json!(approval.id)),
        ("run".to_owned(), json!(approval.run)),
        ("until".to_owned(), json!(local(approval.expires_at, zone))),
        ("untrusted_message".to_owned(), json!(untrusted::text(&approval.message))),
    ])
}

fn asked_line(approval: &Approval, zone: &Zone) -> String {
    let until = local(approval.expires_at, zone);
    format!("- {} until {until}: untrusted_message: {}", approval.id, json!(untrusted::text(&approval.message)))
}

fn entry(message: &Message, zone: &Zone) -> Map<String, Value> {
    let mut entry = Map::from_iter([
        ("id".to_owned(), json!(message.id)),
        ("level".to_owned(), json!(message.level)),
        ("posted_at".to_owned(), json!(local(message.posted_at, zone))),
    ]);
    if let Some(task) = message.task {
        entry.insert("task".to_owned(), json!(task));
    }
    if let Some(run) = message.run {
        entry.insert("run".to_owned(), json!(run));
    }
    if let Some(title) = &message.title {
        entry.insert("untrusted_title".to_owned(), json!(untrusted::text(title)));
    }
    entry.insert("untrusted_text".to_owned(), json!(untrusted::text(&message.body)));
    entry
}

fn line(entry: &Map<String, Value>) -> String {
    let word = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let title = entry.get("untrusted_title").map_or_else(String::new, |title| format!(" untrusted_title: {title};"));
    format!(
        "- {} {} {}:{title} untrusted_text: {}",
        word("id"),
        word("posted_at"),
        word("level"),
        json!(word("untrusted_text"))
    )
}
