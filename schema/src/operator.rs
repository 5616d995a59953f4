//! What the operator configures for steps to name: the tables `channels`, `llm`, `shell` and `servers` of
//! `ordinaut.toml`.
//!
//! The programs hand in the parsed file; every mistake in these tables is told at once, and the other tables are left to
//! whom they belong. A credential may stand here in clear or as `${secrets.NAME}`; `Debug` shows neither, and what is
//! [offered](Operator::offered) to definitions is names and kinds only.

mod channel;
mod command;
mod credential;
mod model;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    action::{FAMILIES, Offered},
    fault::{FaultCode, Faults, child},
    fields::{Fields, kind_of},
};

pub use channel::{Channel, ChannelKind, Email, Tls};
pub use command::Command;
pub use credential::Credential;
pub use model::{Model, ModelKind, Price};

/// The operator's tables, judged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Operator {
    /// Of `notify.send`. `me` is here only where the operator redirects it.
    pub channels: BTreeMap<String, Channel>,
    /// Of `llm.generate`.
    pub models: BTreeMap<String, Model>,
    /// The name of the model that is used where a step names none.
    pub default_model: Option<String>,
    /// Of `shell.exec`, by id.
    pub commands: BTreeMap<String, Command>,
    /// What is said of MCP servers beside their own file.
    pub servers: BTreeMap<String, Server>,
}

/// What the operator says of an MCP server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Server {
    /// Its own word on what its tools do (`readOnlyHint`, `idempotentHint`) counts.
    pub trusted: bool,
}

impl Operator {
    /// Reads these tables of a parsed `ordinaut.toml`.
    ///
    /// # Errors
    /// Every mistake. None quotes a credential.
    pub fn read(file: &Map<String, Value>) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut operator = Self::default();
        each(file, "channels", is_name, &mut faults, |name, fields| {
            operator.channels.extend(Some(name.to_owned()).zip(channel::read(fields)));
        });
        let mut defaults = Vec::new();
        each(file, "llm", is_name, &mut faults, |name, fields| {
            if let Some((model, is_default)) = model::read(fields) {
                defaults.extend(is_default.then(|| name.to_owned()));
                operator.models.insert(name.to_owned(), model);
            }
        });
        each(file, "shell", is_name, &mut faults, |name, fields| {
            operator.commands.extend(Some(name.to_owned()).zip(command::read(fields)));
        });
        each(file, "servers", is_server, &mut faults, |name, mut fields| {
            let trusted = fields.flag("trusted").unwrap_or_default();
            fields.finish("a server", &[("trust", "trusted")]);
            operator.servers.insert(name.to_owned(), Server { trusted });
        });
        if defaults.len() > 1 {
            let names = defaults.join(", ");
            faults.add("$.llm", FaultCode::InvalidValue, format!("one model is the default, not several: {names}"));
        }
        // The only one needs no word.
        let only = || operator.models.keys().next().filter(|_| operator.models.len() == 1).cloned();
        operator.default_model = defaults.pop().or_else(only);
        faults.or(operator)
    }

    /// What definitions may name: names and kinds, never addresses or credentials.
    pub fn offered(&self) -> Offered {
        let channels = self.channels.iter().map(|(name, channel)| (name.clone(), channel.kind().as_str().to_owned()));
        let models = self.models.iter().map(|(name, model)| (name.clone(), model.model.clone()));
        let tariffs = self.models.iter().filter_map(|(name, model)| Some((name.clone(), model.tariff()?)));
        let commands = self.commands.iter().map(|(id, command)| (id.clone(), command.about()));
        let takes = self.commands.iter().map(|(id, command)| (id.clone(), command.takes()));
        Offered {
            channels: channels.collect(),
            models: models.collect(),
            tariffs: tariffs.collect(),
            default_model: self.default_model.clone(),
            commands: commands.collect(),
            takes: takes.collect(),
            ..Offered::default()
        }
    }
}

/// Reads every `[<table>.<name>]`.
fn each(
    file: &Map<String, Value>,
    table: &str,
    is_good: fn(&str) -> Result<(), &'static str>,
    faults: &mut Faults,
    mut read: impl FnMut(&str, Fields<'_, '_>),
) {
    let path = child("$", table);
    let entries = match file.get(table) {
        None => return,
        Some(Value::Object(entries)) => entries,
        Some(other) => {
            let message =
                format!("`{table}` holds one table for each name, `[{table}.<name>]`; it is {}", shape(other));
            return faults.add(path, FaultCode::WrongType, message);
        }
    };
    for (name, entry) in entries {
        let at = child(&path, name);
        if let Err(why) = is_good(name) {
            faults.add(&at, FaultCode::InvalidValue, format!("`{name}` cannot be a name here: {why}"));
        }
        match entry {
            Value::Object(map) => read(name, Fields::new(map, at, faults)),
            other => faults.add(at, FaultCode::WrongType, format!("it must be a table, not {}", shape(other))),
        }
    }
}

/// What a value is, without its text: it may be a credential in the wrong place.
fn shape(value: &Value) -> String {
    match value {
        Value::String(_) => "a text".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        other => kind_of(other),
    }
}

/// `[a-z][a-z0-9_-]*`, as channels, models and commands are named.
fn is_name(name: &str) -> Result<(), &'static str> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    let goes_on = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
    if !starts || !goes_on {
        return Err("names are lower-case letters, digits, `_` and `-`, and begin with a letter");
    }
    if name.len() > 64 { Err("names have at most 64 letters") } else { Ok(()) }
}

/// As the file of MCP servers allows them.
fn is_server(name: &str) -> Result<(), &'static str> {
    if FAMILIES.contains(&name) {
        return Err("it is the name of a family of built-in actions");
    }
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_plain { Ok(()) } else { Err("names of servers are letters, digits, `_` and `-`") }
}

/// Every mistake as a line of its own, in the words of the file: `channels.ops.host: …`.
pub fn told(faults: &Faults) -> Vec<String> {
    faults
        .as_slice()
        .iter()
        .map(|fault| {
            let text = fault.to_string();
            text.strip_prefix("$.").map_or_else(|| text.clone(), str::to_owned)
        })
        .collect()
}
