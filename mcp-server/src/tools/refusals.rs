//! What the store refuses, as a model can act on it.

use ordinaut_schema::fault::Faults;
use ordinaut_store::StoreError;
use serde_json::{Value, json};

use crate::error::{Refusal, ToolError};

use super::outputs::{self, always, any, count, elsewhere, instant, list, maybe, text};

/// Turns a store's refusal into a tool's; what is nobody's mistake stays a fault.
///
/// `request_id` is what makes a repeat safe after an answer that never came.
pub(super) fn refuse(error: StoreError, request_id: Option<&str>) -> ToolError {
    let message = error.to_string();
    match error {
        StoreError::TaskNotFound { near, .. } => {
            let next = match near.as_slice() {
                [] => "Name one by its id or title; list_tasks shows this agent's tasks.".to_owned(),
                near => format!("Perhaps one of these is meant: {}. list_tasks shows all.", quoted(near)),
            };
            let refusal = Refusal::new("task_not_found", message, next);
            if near.is_empty() { refusal.into() } else { refusal.with_details(json!({ "near": near })).into() }
        }
        StoreError::RunNotFound(_) => {
            ToolError::refused("run_not_found", message, "A run's id is in the answers about it (list_runs, run_now).")
        }
        StoreError::AgentNotFound(_) => {
            ToolError::refused("agent_not_found", message, "Tell the person: `ordinaut agent list` shows who is there.")
        }
        StoreError::RevisionChanged { actual, .. } => {
            let next = format!(
                "Somebody changed it meanwhile. Read it again (get_task), and repeat the change with if_revision {actual} if it still fits."
            );
            Refusal::new("revision_changed", message, next).with_details(json!({ "revision": actual })).into()
        }
        StoreError::TaskState { reason, .. } => ToolError::refused(
            "task_state",
            capital(&reason),
            "Nothing was changed. get_task shows how the task stands.",
        ),
        StoreError::OverBudget { exhausted, .. } => ToolError::refused(
            "over_budget",
            capital(&exhausted.to_string()),
            "Nothing was stored. Tell the person when it begins anew; update_task changes a limit of the task's, and \
             `ordinaut agent budget` one of the agent's.",
        ),
        StoreError::RequestUsed { .. } => ToolError::refused(
            "request_id_used",
            capital(&message),
            "Nothing was started. Call again with a request_id that was never used, or without one.",
        ),
        StoreError::RunState { reason, .. } => {
            ToolError::refused("run_state", capital(&reason), "Nothing was changed. get_run shows how the run stands.")
        }
        StoreError::ApprovalNotFound(_) => {
            ToolError::refused("approval_not_found", message, "answer_approval without arguments lists what waits.")
        }
        StoreError::ApprovalRefused { reason, .. } => ToolError::refused(
            "approval_refused",
            capital(&reason),
            "Nothing was decided. answer_approval without arguments lists what waits, as it is now.",
        ),
        StoreError::TooManyTasks { .. } => ToolError::refused(
            "too_many_tasks",
            message,
            "Cancel tasks that are no longer needed (list_tasks, cancel), or do several things in one pipeline.",
        ),
        StoreError::Unknown { .. } => {
            let next = match request_id {
                Some(_) => "It may have been done. Call again with the same request_id: it will not be done twice.",
                None => "It may have been done. Look first (get_task, list_runs), then call again if it was not.",
            };
            ToolError::refused("outcome_unknown", "The database did not answer in time.", next)
        }
        error if error.is_retryable() => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the database failed at a call");
            ToolError::refused("unavailable", "The database does not answer at the moment.", "Call again in a minute.")
        }
        error => ToolError::Fault(Box::new(error)),
    }
}

/// The refusal of a definition with everything that is wrong with it.
pub(super) fn invalid_definition(faults: Faults) -> ToolError {
    invalid_definition_for(faults, None)
}

/// As [`invalid_definition`], with what to do about the zone.
pub(super) fn invalid_definition_for(faults: Faults, zone: Option<String>) -> ToolError {
    let count = faults.as_slice().len();
    let message =
        format!("the definition has {count} {}; nothing was stored", if count == 1 { "fault" } else { "faults" });
    let next = zone.map_or_else(|| MEND.to_owned(), |zone| format!("{zone} {MEND}"));
    Refusal::new("invalid_definition", message, next).with_faults(faults).into()
}

/// What any tool refuses with.
pub(super) fn output() -> Value {
    let fault = outputs::object(
        "",
        [
            always("path", text("JSON path of what is wrong, such as $.pipeline[2].with.url")),
            always("code", text("What kind, such as unknown_action")),
            always("message", text("")),
            maybe("suggestion", text("What to put in its place")),
        ],
    );
    let mut schema = outputs::object(
        "The structured content of a result with `isError`",
        [
            always("code", text("What kind, such as invalid_definition")),
            always("message", text("")),
            maybe("faults", list("Everything wrong with what was sent", fault)),
            always("next", text("What would help")),
            maybe("near", list("Titles that may be meant", text(""))),
            maybe("revision", count("Where the task is by now")),
            maybe("existing", elsewhere("The task that has the title: id, revision, state and definition")),
            maybe("given", any("The definition that was sent")),
            maybe("differences", outputs::changed("From the existing definition to the one that was sent")),
            always("now", instant("The present")),
        ],
    );
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema
}

const MEND: &str = "Mend every fault listed and call again with the whole definition. list_actions {\"topic\": \"guide\"} explains pipelines, preview_schedule checks a schedule.";

fn quoted(titles: &[String]) -> String {
    titles.iter().map(|title| format!("\"{title}\"")).collect::<Vec<_>>().join(", ")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
