//! The client's form: the person sees what is asked and answers through it, past the model.
//!
//! Clients of 2026-07-28 get the form as the result of the call and call again with what the person filled in; with
//! older ones the server asks while the call waits. Either way the answer travels beside the arguments that a model
//! writes, never in them.

use std::time::Duration;

use ordinaut_store::{
    Caller,
    approvals::{Approval, Authority, Decision},
};
use rmcp::model::{
    ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, InputRequest,
    InputRequiredResult, ProtocolVersion,
};
use serde::Deserialize;
use serde_json::json;

use crate::error::ToolError;

use super::{
    super::{
        answer::Answer,
        call::{Call, Desk},
        untrusted,
    },
    decided,
};

/// How long a person may look at a form while the call waits.
const PATIENCE: Duration = Duration::from_mins(10);

/// What is longer does not fit a form: nobody approves what they were not shown.
const MOST_SHOWN: usize = 16 * 1024;

/// What the form gives back.
#[derive(Debug, Deserialize)]
struct Filled {
    decision: String,
    #[serde(default)]
    items: String,
    #[serde(default)]
    comment: String,
}

/// Has the person asked, or says who decides.
pub(super) async fn by_person(call: &Call, desk: &Desk, approval: &Approval) -> Result<Answer, ToolError> {
    let capability = call.context.client_capabilities().and_then(|client| client.elicitation);
    let has_form = capability.is_some_and(|it| it.form.is_some() || it.url.is_none());
    let shown = shown(approval);
    if !has_form || shown.len() > MOST_SHOWN {
        let why = if has_form { "it is too long for the client's form" } else { "this client cannot ask them" };
        return Err(ToolError::refused(
            "person_decides",
            format!("a person decides approval {}, and {why}; nothing was decided", approval.id),
            "Tell the person: `ordinaut approve` lists it and `ordinaut approve --links` makes a link for a browser.",
        ));
    }
    let newest = call.context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
    // Named after what it shows: an answer to another form is not an answer to this one.
    let name = format!("approval_{}", approval.id);
    let filled = match call.input_responses.as_ref().and_then(|responses| responses.get(&name)) {
        Some(response) => serde_json::from_value::<ElicitResult>(response.clone()).map_err(|_| unreadable())?,
        None if newest => {
            let request = InputRequest::Elicitation(ElicitRequest::new(params(approval, shown)));
            return Ok(Answer::asking(InputRequiredResult::from_input_requests([(name, request)].into())));
        }
        None => {
            let asked = call.context.peer.create_elicitation_with_timeout(params(approval, shown), Some(PATIENCE));
            asked.await.map_err(|error| {
                tracing::debug!(%error, "a client did not answer a form");
                undecided("the client's form was not answered")
            })?
        }
    };
    let decision = read(approval, filled)?;
    let by = Caller { principal: format!("a person, asked by the client of {}", call.who()), ..desk.caller.clone() };
    decided(desk, &by, Authority::Person, approval, &decision).await
}

fn read(approval: &Approval, filled: ElicitResult) -> Result<Decision, ToolError> {
    if filled.action != ElicitationAction::Accept {
        return Err(undecided("the person closed the form without deciding"));
    }
    let filled: Filled = serde_json::from_value(filled.content.unwrap_or_default()).map_err(|_| unreadable())?;
    let approve = match filled.decision.as_str() {
        "approve" => true,
        "reject" => false,
        _ => return Err(unreadable()),
    };
    let numbers = filled.items.split([',', ' ']).map(str::trim).filter(|number| !number.is_empty());
    let items: Vec<usize> = numbers.map(str::parse).collect::<Result<_, _>>().map_err(|_| unreadable())?;
    let comment = filled.comment.trim();
    Ok(Decision {
        approve,
        comment: (!comment.is_empty()).then(|| comment.to_owned()),
        items: (approve && !items.is_empty()).then_some(items),
        shown_sha256: approval.shown_sha256.clone(),
    })
}

fn undecided(why: &str) -> ToolError {
    ToolError::refused("not_decided", format!("{why}; nothing was decided"), "Ask the person before you call again.")
}

fn unreadable() -> ToolError {
    undecided("what the client's form gave back cannot be read")
}

/// All that is approved, with what could hide made visible.
fn shown(approval: &Approval) -> String {
    let data = match approval.items() {
        Some(items) => {
            let fields = approval.data.as_object().into_iter().flatten().filter(|(name, _)| *name != "items");
            let beside: String = fields.map(|(name, value)| format!("{name}: {value}\n")).collect();
            let items: String = items.iter().enumerate().map(|(n, item)| format!("{}. {item}\n", n + 1)).collect();
            beside + &items
        }
        None if approval.data.is_null() => String::new(),
        None => serde_json::to_string_pretty(&approval.data).unwrap_or_default(),
    };
    untrusted::visible(&format!("\"{}\" asks:\n{}\n{data}", approval.task_title, approval.message))
}

fn params(approval: &Approval, message: String) -> ElicitRequestParams {
    let mut properties = json!({
        "decision": { "type": "string", "title": "Decision", "enum": ["approve", "reject"] },
        "comment": { "type": "string", "title": "Comment", "description": "What the run is told" },
    });
    if approval.items().is_some() {
        properties["items"] = json!({
            "type": "string",
            "title": "Items",
            "description": "Numbers of the items to approve, such as 1,3; empty approves all",
        });
    }
    let schema = json!({ "type": "object", "properties": properties, "required": ["decision"] });
    let requested_schema: ElicitationSchema = serde_json::from_value(schema).expect("the form's schema is one");
    ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema }
}
