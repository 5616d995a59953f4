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
    outputs::{self, always, maybe, one_of},
    refusals::refuse,
    schema::{arguments, object, text},
    show::{first, plural},
};

pub(super) fn add(group: &mut Adding<'_>) {
    add_tool(group, spec(), publish_event);
}

fn spec() -> Spec {
    let not_started = outputs::object(
        "",
        [always("task", outputs::text("Its title")), always("reason", outputs::text("Why it did not start"))],
    );
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
        output: outputs::answer([
            always("outcome", one_of("existed: this event_id was published before", ["published", "existed"])),
            always("event_id", outputs::text("")),
            always("runs", outputs::list("That it started", outputs::id(""))),
            maybe("left_out", outputs::count("How many more there are, above a hundred of either")),
            maybe("not_started", outputs::list("Tasks that listen and did not start", not_started)),
            outputs::warnings(),
        ]),
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
    let ((started, more_runs), (waiting, more_tasks)) = (first(&published.runs), first(&published.skipped));
    let skipped: Vec<Value> = waiting.iter().map(|(task, reason)| json!({ "task": task, "reason": reason })).collect();
    let headline = match (published.duplicate, published.runs.len()) {
        (true, _) => format!("Event {} was published before; nothing was started by this call.", published.event_id),
        (false, 0) => format!("Published event {} on {topic}. No task was started.", published.event_id),
        (false, count) => {
            format!("Published event {} on {topic}. It started {}.", published.event_id, plural(count as u64, "run"))
        }
    };
    let runs = started.iter().map(|run| format!("- run {run}"));
    let more = match more_runs + more_tasks {
        0 => String::new(),
        more => format!("{more} more are left out; list_runs shows every run."),
    };
    Ok(Answer::new()
        .with("outcome", if published.duplicate { "existed" } else { "published" })
        .with("event_id", published.event_id.as_str())
        .with("runs", json!(started))
        .with("left_out", Some(more_runs + more_tasks).filter(|more| *more > 0))
        .with("not_started", if skipped.is_empty() { Value::Null } else { skipped.into() })
        .line(headline)
        .lines(runs)
        .lines(waiting.iter().map(|(task, reason)| format!("- \"{task}\" listens and did not start: {reason}")))
        .hint(more)
        .warn(&desk.warnings().await))
}
