//! `create_task`: a definition in flat fields, kept once however often it is asked for.

use ordinaut_schema::{
    fault::{Fault, FaultCode, Faults},
    task::{self, Acceptance, Accepted, TaskState, ZoneSource},
    time::Zone,
};
use ordinaut_store::{
    StoreError,
    tasks::{Foreseen, Inserted, TaskRecord, TaskRef},
};
use serde_json::{Map, Value, json};

use crate::{
    error::{Refusal, ToolError},
    principal::Scope,
};

use super::{
    super::{
        Kind, Spec,
        answer::Answer,
        arguments::unquoted,
        call::{Call, Desk},
        outputs::{self, always, maybe, one_of},
        refusals::{invalid_definition, invalid_definition_for, refuse},
        schema::{arguments, count, flag, list, number, object, request_id, text, word},
        untrusted,
        zones::{self, Unusable},
    },
    echo, named, rehearse,
    update::{Change, difference, shown_changes},
};

/// Fields whose value is a list or an object; models put those into quotes at times.
const STRUCTURED: [&str; 6] = ["pipeline", "on_failure", "params", "retry", "payload", "clear"];

pub(super) fn spec() -> Spec {
    Spec {
        name: "create_task",
        title: "Create a task",
        description: "Keeps a task: a schedule and a pipeline of steps that runs at each due time. Answers with the schedule as understood and the next occurrences; tell them to the person. The same definition again answers `existed`. A refusal lists every fault with its path. For parts of a definition and templates see list_actions {\"topic\":\"guide\"}.",
        scope: Scope::TaskWrite,
        kind: Kind::Adds,
        input: input(),
        output: output(),
    }
}

fn output() -> Value {
    outputs::answer([
        always("outcome", one_of("would_create answers a dry run", ["created", "existed", "would_create"])),
        maybe("dry_run", flag("Nothing was stored or sent")),
        always("task", outputs::task()),
        maybe("calls", outputs::list("A dry run's: each call that a run would make", outputs::call())),
        maybe("calls_on_failure", outputs::list("Those of `on_failure`", outputs::call())),
        maybe("left_out", outputs::text("What of the calls is not shown, and why")),
        outputs::warnings(),
    ])
}

fn input() -> Value {
    let pipeline = "Steps in order, each {id, uses, with}; also if, foreach, timeout, retry, expect, on_error, save_as. uses names an action (list_actions). ${...} holds JMESPath over params, steps.<id>, event, now, previous; texts in it go in 'single quotes'";
    arguments(
        &["title", "schedule_kind", "pipeline"],
        [
            ("title", text("Unique short name by which people and tools find the task", "Morning briefing")),
            ("description", text("What it is for", "Weather before work")),
            (
                "schedule_kind",
                word("How schedule_expr is read", &["cron", "rrule", "once", "interval", "event", "manual"]),
            ),
            (
                "schedule_expr",
                text(
                    "cron: five fields. rrule: RFC 5545. once: ISO time or +20m. interval: 15m. event: topic such as user.email.*. manual: leave out",
                    "30 8 * * MON-FRI",
                ),
            ),
            (
                "timezone",
                text("IANA zone of the times; default: the agent's, else the configured one", "Europe/Chisinau"),
            ),
            (
                "pipeline",
                list(
                    "object",
                    pipeline,
                    json!([{ "id": "tell", "uses": "inbox.post", "with": { "text": "Good morning, ${params.name}" } }]),
                ),
            ),
            ("params", object("Values for ${params...}", json!({ "name": "Ann" }))),
            (
                "on_failure",
                list(
                    "object",
                    "Steps run once after the last retry failed; they see error.message",
                    json!([{ "uses": "inbox.post", "with": { "text": "Failed: ${error.message}" } }]),
                ),
            ),
            ("event_filter", text("event only: JMESPath that must hold", "event.payload.amount > 100")),
            ("starts_at", text("First instant that counts", "2027-01-31T09:00")),
            ("ends_at", text("End, exclusive", "2027-12-31T00:00")),
            ("max_runs", count("Ends after so many scheduled runs", (1, 4_294_967_295), 10)),
            ("jitter", text("Spreads starts by up to this", "5m")),
            (
                "misfire",
                word(
                    "Occurrences noticed late: one run for the latest, none, or all",
                    &["run_latest", "skip", "run_all"],
                ),
            ),
            ("misfire_limit", count("run_all: at most so many", (1, 10_000), 100)),
            ("misfire_grace", text("Later than this is skipped", "10m")),
            (
                "overlap",
                word(
                    "While a run is not over; default queue for event and manual, else skip",
                    &["skip", "queue", "allow", "cancel_running"],
                ),
            ),
            ("overlap_ignores_waiting", flag("Waiting runs do not count as running")),
            ("queue_limit", count("overlap queue: how many may wait", (1, 100_000), 100)),
            ("concurrency_key", text("Tasks with the same key share concurrency_limit", "printer")),
            ("concurrency_limit", count("Runs at once under the key", (1, 1_000), 1)),
            ("priority", count("1 first, 9 last; default 5", (1, 9), 5)),
            (
                "dedupe_key",
                text(
                    "While a run with the same key is younger than dedupe_window, others are skipped; for all your tasks unless ${task.id} is in it",
                    "order-${event.payload.id}",
                ),
            ),
            ("dedupe_window", text("Default 1h", "10m")),
            ("max_runs_per_day", count("Runs a local day; more are skipped", (1, 4_294_967_295), 24)),
            (
                "max_cost_per_month",
                number("Cost of models a local month, operator's currency; runs that may pass it are skipped", 20),
            ),
            ("max_tokens_per_run", count("Tokens of models a run; then calls are denied", (1, 4_294_967_295), 50_000)),
            ("run_timeout", text("Limit of a whole run; default 1h", "30m")),
            (
                "pause_after_failures",
                count("Pauses itself after so many failures in a row; 0 never", (0, 1_000_000), 10),
            ),
            ("escalate_after", text("Its inbox messages unread so long are sent to escalate_to once", "4h")),
            ("escalate_to", text("Channel; default me", "me")),
            (
                "retry",
                object(
                    "For steps without their own; default 4 attempts. Also errors: [kinds]",
                    json!({ "max_attempts": 4, "backoff": "exponential_jitter", "initial": "1s", "max": "5m" }),
                ),
            ),
            ("dry_run", flag("Only judges it and shows each call it would make; nothing is stored or sent")),
            request_id(),
        ],
    )
}

pub(super) async fn create_task(mut call: Call) -> Result<Answer, ToolError> {
    let request = call.arguments.key("request_id");
    let dry_run = call.arguments.flag("dry_run");
    let mut faults = call.arguments.take_faults();
    let definition = definition(call.arguments.take_rest());
    let desk = call.desk().await?;
    let existed =
        async |task: &TaskRecord, why: &str| existed(&desk, task, why).await.with("dry_run", dry_run.then_some(true));
    // Before anything else is judged: the answer to a request that was answered is that answer.
    if let Some(request) = &request {
        let earlier = desk.store.find_task_by_request(&desk.caller, request).await;
        if let Some(task) = earlier.map_err(|error| refuse(error, Some(request)))? {
            return Ok(existed(&task, "this request_id made it").await);
        }
    }
    let catalogue = desk.store.catalogue(&desk.caller).await.map_err(|error| refuse(error, None))?;
    let mut against = desk.acceptance(&catalogue);
    if !faults.is_empty() {
        faults.extend(task::accept(&definition, against).err().unwrap_or_default());
        return Err(invalid_definition(faults));
    }
    let judged = task::accept(&definition, against);
    if judged.is_err()
        && let Some(task) = same_title(&desk, &definition).await
        && is_made_by(&task, &definition, against)
    {
        return Ok(existed(&task, THE_SAME).await);
    }
    let title = definition.get("title").and_then(Value::as_str).unwrap_or("This task");
    let judge = |said: &Zone| task::accept(&definition, with_zone(against, Some(said)));
    let (accepted, said) = match zones::judged(&call, &format!("\"{title}\""), judged, judge).await {
        Ok(judged) => judged,
        Err(Unusable::Asking(form)) => return Ok(form),
        Err(Unusable::Faulty { faults, zone }) => return Err(invalid_definition_for(faults, zone)),
    };
    against = with_zone(against, said.as_ref());
    let kept = if dry_run {
        match desk.store.foresee_task(&desk.caller, &accepted).await {
            Ok(Foreseen::WouldCreate(task)) => return Ok(rehearse::answer(&desk, &task, &accepted, &catalogue).await),
            Ok(Foreseen::Exists(task)) => Ok(Inserted::Existed(*task)),
            Err(error) => Err(error),
        }
    } else {
        desk.store.insert_task(&desk.caller, &accepted, request.as_deref()).await
    };
    match kept {
        Ok(Inserted::Created(task)) => Ok(created(&desk, &task, &accepted).await),
        Ok(Inserted::Existed(task)) => Ok(existed(&task, THE_SAME).await),
        Err(StoreError::TitleTaken { existing, .. }) => {
            let task = desk.store.find_task(&desk.caller, &TaskRef::Id(existing)).await;
            let task = task.map_err(|error| refuse(error, None))?;
            if task.spec.is_made_by(&definition, against) {
                return Ok(existed(&task, THE_SAME).await);
            }
            Err(title_taken(&task, &accepted))
        }
        Err(error) => Err(refuse(error, request.as_deref())),
    }
}

const THE_SAME: &str = "the same definition is there already";

/// The definition among the arguments, with lists and objects out of their quotes.
pub(super) fn definition(mut fields: Map<String, Value>) -> Value {
    for name in STRUCTURED {
        if let Some(value) = fields.get_mut(name) {
            *value = unquoted(value.take());
        }
    }
    Value::Object(fields)
}

/// What a definition is judged against where the person named the zone.
pub(super) fn with_zone<'a>(against: Acceptance<'a>, said: Option<&'a Zone>) -> Acceptance<'a> {
    let said = said.map(|zone| (zone, ZoneSource::Person));
    Acceptance { default_zone: said.or(against.default_zone), ..against }
}

/// Whether a definition is a standing task's own. Where a person named that one's zone they are not asked again.
fn is_made_by(task: &TaskRecord, definition: &Value, against: Acceptance<'_>) -> bool {
    let said = Some(&task.spec.timezone).filter(|_| task.zone_source == Some(ZoneSource::Person));
    let said = said.and_then(|zone| Zone::find(zone)).filter(|_| against.default_zone.is_none());
    task.spec.is_made_by(definition, with_zone(against, said.as_ref()))
}

/// The standing task that has the definition's title. That it cannot be looked up is told by the next verb.
async fn same_title(desk: &Desk, definition: &Value) -> Option<TaskRecord> {
    let title = definition.get("title")?.as_str()?;
    let found = desk.store.find_task(&desk.caller, &TaskRef::Title(title.to_owned())).await.ok()?;
    matches!(found.state, TaskState::Active | TaskState::Paused).then_some(found)
}

async fn created(desk: &Desk, task: &TaskRecord, accepted: &Accepted) -> Answer {
    let answer = Answer::new().with("outcome", "created").line(format!("Created {}.", named(task)));
    let (answer, mut warnings) = echo(answer, desk, task);
    warnings.extend(accepted.warnings.iter().cloned());
    warnings.extend(desk.warnings().await);
    answer.warn(&warnings)
}

async fn existed(desk: &Desk, task: &TaskRecord, why: &str) -> Answer {
    let answer =
        Answer::new().with("outcome", "existed").line(format!("{} existed: {why}. Nothing was changed.", named(task)));
    let (answer, mut warnings) = echo(answer, desk, task);
    warnings.extend(desk.warnings().await);
    answer.warn(&warnings)
}

/// The refusal of a second definition under one title, with both shown.
fn title_taken(existing: &TaskRecord, accepted: &Accepted) -> ToolError {
    let changes = difference(&existing.spec, &accepted.spec);
    let (shown, more) = shown_changes(&changes);
    let mut lines: Vec<_> = shown.iter().map(Change::line).collect();
    if more > 0 {
        lines.push(format!("- and {more} more"));
    }
    let message = format!(
        "A task titled \"{}\" exists already (task {}, revision {}, {}) with another definition. Nothing was stored. From it to this one:\n{}",
        existing.spec.title,
        existing.id,
        existing.revision,
        existing.state,
        lines.join("\n")
    );
    let next = format!(
        "To change it, call update_task with task \"{}\", changes of these fields, and if_revision {}. To keep both, give the new one another title.",
        existing.id, existing.revision
    );
    let faults = Faults::from(Fault::new("$.title", FaultCode::InvalidValue, "this title is taken"));
    Refusal::new("title_taken", message, next)
        .with_faults(faults)
        .with_details(json!({
            "existing": { "id": existing.id, "revision": existing.revision, "state": existing.state,
                "definition": untrusted::short(&existing.spec.to_definition()) },
            "given": untrusted::short(&accepted.spec.to_definition()),
            "differences": shown.iter().map(Change::json).collect::<Vec<_>>(),
        }))
        .into()
}
