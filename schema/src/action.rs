//! What a step may `use`: the descriptors of the built-in actions, and the catalogue a definition is checked against.
//!
//! The descriptors are here, and not beside the code that acts, so that the MCP server can check a definition
//! and explain the actions without being able to run one. `data` alone acts, too: it is pure.

mod built_in;
pub mod data;
mod input;
mod need;
mod outward;
pub mod parking;
mod pin;
mod price;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    budget::Tariff,
    fault::{Fault, FaultCode, nearest},
};

/// What is known of one action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What a pipeline `uses`: `http.get`, `github.create_issue`.
    pub name: String,
    /// One sentence.
    pub sentence: String,
    /// JSON Schema 2020-12 of `with`, before templates are rendered.
    pub input_schema: Value,
    /// A `with` that works.
    pub example: Value,
    pub effect: Effect,
}

/// What a repeated call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// No effect at all: recomputed from pinned inputs (`data.*`).
    Pure,
    /// A repeat does no harm: called again when its outcome is unknown.
    Idempotent,
    /// A repeat may do harm: an unknown outcome stays unknown.
    Once,
}

/// The actions that exist here and now for one agent.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Tools of the operator's MCP servers, by `<server>.<tool>`, as they were accepted.
    pub tools: BTreeMap<String, Descriptor>,
    /// Those that their servers describe otherwise by now: not to be used until a person has accepted that.
    pub changed: BTreeMap<String, Change>,
    /// Configured servers whose tools nobody has seen yet: `<server>.<anything>` is a warning, not a fault.
    pub unseen_servers: Vec<String>,
    pub offered: Offered,
    pub grants: Grants,
    /// What the agent is called, for the command that grants it more.
    pub agent: String,
    /// The agent has a budget of cost: models without a price are not for it.
    pub cost_budget: bool,
}

/// What the operator configured for steps to name, beside MCP servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    /// Of `notify.send`, with what each is: `email`, `slack`, … `me` always exists.
    pub channels: BTreeMap<String, String>,
    /// Of `llm.generate`, with the model behind each name.
    pub models: BTreeMap<String, String>,
    /// What those models cost that have a price.
    pub tariffs: BTreeMap<String, Tariff>,
    /// The name of the model that is used where a step names none.
    pub default_model: Option<String>,
    /// Of `shell.exec`, with what each runs.
    pub commands: BTreeMap<String, String>,
    /// What of a step those commands take, where whoever published them said so.
    pub takes: BTreeMap<String, Takes>,
    /// Names only, with the hosts that each may be sent to.
    pub secrets: BTreeMap<String, Vec<String>>,
}

/// What a command takes from the step that runs it, beside its id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Takes {
    pub args: bool,
    pub stdin: bool,
}

impl Takes {
    /// The field of a step's input that the command does not take; no arguments are none.
    pub fn refuses(self, with: &Value) -> Option<&'static str> {
        let is_given =
            |field: &str| with.get(field).is_some_and(|given| !given.is_null() && *given != Value::Array(vec![]));
        [("args", self.args), ("stdin", self.stdin)]
            .into_iter()
            .find(|(field, is_taken)| !is_taken && is_given(field))
            .map(|(field, _)| field)
    }
}

/// Why a command is not given what it does not take.
pub fn not_taken(id: &str, field: &str) -> String {
    format!(
        "the command `{id}` takes no `{field}` from steps; the operator allows it with `{field} = true` in \
         `[shell.{id}]` of ordinaut.toml"
    )
}

/// What an agent's steps may use. A new HTTP agent has none of it: actions that need nothing of the operator's, only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Everything that the operator configured (except `shell.exec`, which names its commands).
    pub all: bool,
    /// Servers (`github`) or single tools (`github.create_issue`).
    pub tools: Vec<String>,
    pub channels: Vec<String>,
    pub secrets: Vec<String>,
    pub models: Vec<String>,
    /// Commands of `shell.exec`, by id.
    pub commands: Vec<String>,
}

impl Grants {
    /// The local agent's.
    pub fn local() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Whether `<server>.<tool>` may be called.
    pub fn allow_tool(&self, server: &str, tool: &str) -> bool {
        self.all
            || self
                .tools
                .iter()
                .any(|grant| grant == server || grant.split_once('.').is_some_and(|(s, t)| s == server && t == tool))
    }
}

/// The first parts of names that belong to Ordinaut: no MCP server may be called so.
pub const FAMILIES: [&str; 11] =
    ["http", "llm", "notify", "inbox", "approval", "wait", "task", "event", "data", "shell", "orchestrator"];

/// The words that people have for what an action does.
const CALLED: [(&[&str], &str); 4] = [
    (
        &[
            "email",
            "mail",
            "sms",
            "slack",
            "telegram",
            "discord",
            "push",
            "message",
            "notification",
            "reminder",
            "alert",
        ],
        "notify.send",
    ),
    (&["fetch", "curl", "request", "web", "webhook", "url", "api"], "http.request"),
    (&["ai", "gpt", "openai", "anthropic", "claude", "chat", "prompt"], "llm.generate"),
    (&["sleep", "delay", "pause"], "wait.for"),
];

/// The built-in actions, in the order in which they are listed.
pub fn built_in() -> &'static [Descriptor] {
    built_in::all()
}

impl Catalogue {
    /// What is known of the action that a step `uses`.
    pub fn find(&self, uses: &str) -> Option<&Descriptor> {
        built_in().iter().find(|descriptor| descriptor.name == uses).or_else(|| self.tools.get(uses))
    }

    /// The names of all actions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        built_in().iter().map(|descriptor| descriptor.name.as_str()).chain(self.tools.keys().map(String::as_str))
    }
}

/// Server and tool of what a step `uses`, split at the first dot; `None` for the built-in families.
pub fn split_tool(uses: &str) -> Option<(&str, &str)> {
    uses.split_once('.').filter(|(server, tool)| !tool.is_empty() && !FAMILIES.contains(server))
}

/// Judges `uses`: a fault when the step cannot be run here, a warning when nobody can know yet.
///
/// # Errors
/// There is no such action, or it is not granted.
pub(crate) fn judge_name(uses: &str, path: &str, catalogue: &Catalogue) -> Result<Option<String>, Fault> {
    if built_in().iter().any(|descriptor| descriptor.name == uses) {
        return Ok(None);
    }
    let Some((server, tool)) = split_tool(uses) else {
        return Err(unknown(uses, path, catalogue));
    };
    let seen = catalogue.tools.contains_key(uses);
    let unseen = catalogue.unseen_servers.iter().any(|name| name == server);
    if !seen && !unseen {
        return Err(unknown(uses, path, catalogue));
    }
    if !catalogue.grants.allow_tool(server, tool) {
        let need = Need::Tool { server: server.to_owned(), tool: tool.to_owned() };
        return Err(need::not_granted(&need, path, catalogue));
    }
    if let Some(change) = catalogue.changed.get(uses) {
        let command = accept_command(server, tool);
        return Err(Fault::new(
            path,
            FaultCode::ToolChanged,
            format!(
                "`{uses}` has changed since it was accepted ({change}), so no step may use it until a person has \
                 looked at the change: `{command}`"
            ),
        ));
    }
    Ok(unseen.then(|| {
        format!("{path}: the MCP server `{server}` has not been seen yet, so `{uses}` and its input are not checked")
    }))
}

fn unknown(uses: &str, path: &str, catalogue: &Catalogue) -> Fault {
    let server = split_tool(uses).map(|(server, _)| server);
    let siblings: Vec<&str> = catalogue
        .names()
        .filter(|name| {
            uses.split_once('.').is_some_and(|(family, _)| name.split_once('.').is_some_and(|n| n.0 == family))
        })
        .collect();
    let message = match server {
        _ if !siblings.is_empty() => format!("there is no action `{uses}`; there are {}", siblings.join(", ")),
        Some(server) => format!(
            "there is no action `{uses}` and no MCP server `{server}`: {}. A person adds one with `ordinaut server add`; \
             `list_actions` shows what a step may use",
            servers(catalogue)
        ),
        None => format!("there is no action `{uses}`; write `<family>.<action>`, such as `http.get`"),
    };
    let fault = Fault::new(path, FaultCode::UnknownAction, message);
    match meant(uses, catalogue) {
        Some(meant) => fault.suggest(meant),
        None => fault,
    }
}

/// The MCP servers that there are, whether they were seen yet or not.
fn servers(catalogue: &Catalogue) -> String {
    let seen = catalogue.tools.keys().filter_map(|name| split_tool(name)).map(|(server, _)| server);
    let all: BTreeSet<&str> = seen.chain(catalogue.unseen_servers.iter().map(String::as_str)).collect();
    if all.is_empty() {
        return "none is configured".to_owned();
    }
    format!("there is {}", all.into_iter().collect::<Vec<_>>().join(", "))
}

/// The action that is meant by a name that none has: one that is near, or that does what the name says.
pub fn meant<'a>(uses: &str, catalogue: &'a Catalogue) -> Option<&'a str> {
    let of_family = |name: &&str| name.split_once('.').is_some_and(|(family, _)| family == uses);
    nearest(uses, catalogue.names()).or_else(|| catalogue.names().find(of_family)).or_else(|| called(uses))
}

/// The action for a name that says what it does in another word: `email.send`, `fetch`.
fn called(uses: &str) -> Option<&'static str> {
    let uses = uses.to_lowercase();
    let meant = |word: &str| CALLED.iter().find(|(words, _)| words.contains(&word)).map(|(_, name)| *name);
    uses.split(['.', '_', '-', ':', '/']).find_map(meant)
}

pub(crate) use input::{judge as judge_input, judge_url};
pub(crate) use need::judge as judge_need;
pub use need::{Need, need, needs_grants};
pub use pin::{Change, accept_command};
pub(crate) use price::{judge as judge_price, most_of};
