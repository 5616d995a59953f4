//! `server`: MCP servers whose tools steps may use. Edits the file that has the shape of Claude Desktop's.

mod diff;
mod pins;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use ordinaut_schema::{action::FAMILIES, visible::visible};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};
use toml_edit::{Table, value};

use crate::{
    config::Config,
    credential::ask,
    failure::{Exit, Failure},
    operator_file::{OperatorFile, read, replace},
    out::{Out, note},
    session::Session,
};

/// `npx` downloads first.
const SEEN_LIMIT: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(300);

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Add a server, by its command (after `--`) or its URL; credentials are asked for, or read from stdin
    Add(Add),
    /// List servers, with what executors saw of them
    List,
    /// Wait until an executor has asked a server for its tools, and show them
    Test { name: String },
    /// Show a server's tools as they were accepted, and in what they differ from that now
    Show(pins::Show),
    /// Accept tools that changed, as they are shown
    Accept(pins::Accept),
    /// Believe a server's tools when they say that they change nothing, or that a repeat does no harm
    Trust { name: String },
    /// Believe them no more
    Untrust { name: String },
    /// Remove a server
    Remove { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The first part of what steps use: `github` in `github.create_issue`
    name: String,
    /// Of a server that speaks Streamable HTTP
    #[arg(long, conflicts_with_all = ["command", "env"])]
    url: Option<String>,
    /// A header for the URL, whose value is asked for; may be given more than once
    #[arg(long, value_name = "NAME", requires = "url")]
    header: Vec<String>,
    /// A variable for the command, whose value is asked for; may be given more than once
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
    /// Believe its tools when they say that they change nothing, or that a repeat does no harm
    #[arg(long)]
    trust: bool,
    /// Take the place of a server of that name
    #[arg(long)]
    replace: bool,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "url")]
    command: Vec<String>,
}

pub(crate) async fn server(config: &Config, agent: Option<&str>, verb: &Server, out: Out) -> Result<(), Failure> {
    match verb {
        Server::Add(options) => add(config, options, out),
        Server::List => list(config, agent, out).await,
        Server::Test { name } => test(config, agent, name, out).await,
        Server::Show(options) => pins::show(config, agent, options, out).await,
        Server::Accept(options) => pins::accept(config, agent, options, out).await,
        Server::Trust { name } => set_trust(config, name, true, out),
        Server::Untrust { name } => set_trust(config, name, false, out),
        Server::Remove { name } => remove(config, name, out),
    }
}

/// The file, with everything in it that is not ours to know.
struct ServerFile {
    path: PathBuf,
    before: Option<String>,
    file: Map<String, Value>,
}

impl ServerFile {
    fn open(config: &Config) -> Result<Self, Failure> {
        let path = config.mcp_servers.clone();
        let before = read(&path)?;
        let text = before.as_deref().map(str::trim).filter(|text| !text.is_empty()).unwrap_or("{}");
        // The parser's own words quote nothing, and name the place.
        let file: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            Failure::new(Exit::Refused, format!("{} is no JSON object: {error}", path.display()))
                .mend("mend it by hand; nothing was written")
        })?;
        Ok(Self { path, before, file })
    }

    fn servers(&mut self) -> Result<&mut Map<String, Value>, Failure> {
        let path = self.path.display().to_string();
        let servers = self.file.entry("mcpServers").or_insert_with(|| json!({}));
        servers.as_object_mut().ok_or_else(|| {
            Failure::new(Exit::Refused, format!("{path}: `mcpServers` is no object; nothing was written"))
        })
    }

    fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.file).expect("JSON has string keys") + "\n";
        replace(&self.path, self.before.as_deref(), &text)
    }
}

fn add(config: &Config, options: &Add, out: Out) -> Result<(), Failure> {
    let name = &options.name;
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if !is_plain || FAMILIES.contains(&name.as_str()) {
        return Err(Failure::new(Exit::Refused, format!("`{name}` cannot name a server"))
            .mend("letters, digits, `_` and `-`, and no family of built-in actions such as `http`"));
    }
    let mut file = ServerFile::open(config)?;
    if file.servers()?.contains_key(name) && !options.replace {
        return Err(Failure::new(Exit::Refused, format!("there is a server `{name}`"))
            .mend("choose another name, or say --replace; nothing was written"));
    }
    let asked = |names: &[String], what: &str| -> Result<Map<String, Value>, Failure> {
        names.iter().map(|name| Ok((name.clone(), Value::from(ask(&format!("{what} {name}"), None)?)))).collect()
    };
    let mut entry = Map::new();
    if let Some(url) = &options.url {
        entry.insert("type".to_owned(), json!("http"));
        entry.insert("url".to_owned(), json!(url));
        if !options.header.is_empty() {
            entry.insert("headers".to_owned(), Value::Object(asked(&options.header, "header")?));
        }
    } else if let Some((program, arguments)) = options.command.split_first() {
        entry.insert("command".to_owned(), json!(program));
        entry.insert("args".to_owned(), json!(arguments));
        if !options.env.is_empty() {
            entry.insert("env".to_owned(), Value::Object(asked(&options.env, "variable")?));
        }
    }
    file.servers()?.insert(name.clone(), Value::Object(entry));
    file.write()?;
    if options.trust {
        write_trust(config, name, true)?;
    }
    if out.is_json() {
        return out.json(&json!({ "name": name, "file": file.path.display().to_string() }));
    }
    note(format!("{} was written; executors read it within five seconds", file.path.display()));
    out.line(format!("server `{name}`; `ordinaut server test {name}` shows its tools"))
}

fn write_trust(config: &Config, name: &str, trusted: bool) -> Result<(), Failure> {
    let mut tables = OperatorFile::open(&config.layout.config_file.path)?;
    if trusted {
        let mut entry = Table::new();
        entry.insert("trusted", value(true));
        tables.put("servers", name, entry)?;
    } else {
        tables.remove("servers", name);
    }
    tables.write()
}

fn set_trust(config: &Config, name: &str, trusted: bool, out: Out) -> Result<(), Failure> {
    if !ServerFile::open(config)?.servers()?.contains_key(name) {
        return Err(no_server(name));
    }
    write_trust(config, name, trusted)?;
    if out.is_json() {
        return out.json(&json!({ "name": name, "trusted": trusted }));
    }
    note(format!("{} was written; executors read it within five seconds", config.layout.config_file.path.display()));
    out.line(if trusted {
        format!("server `{name}` is trusted: a tool that says it may be repeated is, after an unknown outcome")
    } else {
        format!("server `{name}` is not trusted: no call of its tools is repeated after an unknown outcome")
    })
}

fn no_server(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no server `{name}`; `ordinaut server list` lists them"))
}

fn remove(config: &Config, name: &str, out: Out) -> Result<(), Failure> {
    let mut file = ServerFile::open(config)?;
    if file.servers()?.shift_remove(name).is_none() {
        return Err(Failure::new(Exit::NotFound, format!("there is no server `{name}` in {}", file.path.display())));
    }
    file.write()?;
    let mut tables = OperatorFile::open(&config.layout.config_file.path)?;
    // A server of the same name that comes later is another one.
    if tables.remove("servers", name) {
        tables.write()?;
    }
    if out.is_json() {
        return out.json(&json!({ "name": name, "removed": true }));
    }
    out.line(format!("server `{name}` is removed; steps that use its tools fail from now on"))
}

async fn list(config: &Config, agent: Option<&str>, out: Out) -> Result<(), Failure> {
    let mut file = ServerFile::open(config)?;
    let seen = match Session::open_running(config, agent).await {
        Ok(session) => session.store.list_servers().await?,
        Err(_not_running) => Vec::new(),
    };
    let tables = OperatorFile::open(&config.layout.config_file.path)?.operator()?;
    let servers: Vec<_> = file
        .servers()?
        .iter()
        .map(|(name, entry)| {
            let how = entry.get("url").or_else(|| entry.get("command")).and_then(Value::as_str).unwrap_or("?");
            let seen = seen.iter().find(|it| it.name == *name);
            let state = match seen {
                Some(seen) if seen.error.is_some() => seen.error.clone().unwrap_or_default(),
                Some(seen) if seen.seen_at.is_some() => format!("{} tools", seen.tools),
                _ => "not seen yet".to_owned(),
            };
            let changed: Vec<_> = seen.iter().flat_map(|it| &it.changed).map(|tool| visible(tool)).collect();
            let trusted = tables.servers.get(name).is_some_and(|server| server.trusted);
            (name.clone(), how.to_owned(), trusted, state, changed)
        })
        .collect();
    if out.is_json() {
        let all: Vec<_> = servers
            .iter()
            .map(|(name, how, trusted, state, changed)| {
                json!({ "name": name, "at": how, "trusted": trusted, "state": state, "changed": changed })
            })
            .collect();
        return out.json(&all);
    }
    let row = |(name, how, trusted, state, changed): (String, String, bool, String, Vec<String>)| {
        let state = if changed.is_empty() {
            state
        } else {
            format!("{state}; changed: {} (`ordinaut server accept {name}`)", changed.join(", "))
        };
        vec![name, how, if trusted { "yes" } else { "no" }.to_owned(), state]
    };
    let rows = servers.into_iter().map(row).collect();
    out.table(&["SERVER", "AT", "TRUSTED", "STATE"], rows, "no server; `ordinaut server add` adds one")
}

async fn test(config: &Config, agent: Option<&str>, name: &str, out: Out) -> Result<(), Failure> {
    if !ServerFile::open(config)?.servers()?.contains_key(name) {
        return Err(no_server(name));
    }
    let session = Session::open(config, agent).await?;
    let deadline = Instant::now() + SEEN_LIMIT;
    loop {
        let servers = session.store.list_servers().await?;
        match servers.iter().find(|it| it.name == name) {
            Some(found) if found.error.is_some() => {
                let why = found.error.clone().unwrap_or_default();
                return Err(Failure::new(Exit::Failed, format!("server `{name}` cannot be used: {why}")));
            }
            Some(found) if found.seen_at.is_some() => break,
            _ if Instant::now() >= deadline => {
                return Err(Failure::new(Exit::TimedOut, format!("no executor has seen the server `{name}`"))
                    .mend("the executor's log says why; `ordinaut doctor` says whether one runs"));
            }
            _ => sleep(LOOK_AGAIN).await,
        }
    }
    let catalogue = session.store.catalogue(&session.caller).await?;
    let prefix = format!("{name}.");
    let tools: Vec<_> = catalogue.tools.values().filter(|tool| tool.name.starts_with(&prefix)).collect();
    if out.is_json() {
        return out
            .json(&tools.iter().map(|it| json!({ "name": it.name, "sentence": it.sentence })).collect::<Vec<_>>());
    }
    let rows = tools.iter().map(|it| vec![it.name.clone(), crate::out::cut(&it.sentence, 80)]).collect();
    out.table(&["TOOL", "WHAT IT DOES"], rows, "the server answers, and has no tools")
}
