//! `channel`: where `notify.send` may send. Edits `ordinaut.toml`, which executors read again within five seconds.

use clap::{Args, Subcommand};
use ordinaut_schema::operator::ChannelKind;
use serde_json::json;
use toml_edit::{Array, InlineTable, Table, Value, value};

use crate::{
    config::Config,
    credential::ask,
    failure::{Exit, Failure},
    operator_file::OperatorFile,
    out::{Out, note},
    session::Session,
    trial,
};

const TABLE: &str = "channels";

#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// Add a channel; its credential is asked for, or read from stdin
    Add(Box<Add>),
    /// List channels
    List,
    /// Send a message through a channel, as a step would
    Test { name: String },
    /// Remove a channel
    Remove { name: String },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// What steps call it: lower-case letters, digits, `_` and `-`; `me` redirects the channel that always exists
    name: String,
    #[arg(value_parser = ChannelKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())]
    kind: String,
    /// Take the place of a channel of that name
    #[arg(long)]
    replace: bool,
    /// Write a reference to this secret instead of asking for the credential
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// email: the mail server
    #[arg(long)]
    host: Option<String>,
    /// email: 587, 465 or 25 by default
    #[arg(long)]
    port: Option<u16>,
    /// email: starttls (the default), tls or none
    #[arg(long)]
    tls: Option<String>,
    /// email: asks for a password too
    #[arg(long)]
    username: Option<String>,
    /// email: the sender
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// email: a recipient; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// telegram: the chat's number, or @name of a channel
    #[arg(long, allow_hyphen_values = true)]
    chat_id: Option<String>,
    /// ntfy: what the phone is subscribed to
    #[arg(long)]
    topic: Option<String>,
    /// ntfy: asks for an access token
    #[arg(long)]
    token: bool,
    /// telegram, ntfy: a server of one's own
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// webhook: a header, whose value is asked for; may be given more than once
    #[arg(long, value_name = "NAME")]
    header: Vec<String>,
}

pub(crate) async fn channel(config: &Config, agent: Option<&str>, verb: &Channel, out: Out) -> Result<(), Failure> {
    match verb {
        Channel::Add(options) => add(config, options, out),
        Channel::List => list(config, out),
        Channel::Remove { name } => remove(config, TABLE, "channel", name, out),
        Channel::Test { name } => {
            let file = OperatorFile::open(&config.layout.config_file.path)?.operator()?;
            if name != "me" && !file.channels.contains_key(name) {
                return Err(unknown("channel", name, file.channels.keys()));
            }
            let session = Session::open(config, agent).await?;
            if file.channels.contains_key(name) {
                trial::offered(&session, |offered| offered.channels.contains_key(name)).await?;
            }
            let text = "A test of this channel, asked for on the command line. Nothing is to be done.";
            let with = json!({ "channel": name, "title": "Ordinaut", "text": text });
            trial::step(&session, "notify.send", &with, &format!("Test of the channel {name}"), out).await
        }
    }
}

fn add(config: &Config, options: &Add, out: Out) -> Result<(), Failure> {
    let mut file = OperatorFile::open(&config.layout.config_file.path)?;
    refuse_taken(&file, TABLE, "channel", &options.name, options.replace)?;
    let mut entry = Table::new();
    entry.insert("kind", value(&options.kind));
    let texts = [
        ("host", &options.host),
        ("tls", &options.tls),
        ("username", &options.username),
        ("from", &options.from),
        ("chat_id", &options.chat_id),
        ("topic", &options.topic),
        ("base_url", &options.base_url),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            entry.insert(field, value(text));
        }
    }
    if let Some(port) = options.port {
        entry.insert("port", value(i64::from(port)));
    }
    if !options.to.is_empty() {
        entry.insert("to", value(options.to.iter().collect::<Array>()));
    }
    let secret = options.secret.as_deref();
    let asked = match ChannelKind::from_text(&options.kind) {
        Some(ChannelKind::Email) if options.username.is_some() => Some(("password", "password")),
        Some(ChannelKind::Slack | ChannelKind::Discord) => Some(("url", "the webhook's URL")),
        Some(ChannelKind::Webhook) => Some(("url", "URL")),
        Some(ChannelKind::Telegram) => Some(("token", "the bot's token")),
        Some(ChannelKind::Ntfy) if options.token => Some(("token", "access token")),
        _ => None,
    };
    if let Some((field, what)) = asked {
        // A header holds the secret of a webhook that has one; its URL is then no secret.
        let secret = secret.filter(|_| options.header.is_empty());
        entry.insert(field, value(ask(what, secret)?));
    }
    if !options.header.is_empty() {
        let mut headers = InlineTable::new();
        for name in &options.header {
            headers.insert(name, Value::from(ask(&format!("header {name}"), secret)?));
        }
        entry.insert("headers", value(headers));
    }
    file.put(TABLE, &options.name, entry)?;
    file.write()?;
    written(config, "channel", &options.name, out)
}

fn list(config: &Config, out: Out) -> Result<(), Failure> {
    let operator = OperatorFile::open(&config.layout.config_file.path)?.operator()?;
    let mut channels: Vec<_> = operator.channels.iter().map(|(name, it)| (name.as_str(), it.kind().as_str())).collect();
    if !operator.channels.contains_key("me") {
        channels.insert(0, ("me", "inbox and desktop, until redirected"));
    }
    if out.is_json() {
        return out
            .json(&channels.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect::<Vec<_>>());
    }
    let rows = channels.into_iter().map(|(name, kind)| vec![name.to_owned(), kind.to_owned()]).collect();
    out.table(&["CHANNEL", "KIND"], rows, "no channel")
}

/// Refuses a name that is taken, unless it is to be replaced.
pub(crate) fn refuse_taken(
    file: &OperatorFile,
    table: &str,
    what: &str,
    name: &str,
    replace: bool,
) -> Result<(), Failure> {
    if replace || !file.has(table, name) {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("there is a {what} `{name}`"))
        .mend("choose another name, or say --replace; nothing was written"))
}

pub(crate) fn written(config: &Config, what: &str, name: &str, out: Out) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(&json!({ "name": name, "file": config.layout.config_file.path.display().to_string() }));
    }
    note(format!("{} was written; executors read it within five seconds", config.layout.config_file.path.display()));
    let verb = if what == "channel" { "channel" } else { "llm" };
    out.line(format!("{what} `{name}`; try it with `ordinaut {verb} test {name}`"))
}

pub(crate) fn remove(config: &Config, table: &str, what: &str, name: &str, out: Out) -> Result<(), Failure> {
    let mut file = OperatorFile::open(&config.layout.config_file.path)?;
    if !file.remove(table, name) {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no {what} `{name}` in {}", config.layout.config_file.path.display()),
        ));
    }
    file.write()?;
    if out.is_json() {
        return out.json(&json!({ "name": name, "removed": true }));
    }
    out.line(format!("{what} `{name}` is removed; steps that name it fail from now on"))
}

pub(crate) fn unknown<'a>(what: &str, name: &str, there: impl Iterator<Item = &'a String>) -> Failure {
    let there: Vec<_> = there.map(String::as_str).collect();
    let known = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Failure::new(Exit::NotFound, format!("there is no {what} `{name}`; configured: {known}"))
}
