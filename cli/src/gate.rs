//! `pause-all` and `resume-all`: the gate that claims look at, and runs before each step.

use serde_json::json;

use crate::{failure::Failure, out::Out, session::Session};

pub(crate) async fn shut(session: &Session, agent: Option<&str>, out: Out) -> Result<(), Failure> {
    session.store.shut_gate(agent.map(|_| session.caller.agent), "operator, by the command line").await?;
    if out.is_json() {
        return out.json(&json!({ "gate": "shut", "agent": agent }));
    }
    let whose = agent.map_or_else(|| "nothing".to_owned(), |agent| format!("nothing of agent `{agent}`"));
    out.line(format!("The gate is shut: {whose} starts until `ordinaut resume-all`. Occurrences go on being planned."))
}

pub(crate) async fn open(session: &Session, agent: Option<&str>, out: Out) -> Result<(), Failure> {
    session.store.open_gate(agent.map(|_| session.caller.agent)).await?;
    let still = session.store.gate_shut(session.caller.agent).await?;
    if out.is_json() {
        let state = if still.is_some() { "shut" } else { "open" };
        return out.json(&json!({ "gate": state, "agent": agent }));
    }
    match still {
        Some((since, by)) => out.line(format!(
            "That gate is open, and another stays shut (since {since}, by {by}): each is opened by itself, \
             everyone's by `ordinaut resume-all` without `--agent`."
        )),
        None => out.line("The gate is open: what was held back runs now."),
    }
}
