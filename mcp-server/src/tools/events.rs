//! `publish_event`.

use ordinaut_schema::event::check_published_topic;
use ordinaut_store::inbound::NewEvent;
use serde_json::{Value, json};

use crate::{error::ToolError, principal::Scope};

use super::{
    Adding, Kind, Spec, add_tool,
    answer::Answer,
    arguments::{unquoted, wrong_arguments},
    call::Call,
    refusals::refuse,
    schema::{arguments, object, text},
    show::plural,
};

pub(super) fn add(group: &mut Adding<'_>) {
    add_tool(group, spec(), publish_event);
}

fn spec() -> Spec {
    Spec {
        name: "publish_event",
        title: "Publish an event",
        description: "Starts every task of this agent whose event schedule listens to the topic. Steps read event.topic and event.payload.",
        scope: Scope::EventPublish,
        kind: Kind::Starts,
        input: arguments(
            &["topic"],
            [
                ("topic", text("Segments joined by dots, no *", "user.email.received")),
                ("payload", object("Any JSON that the steps need", json!({ "from": "ann@example.com" }))),
                ("event_id", text("Your own id of the event: the same id again starts nothing", "mail-1234")),
            ],
        ),
    }
}

async fn publish_event(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let topic = given.needed("topic", "segments joined by dots, such as `user.email.received`");
    let payload = given.any("payload").map_or(Value::Null, unquoted);
    let event_id = given.key("event_id");
    given.finish("publish_event")?;
    check_published_topic(&topic).map_err(wrong_arguments)?;
    let desk = call.desk().await?;
    let event = NewEvent { id: event_id.clone(), topic: topic.clone(), payload, cause_depth: 0 };
    let published = desk.store.publish_event(&desk.caller, event).await;
    let published = published.map_err(|error| refuse(error, event_id.as_deref()))?;
    let skipped: Vec<Value> =
        published.skipped.iter().map(|(task, reason)| json!({ "task": task, "reason": reason })).collect();
    let first = match (published.duplicate, published.runs.len()) {
        (true, _) => format!("Event {} was published before; nothing was started by this call.", published.event_id),
        (false, 0) => format!("Published event {} on {topic}. No task was started.", published.event_id),
        (false, count) => {
            format!("Published event {} on {topic}. It started {}.", published.event_id, plural(count as u64, "run"))
        }
    };
    let runs = published.runs.iter().map(|run| format!("- run {run}"));
    Ok(Answer::new()
        .with("outcome", if published.duplicate { "existed" } else { "published" })
        .with("event_id", published.event_id.as_str())
        .with("runs", json!(published.runs))
        .with("not_started", if skipped.is_empty() { Value::Null } else { skipped.into() })
        .line(first)
        .lines(runs)
        .lines(
            published.skipped.iter().map(|(task, reason)| format!("- \"{task}\" listens and did not start: {reason}")),
        )
        .warn(&desk.warnings().await))
}
