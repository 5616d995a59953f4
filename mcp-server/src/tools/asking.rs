//! The client's form: the person sees what is asked and answers through it, past the model.
//!
//! Clients of 2026-07-28 get the form as the result of the call and call again with what the person filled in; those of
//! 2025-06-18 and 2025-11-25 are asked while the call waits; older ones have no forms. Either way the answer travels
//! beside the arguments that a model writes, never in them.

use std::time::Duration;

use rmcp::model::{
    ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, InputRequest,
    InputRequiredResult, ProtocolVersion,
};
use serde_json::Value;

use super::{answer::Answer, call::Call};

/// How long a person may look at a form while the call waits.
const PATIENCE: Duration = Duration::from_mins(10);

/// What a person is shown.
pub(super) struct Form {
    /// By which a later call brings the answer back; named after what it shows, so that an answer to another form is
    /// not an answer to this one.
    pub(super) name: String,
    pub(super) message: String,
    /// A flat object, as the protocol has it.
    pub(super) schema: Value,
}

/// What came of a form.
pub(super) enum Reply {
    /// The client is to show it and to call again: the answer to this call.
    Later(Answer),
    /// What the person filled in.
    Filled(Value),
    /// The person closed it.
    Closed,
    /// Nothing came back, or nothing that can be read.
    Lost(&'static str),
}

/// Whether the client can show forms.
pub(super) fn is_possible(call: &Call) -> bool {
    let is_known = call.context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2025_06_18);
    let capability = call.context.client_capabilities().and_then(|client| client.elicitation);
    is_known && capability.is_some_and(|it| it.form.is_some() || it.url.is_none())
}

/// Whether the answer to a form came with this call.
pub(super) fn is_answered(call: &Call, name: &str) -> bool {
    call.input_responses.as_ref().is_some_and(|responses| responses.contains_key(name))
}

/// Has the person asked by a client for which that [is possible](is_possible).
pub(super) async fn ask(call: &Call, form: Form) -> Reply {
    const UNREADABLE: Reply = Reply::Lost("what the client's form gave back cannot be read");
    let Form { name, message, schema } = form;
    let is_newest = call.context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
    let filled = match call.input_responses.as_ref().and_then(|responses| responses.get(&name)) {
        Some(response) => match serde_json::from_value::<ElicitResult>(response.clone()) {
            Ok(filled) => filled,
            Err(_) => return UNREADABLE,
        },
        None if is_newest => {
            let request = InputRequest::Elicitation(ElicitRequest::new(params(message, schema)));
            return Reply::Later(Answer::asking(InputRequiredResult::from_input_requests([(name, request)].into())));
        }
        None => {
            let asked = call.context.peer.create_elicitation_with_timeout(params(message, schema), Some(PATIENCE));
            match call.rest(call.context.ct.run_until_cancelled(asked)).await {
                Some(Ok(filled)) => filled,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a client did not answer a form");
                    return Reply::Lost("the client's form was not answered");
                }
                None => return Reply::Lost("the call was given up while the client's form was open"),
            }
        }
    };
    match (filled.action, filled.content) {
        (ElicitationAction::Accept, Some(content)) => Reply::Filled(content),
        (ElicitationAction::Accept, None) => UNREADABLE,
        _ => Reply::Closed,
    }
}

fn params(message: String, schema: Value) -> ElicitRequestParams {
    let requested_schema: ElicitationSchema = serde_json::from_value(schema).expect("the form's schema is one");
    ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema }
}
