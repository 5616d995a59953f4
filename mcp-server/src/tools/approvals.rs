//! `answer_approval`: what waits for a person, and the person's answer.
//!
//! A model does not decide what its own task asks. A principal of another agent whose token has `approval:answer` does;
//! everybody else's answer is collected by the client's own form, which the person fills in, and where the client has
//! none the command line or a link decides. What the model says of an answer never counts for its own agent.

use ordinaut_schema::{action::parking::ApprovalState, fault::FaultCode, id::ApprovalId, time::Zone};
use ordinaut_store::{
    Caller,
    approvals::{Approval, Authority, Decision},
};
use serde_json::{Map, Value, json};

use crate::{error::ToolError, principal::Scope};

use super::{
    Adding, Kind, Spec, add_tool_for_all,
    answer::Answer,
    call::{Call, Desk},
    outputs::{self, always, maybe, one_of, untrusted_text},
    refusals::refuse,
    schema::{arguments, list, text, word},
    show::{local, plural},
    untrusted,
};

mod form;

/// How many are listed, and among how many one is looked for.
const LISTED: u32 = 20;
const SEARCHED: u32 = 500;

pub(super) fn add(group: &mut Adding<'_>) {
    add_tool_for_all(group, spec(), &[Scope::TaskRead], answer_approval);
}

fn spec() -> Spec {
    Spec {
        name: "answer_approval",
        title: "Answer an approval",
        description: "Lists what waits for a person's approval; with `approval`, has the person asked by the client's form. Your own word decides only what another agent asks, and needs a token with approval:answer.",
        scope: Scope::ApprovalAnswer,
        kind: Kind::Starts,
        input: arguments(
            &[],
            [
                (
                    "approval",
                    text(
                        "The approval's id; without it, all that wait are listed",
                        "019ab2c4-5d00-7000-8f1e-2a6b7c8d9e0f",
                    ),
                ),
                ("decision", word("Where your word decides", &["approve", "reject"])),
                ("items", list("integer", "Approve only these, by number", json!([1, 3]))),
                ("comment", text("What the run is told", "not the second one")),
                ("shown_sha256", text("As listed: what the answer is about", "9f86d081884c7d65")),
            ],
        ),
        output: output(),
    }
}

fn output() -> Value {
    let listed = [
        always("you_decide", outputs::flag("Whether your own word decides it")),
        always("shown_sha256", outputs::text("Of what the answer is about")),
        always("untrusted_task", untrusted_text("The title of its task")),
        always("untrusted_data", outputs::any("Cut at 2 KB: the beginning of its text, then")),
        maybe("agent", outputs::text("Whose it is, where it is another's")),
        maybe("run", outputs::id("Where it is of this agent's own")),
    ];
    outputs::answer([
        maybe("approvals", outputs::list("Without `approval`: what waits", outputs::approval(listed))),
        maybe("outcome", one_of("", ApprovalState::ALL.iter().map(|state| state.as_str()))),
        maybe("approval", outputs::id("")),
        maybe("run", outputs::id("The run that goes on")),
        maybe("by", outputs::text("Who decided")),
    ])
}

/// What was asked for, beside which approval.
struct Word {
    approve: Option<bool>,
    items: Option<Vec<usize>>,
    comment: Option<String>,
    shown_sha256: Option<String>,
}

async fn answer_approval(mut call: Call) -> Result<Answer, ToolError> {
    let given = &mut call.arguments;
    let id = given.optional_parsed::<ApprovalId>("approval", "an approval's id, as it is listed without one");
    let approve = given.choices("decision", &[true, false], |yes| if yes { "approve" } else { "reject" });
    let items = given.any("items").and_then(|items| {
        let read = serde_json::from_value::<Vec<usize>>(items).ok();
        if read.is_none() {
            given.fault("items", FaultCode::WrongType, "`items` must be a list of item numbers, such as [1, 3]");
        }
        read
    });
    let word = Word {
        approve: approve.first().copied(),
        items,
        comment: given.text("comment"),
        shown_sha256: given.text("shown_sha256"),
    };
    given.finish("answer_approval")?;
    let desk = call.desk().await?;
    let may_answer = call.may(Scope::ApprovalAnswer);
    if !may_answer && !call.may(Scope::TaskRead) {
        return Err(ToolError::scope_missing(Scope::ApprovalAnswer));
    }
    let most = if id.is_some() { SEARCHED } else { LISTED };
    let own = desk.store.list_approvals(Some(desk.caller.agent), most).await.map_err(|error| refuse(error, None))?;
    let others =
        if may_answer { desk.store.approvals_of_others(desk.caller.agent, most).await } else { Ok(Vec::new()) };
    let others = others.map_err(|error| refuse(error, None))?;
    let Some(id) = id else { return Ok(listed(&own, &others, &desk.zone())) };
    if let Some(approval) = others.iter().find(|approval| approval.id == id) {
        return by_word(&call, &desk, approval, word).await;
    }
    // One that waits no more says why it cannot be answered; one of another agent's is not there.
    let found = desk.store.find_approval(&desk.caller, id).await;
    let approval = match own.into_iter().find(|approval| approval.id == id) {
        Some(approval) => approval,
        None => found.map_err(|error| refuse(error, None))?,
    };
    if approval.state != ApprovalState::Waiting {
        let message = format!("approval {id} waits no more: it is {}", approval.state);
        return Err(ToolError::refused(
            "approval_over",
            message,
            "Nothing was changed. get_run shows what came of it.",
        ));
    }
    form::by_person(&call, &desk, &approval).await
}

/// The answer of a principal that may decide for somebody else.
async fn by_word(call: &Call, desk: &Desk, approval: &Approval, word: Word) -> Result<Answer, ToolError> {
    let (Some(approve), Some(shown_sha256)) = (word.approve, word.shown_sha256) else {
        return Err(ToolError::refused(
            "answer_incomplete",
            "an answer has `decision` and the `shown_sha256` of what it is about; nothing was decided",
            "Call answer_approval without arguments, show the person what is asked, and give both back.",
        ));
    };
    let decision = Decision { approve, comment: word.comment, items: word.items, shown_sha256 };
    let by = Caller { principal: call.who(), ..desk.caller.clone() };
    decided(desk, &by, Authority::Principal, approval, &decision).await
}

async fn decided(
    desk: &Desk,
    by: &Caller,
    authority: Authority,
    approval: &Approval,
    decision: &Decision,
) -> Result<Answer, ToolError> {
    let answered = desk.store.answer_approval(by, authority, approval.id, decision).await;
    let answered = answered.map_err(|error| refuse(error, None))?;
    Ok(Answer::new()
        .with("outcome", answered.state.as_str())
        .with("approval", json!(answered.id))
        .with("run", json!(answered.run))
        .with("by", answered.answered_by.clone().unwrap_or_default())
        .line(format!("Approval {} is {}; run {} goes on.", answered.id, answered.state, answered.run)))
}

fn listed(own: &[Approval], others: &[Approval], zone: &Zone) -> Answer {
    let entries: Vec<_> =
        others.iter().map(|it| entry(it, true, zone)).chain(own.iter().map(|it| entry(it, false, zone))).collect();
    let first = match entries.len() {
        0 => "Nothing waits for an approval.".to_owned(),
        count => format!("{}:", plural(count as u64, "approval")),
    };
    let next = if own.is_empty() {
        ""
    } else {
        "What this agent's own tasks ask, a person decides: call again with `approval`, or tell them to run `ordinaut approve`."
    };
    let is_cut = [own, others].iter().any(|list| list.len() >= LISTED as usize);
    let more = if is_cut {
        "No more are listed at once: what waits besides shows when some of these are decided."
    } else {
        ""
    };
    let lines: Vec<String> = entries.iter().map(line).collect();
    Answer::new()
        .with("approvals", entries.into_iter().map(Value::Object).collect::<Vec<_>>())
        .line(first)
        .lines(lines)
        .line(more)
        .line(next)
}

fn entry(approval: &Approval, may_answer: bool, zone: &Zone) -> Map<String, Value> {
    let mut entry = Map::from_iter([
        ("id".to_owned(), json!(approval.id)),
        ("until".to_owned(), json!(local(approval.expires_at, zone))),
        ("you_decide".to_owned(), json!(may_answer)),
        ("shown_sha256".to_owned(), json!(approval.shown_sha256)),
        ("untrusted_task".to_owned(), json!(untrusted::text(&approval.task_title))),
        ("untrusted_message".to_owned(), json!(untrusted::text(&approval.message))),
        ("untrusted_data".to_owned(), untrusted::value(&approval.data)),
    ]);
    if may_answer {
        entry.insert("agent".to_owned(), json!(approval.agent_name));
    } else {
        entry.insert("run".to_owned(), json!(approval.run));
    }
    entry
}

fn line(entry: &Map<String, Value>) -> String {
    let shown = |name: &str| entry.get(name).map_or_else(String::new, Value::to_string);
    format!(
        "- {} until {}: untrusted_message: {} untrusted_data: {} (shown_sha256 {})",
        shown("id"),
        shown("until"),
        shown("untrusted_message"),
        shown("untrusted_data"),
        shown("shown_sha256")
    )
}
