//! `check_inbox`: what is new since the last acknowledged look, messages and what went wrong.

use ordinaut_schema::time::Zone;
use ordinaut_store::inbox::{AckThrough, Message, Most, News, Waiting};
use serde_json::{Map, Value, json};

use crate::{error::ToolError, principal::Scope};

use super::{
    Adding, Kind, Spec, add_tool,
    answer::Answer,
    call::Call,
    outputs::{self, always, maybe, untrusted_text},
    page::MOST,
    refusals::refuse,
    schema::{arguments, count, text},
    show::{local, plural, run_line, run_summary},
    untrusted,
};

const MESSAGES: u32 = 20;
const PROBLEMS: u32 = 10;
const APPROVALS: u32 = 10;

pub(super) fn add(group: &mut Adding<'_>) {
    if group.only_reads() {
        add_tool(group, look_spec(), look);
    } else {
        add_tool(group, spec(), check_inbox);
    }
}

fn limit() -> (&'static str, Value) {
    ("limit", count("How many messages at most", (1, MOST), MESSAGES))
}

fn spec() -> Spec {
    let through = text(
        "Acknowledges what the answer showed that gave this as its ack_through",
        "019ab2c4-5d00-7000-8f1e-2a6b7c8d9e0f",
    );
    Spec {
        name: "check_inbox",
        title: "Check the inbox",
        description: "Anything new? Unread messages that tasks left, oldest first, approvals that wait for a person, and runs that failed or were skipped, newest first. Acknowledge what was shown by giving back its ack_through.",
        scope: Scope::TaskRead,
        kind: Kind::Settles,
        input: arguments(&[], [("ack_through", through), limit()]),
        output: output(),
    }
}

/// The same where nothing may be changed: what was shown stays new.
fn look_spec() -> Spec {
    Spec {
        name: "check_inbox",
        title: "Look into the inbox",
        description: "Anything new? Unread messages that tasks left, oldest first, approvals that wait for a person, and runs that failed or were skipped, newest first. Looking acknowledges nothing here.",
        scope: Scope::TaskRead,
        kind: Kind::Reads,
        input: arguments(&[], [limit()]),
        output: output(),
    }
}

async fn check_inbox(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let through = given.optional_parsed::<AckThrough>("ack_through", "what check_inbox answered as ack_through");
    let limit = given.count("limit", 1..=MOST).unwrap_or(MESSAGES);
    given.finish("check_inbox")?;
    if let Some(through) = through {
        let (services, caller) = call.services().await?;
        services.store.acknowledge(&caller, through).await.map_err(|error| refuse(error, None))?;
    }
    let (desk, mut view) = call.reading().await?;
    let news = view.news(most(limit)).await.map_err(|error| refuse(error, None))?;
    drop(view);
    desk.store.mark_shown(&desk.caller, &news).await.map_err(|error| refuse(error, None))?;
    let next = match &news.through {
        Some(through) => {
            format!("Once they are read, the next check acknowledges them with ack_through \"{through}\".")
        }
        None => String::new(),
    };
    let through = news.through.map_or(Value::Null, |through| json!(through.to_string()));
    Ok(answer(&news, limit, &desk.zone()).with("ack_through", through).line(next))
}

async fn look(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let limit = given.count("limit", 1..=MOST).unwrap_or(MESSAGES);
    given.finish("check_inbox")?;
    let (desk, mut view) = call.reading().await?;
    let news = view.news(most(limit)).await.map_err(|error| refuse(error, None))?;
    Ok(answer(&news, limit, &desk.zone()))
}

/// No row more than is shown, as other lists ask for to see whether there is more: what was listed is acknowledged.
const fn most(messages: u32) -> Most {
    Most { messages, problems: PROBLEMS, approvals: APPROVALS }
}

fn answer(news: &News, limit: u32, zone: &Zone) -> Answer {
    let entries: Vec<Map<String, Value>> = news.messages.iter().map(|message| entry(message, zone)).collect();
    let (more, more_problems) = (is_full(&news.messages, limit), is_full(&news.problems, PROBLEMS));
    let first = match entries.len() {
        0 => "No unread messages.".to_owned(),
        count => format!("{}:", plural(count as u64, "unread message")),
    };
    let undecided = if news.approvals.is_empty() { "" } else { "Approvals that wait for a person (answer_approval):" };
    let heading = if news.problems.is_empty() { "" } else { "Runs that failed or were skipped, newest first:" };
    let rest = if more_problems {
        "There may be more of these: list_runs with states [\"failed\", \"quarantined\", \"skipped\"] has all."
    } else {
        ""
    };
    let rest_of_messages =
        if more { "There may be more messages, which come once these are acknowledged." } else { "" };
    Answer::new()
        .with("messages", entries.iter().cloned().map(Value::Object).collect::<Vec<_>>())
        .with("more", more)
        .with("approvals", news.approvals.iter().map(|it| Value::Object(asked(it, zone))).collect::<Vec<_>>())
        .with("problems", news.problems.iter().map(|run| Value::Object(run_summary(run, zone))).collect::<Vec<_>>())
        .with("more_problems", more_problems)
        .line(first)
        .lines(entries.iter().map(line))
        .line(rest_of_messages)
        .hint(undecided)
        .lines(news.approvals.iter().map(|approval| asked_line(approval, zone)))
        .line(heading)
        .lines(news.problems.iter().map(|run| run_line(run, zone)))
        .hint(rest)
}

fn is_full<T>(page: &[T], limit: u32) -> bool {
    page.len() as u64 >= u64::from(limit)
}

fn asked(approval: &Waiting, zone: &Zone) -> Map<String, Value> {
    Map::from_iter([
        ("id".to_owned(), json!(approval.id)),
        ("run".to_owned(), json!(approval.run)),
        ("until".to_owned(), json!(local(approval.expires_at, zone))),
        ("untrusted_message".to_owned(), json!(untrusted::text(&approval.message))),
    ])
}

fn asked_line(approval: &Waiting, zone: &Zone) -> String {
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

fn output() -> Value {
    let message = [
        always("id", outputs::id("")),
        always("level", outputs::text("info, warning or error")),
        always("posted_at", outputs::instant("")),
        maybe("task", outputs::id("")),
        maybe("run", outputs::id("")),
        maybe("untrusted_title", untrusted_text("")),
        always("untrusted_text", untrusted_text("")),
    ];
    outputs::answer([
        always("messages", outputs::list("Unread ones, the oldest first", outputs::object("", message))),
        maybe("ack_through", outputs::text("What the next check says once these are read")),
        always("more", outputs::flag("There may be more messages")),
        always(
            "approvals",
            outputs::list("That wait for a person", outputs::approval([always("run", outputs::id(""))])),
        ),
        always("problems", outputs::list("Runs that did not go well", outputs::run([]))),
        always("more_problems", outputs::flag("There may be more of them")),
    ])
}
