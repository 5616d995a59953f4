//! The form by which a person decides.

use ordinaut_store::{
    Caller,
    approvals::{Approval, Authority, Decision},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ToolError;

use super::{
    super::{
        answer::Answer,
        asking::{self, Form, Reply},
        call::{Call, Desk},
        untrusted,
    },
    decided,
};

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
    let has_form = asking::is_possible(call);
    let shown = shown(approval);
    if !has_form || shown.len() > MOST_SHOWN {
        let why = if has_form { "it is too long for the client's form" } else { "this client cannot ask them" };
        return Err(ToolError::refused(
            "person_decides",
            format!("a person decides approval {}, and {why}; nothing was decided", approval.id),
            "Tell the person: `ordinaut approve` lists it and `ordinaut approve --links` makes a link for a browser.",
        ));
    }
    let form = Form { name: format!("approval_{}", approval.id), message: shown, schema: schema(approval) };
    let filled = match asking::ask(call, form).await {
        Reply::Later(answer) => return Ok(answer),
        Reply::Filled(filled) => filled,
        Reply::Closed => return Err(undecided("the person closed the form without deciding")),
        Reply::Lost(why) => return Err(undecided(why)),
    };
    let decision =
        read(approval, filled).ok_or_else(|| undecided("what the client's form gave back cannot be read"))?;
    let by = Caller { principal: format!("a person, asked by the client of {}", call.who()), ..desk.caller.clone() };
    decided(desk, &by, Authority::Person, approval, &decision).await
}

fn read(approval: &Approval, filled: Value) -> Option<Decision> {
    let filled: Filled = serde_json::from_value(filled).ok()?;
    let approve = match filled.decision.as_str() {
        "approve" => true,
        "reject" => false,
        _ => return None,
    };
    let numbers = filled.items.split([',', ' ']).map(str::trim).filter(|number| !number.is_empty());
    let items: Vec<usize> = numbers.map(str::parse).collect::<Result<_, _>>().ok()?;
    let comment = filled.comment.trim();
    Some(Decision {
        approve,
        comment: (!comment.is_empty()).then(|| comment.to_owned()),
        items: (approve && !items.is_empty()).then_some(items),
        shown_sha256: approval.shown_sha256.clone(),
    })
}

fn undecided(why: &str) -> ToolError {
    ToolError::refused("not_decided", format!("{why}; nothing was decided"), "Ask the person before you call again.")
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

fn schema(approval: &Approval) -> Value {
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
    json!({ "type": "object", "properties": properties, "required": ["decision"] })
}
