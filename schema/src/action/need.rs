//! What a step needs of what the operator configured, and whether its agent may use that.
//!
//! Asked twice with one answer: when a definition is judged (what is still a template then is not named), and again of
//! the rendered input before each call, because grants may have been taken since.

use std::fmt;

use serde_json::Value;

use crate::{
    fault::{Fault, FaultCode, child, nearest},
    template::has_template,
};

use super::{Catalogue, Grants, not_taken, split_tool};

/// One thing of the operator's that a step uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    Tool {
        server: String,
        tool: String,
    },
    Channel(String),
    /// By its name in `ordinaut.toml`; the operator's default where the step names none.
    Model(Option<String>),
    /// A command of `shell.exec`, by its id.
    Command(String),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool { server, tool } => write!(f, "the tool `{server}.{tool}`"),
            Self::Channel(name) => write!(f, "the channel `{name}`"),
            Self::Model(Some(name)) => write!(f, "the model `{name}`"),
            Self::Model(None) => f.write_str("a model"),
            Self::Command(id) => write!(f, "the command `{id}`"),
        }
    }
}

impl Need {
    /// What a person types to grant it.
    pub fn grant(&self, agent: &str) -> String {
        let agent = if agent.is_empty() { "<agent>" } else { agent };
        let granted = match self {
            Self::Tool { server, tool } => format!("--tool {server}.{tool}"),
            Self::Channel(name) => format!("--channel {name}"),
            Self::Model(Some(name)) => format!("--model {name}"),
            Self::Model(None) => "--model <name>".to_owned(),
            Self::Command(id) => format!("--command {id}"),
        };
        format!("ordinaut agent grant {agent} {granted}")
    }
}

pub(super) fn not_granted(need: &Need, path: impl Into<String>, catalogue: &Catalogue) -> Fault {
    let command = need.grant(&catalogue.agent);
    let message = format!("this agent may not use {need}; a person grants it with `{command}`");
    Fault::new(path, FaultCode::NotGranted, message)
}

/// What a step that `uses` an action `with` an input needs; nothing where a template has yet to say which.
pub fn need(uses: &str, with: &Value) -> Option<Need> {
    let named = |field: &str| with.get(field).and_then(Value::as_str).filter(|text| !has_template(text));
    match uses {
        "notify.send" | "approval.request" => named("channel").map(|name| Need::Channel(name.to_owned())),
        "shell.exec" => named("command").map(|id| Need::Command(id.to_owned())),
        "llm.generate" => match with.get("model") {
            None | Some(Value::Null) => Some(Need::Model(None)),
            Some(_) => named("model").map(|name| Need::Model(Some(name.to_owned()))),
        },
        _ => split_tool(uses).map(|(server, tool)| Need::Tool { server: server.to_owned(), tool: tool.to_owned() }),
    }
}

/// Whether steps that use this action need anything that is granted.
pub fn needs_grants(uses: &str) -> bool {
    matches!(uses.split('.').next(), Some("notify" | "approval" | "llm" | "shell")) || split_tool(uses).is_some()
}

/// Judges what a step names of the operator's: whether it exists, then whether the agent may use it. Tools of servers
/// are judged with their names.
///
/// # Errors
/// `not_configured`, with what exists and the command for the person; `not_granted`.
pub(crate) fn judge(uses: &str, with: &Value, with_path: &str, catalogue: &Catalogue) -> Result<(), Fault> {
    let Some(need) = need(uses, with) else { return Ok(()) };
    let offered = &catalogue.offered;
    let (field, exists, names, command): (_, bool, Vec<&str>, _) = match &need {
        Need::Tool { .. } => return Ok(()),
        Need::Channel(name) => (
            "channel",
            name == "me" || offered.channels.contains_key(name),
            std::iter::once("me")
                .chain(offered.channels.keys().map(String::as_str).filter(|name| *name != "me"))
                .collect(),
            "ordinaut channel add",
        ),
        Need::Model(Some(name)) => (
            "model",
            offered.models.contains_key(name),
            offered.models.keys().map(String::as_str).collect(),
            "ordinaut llm add",
        ),
        Need::Model(None) => ("model", offered.default_model.is_some(), Vec::new(), "ordinaut llm add"),
        Need::Command(id) => (
            "command",
            offered.commands.contains_key(id),
            offered.commands.keys().map(String::as_str).collect(),
            "a `[shell.<id>]` table in ordinaut.toml",
        ),
    };
    let path = child(with_path, field);
    if !exists {
        let known =
            if names.is_empty() { "none is configured".to_owned() } else { format!("there is {}", names.join(", ")) };
        let fault = Fault::new(
            path,
            FaultCode::NotConfigured,
            format!("{need} is not configured: {known}. A person adds one with {command}"),
        );
        let wanted = with.get(field).and_then(Value::as_str).unwrap_or_default();
        return Err(match nearest(wanted, names) {
            Some(near) => fault.suggest(near),
            None => fault,
        });
    }
    // A step that names no model uses the default one, which need not be among those granted.
    let meant = match need {
        Need::Model(None) => Need::Model(offered.default_model.clone()),
        other => other,
    };
    if !catalogue.grants.allow(&meant) {
        return Err(not_granted(&meant, path, catalogue));
    }
    if let Need::Command(id) = &meant
        && let Some(field) = offered.takes.get(id).and_then(|takes| takes.refuses(with))
    {
        return Err(Fault::new(child(with_path, field), FaultCode::NotConfigured, not_taken(id, field)));
    }
    Ok(())
}

impl Grants {
    /// Whether the agent may use it. A grant `*` is all of a kind, and `all` is everything but commands, which are
    /// granted one by one.
    pub fn allow(&self, need: &Need) -> bool {
        let listed = |granted: &[String], name: &str| granted.iter().any(|grant| grant == name || grant == "*");
        match need {
            Need::Tool { server, tool } => self.allow_tool(server, tool),
            Need::Channel(name) => self.all || listed(&self.channels, name),
            Need::Model(Some(name)) => self.all || listed(&self.models, name),
            Need::Model(None) => self.all || !self.models.is_empty(),
            Need::Command(id) => self.commands.contains(id),
        }
    }

    /// Whether `secrets.<name>` may stand in the agent's steps.
    pub fn allow_secret(&self, name: &str) -> bool {
        self.all || self.secrets.iter().any(|grant| grant == name || grant == "*")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Takes, *};

    #[test]
    fn what_a_template_has_yet_to_say_is_not_needed_yet() {
        assert_eq!(need("notify.send", &json!({"channel": "${params.to}"})), None);
        assert_eq!(need("notify.send", &json!({"channel": "me"})), Some(Need::Channel("me".to_owned())));
        assert_eq!(need("http.get", &json!({"url": "https://example.com"})), None);
    }

    #[test]
    fn a_default_model_that_is_not_granted_is_not_used_by_saying_nothing() {
        let catalogue = Catalogue {
            offered: super::super::Offered {
                models: [("big".to_owned(), "x".to_owned()), ("small".to_owned(), "y".to_owned())].into(),
                default_model: Some("big".to_owned()),
                ..Default::default()
            },
            grants: Grants { models: vec!["small".to_owned()], ..Grants::default() },
            ..Catalogue::default()
        };
        let refused = judge("llm.generate", &json!({"instruction": "x"}), "$", &catalogue).unwrap_err();
        assert_eq!(refused.code, FaultCode::NotGranted);
        assert!(refused.message.contains("the model `big`"), "{refused}");
        judge("llm.generate", &json!({"instruction": "x", "model": "small"}), "$", &catalogue).unwrap();
    }

    #[test]
    fn a_command_is_given_only_what_the_operator_lets_it_take() {
        let mut catalogue = Catalogue {
            offered: super::super::Offered {
                commands: [("sort".to_owned(), "Sorts".to_owned())].into(),
                takes: [("sort".to_owned(), Takes { args: true, stdin: false })].into(),
                ..Default::default()
            },
            grants: Grants { commands: vec!["sort".to_owned()], ..Grants::default() },
            ..Catalogue::default()
        };
        let asked = |with: Value, catalogue: &Catalogue| judge("shell.exec", &with, "$.with", catalogue);
        asked(json!({"command": "sort", "args": ["-r"]}), &catalogue).unwrap();
        for given in [json!("b\na"), json!("${params.lines}")] {
            let refused = asked(json!({"command": "sort", "stdin": given}), &catalogue).unwrap_err();
            assert_eq!((refused.path.as_str(), refused.code), ("$.with.stdin", FaultCode::NotConfigured));
            assert!(refused.message.contains("`stdin = true` in `[shell.sort]`"), "{refused}");
        }
        catalogue.offered.takes.insert("sort".to_owned(), Takes::default());
        asked(json!({"command": "sort", "args": []}), &catalogue).unwrap();
        assert_eq!(
            asked(json!({"command": "sort", "args": "${params.a}"}), &catalogue).unwrap_err().path,
            "$.with.args"
        );
        // An executor one version back did not say what it takes: the call decides.
        catalogue.offered.takes.clear();
        asked(json!({"command": "sort", "args": ["-r"]}), &catalogue).unwrap();
    }

    #[test]
    fn all_grants_everything_but_commands() {
        let local = Grants::local();
        assert!(local.allow(&Need::Channel("me".to_owned())) && local.allow(&Need::Model(None)));
        assert!(!local.allow(&Need::Command("backup".to_owned())));
        let stranger = Grants::default();
        assert!(!stranger.allow(&Need::Channel("me".to_owned())) && !stranger.allow(&Need::Model(None)));
    }
}
