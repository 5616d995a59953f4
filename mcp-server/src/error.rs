//! What a tool answers when it cannot do what was asked.
//!
//! A refusal is a tool result that the model reads and acts on; a fault is nobody's mistake but ours, is logged here
//! and shows no detail. Protocol errors are for protocol faults and are the SDK's.

use ordinaut_schema::fault::{Fault, Faults};
use rmcp::{
    ErrorData,
    handler::server::tool::IntoCallToolResult,
    model::{CallToolResponse, CallToolResult, ContentBlock},
};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::error;

use crate::{backend::NotReady, hints, principal::Scope, request_id::RequestId};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    #[error("the call failed")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A refusal that a model can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs: `invalid_definition`, `not_found`, …
    pub code: &'static str,
    pub message: String,
    /// Everything wrong with what was sent, each with its path.
    #[serde(skip_serializing_if = "Faults::is_empty")]
    pub faults: Faults,
    /// What would help, as an instruction.
    pub next: String,
    /// What else a program can use: near titles, the definition that is in the way.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// The present, with offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, message: message.into(), faults: Faults::default(), next: next.into(), details: None, now: None }
    }

    /// `details` is an object; its fields stand beside `code` and `message`.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Leaves out what names a tool that the caller does not see, as `may_read` says.
    fn told_to(&mut self, may_read: impl Fn(&str) -> bool) {
        self.next = hints::shown(&self.next, &may_read);
        if self.next.is_empty() {
            "Tell the person.".clone_into(&mut self.next);
        }
        // A message may be about nothing else: about a name that the caller wrote, say.
        let told = |text: &str| Some(hints::shown(text, &may_read)).filter(|told| !told.is_empty());
        let mut faults: Vec<Fault> = std::mem::take(&mut self.faults).into_iter().collect();
        if let [only] = faults.as_slice()
            && only.message == self.message
        {
            self.message = told(&self.message).unwrap_or_else(|| self.message.clone());
        }
        for fault in &mut faults {
            fault.message = told(&fault.message).unwrap_or_else(|| fault.message.clone());
        }
        self.faults = faults.into_iter().collect();
    }

    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }
}

impl ToolError {
    pub fn refused(code: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Refused(Box::new(Refusal::new(code, message, next)))
    }

    /// The caller's token does not allow this.
    pub fn scope_missing(scope: Scope) -> Self {
        Self::refused(
            "not_permitted",
            format!("this token lacks the scope `{scope}`; nothing was done"),
            "Tell the person: a token with that scope is made by `ordinaut agent add`.",
        )
    }
}

impl From<Refusal> for ToolError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<NotReady> for ToolError {
    fn from(why: NotReady) -> Self {
        let next = match &why {
            NotReady::Starting(_) => "Call again in half a minute; nothing was stored.",
            NotReady::Failed(_) => "Tell the person what is missing; `ordinaut doctor` shows the details.",
        };
        Self::refused("starting", why.to_string(), next)
    }
}

impl ToolError {
    /// What the caller is told; the cause of a fault goes into the log.
    fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => *refusal,
            Self::Fault(fault) => {
                error!(error = &*fault as &dyn std::error::Error, "tool call failed");
                Refusal::new(
                    "internal",
                    format!("Ordinaut failed at this call; {}.", cause_logged()),
                    "Call again once; if it fails again, tell the person to run `ordinaut doctor`.",
                )
            }
        }
    }

    /// The result for a caller for whom `may_read` says which texts name no hidden tool, at the present `now`.
    pub(crate) fn into_result(self, now: String, may_read: impl Fn(&str) -> bool) -> CallToolResult {
        let mut refusal = self.into_refusal();
        refusal.now = Some(now);
        refusal.told_to(may_read);
        refusal.into_result()
    }
}

impl IntoCallToolResult for ToolError {
    fn into_call_tool_result(self) -> Result<CallToolResponse, ErrorData> {
        Ok(self.into_refusal().into_result().into())
    }
}

/// Where the cause of a fault is, with what finds it there.
pub(crate) fn cause_logged() -> String {
    match RequestId::current() {
        Some(id) => format!("the cause is in its log, at request {id}"),
        None => "the cause is in its log".to_owned(),
    }
}

impl Refusal {
    fn into_result(self) -> CallToolResult {
        let mut text = format!("Refused ({}): {}", self.code, self.message);
        for fault in self.faults.as_slice() {
            text.push_str("\n- ");
            text.push_str(&fault.to_string());
        }
        text.push('\n');
        text.push_str(&self.next);
        if let Some(now) = &self.now {
            text.push_str("\nNow: ");
            text.push_str(now);
        }
        let mut result = CallToolResult::error(vec![ContentBlock::text(text)]);
        result.structured_content = Some(json!(self));
        result
    }
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::fault::{Fault, FaultCode};

    use super::*;

    #[test]
    fn a_refusal_shows_every_fault_with_its_path_and_what_to_do() {
        let mut faults = Faults::default();
        faults.push(Fault::new("$.timezone", FaultCode::UnknownTimezone, "no such zone").suggest("Europe/Chisinau"));
        faults.add("$.pipeline[0].uses", FaultCode::UnknownAction, "no such action");
        let refusal = Refusal::new("invalid_definition", "2 faults", "Mend them and call again.").with_faults(faults);

        let result = refusal.into_result();
        let text = &result.content[0].as_text().unwrap().text;
        for part in ["$.timezone", "Europe/Chisinau", "$.pipeline[0].uses", "Mend them"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(result.is_error, Some(true));
        assert_eq!(result.structured_content.unwrap()["faults"].as_array().unwrap().len(), 2);
    }
}
