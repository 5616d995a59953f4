//! `[channels.<name>]`: where `notify.send` may send, each kind with its own fields.

use std::collections::BTreeMap;

use serde_json::Value;
use url::Url;

use super::credential::{Credential, endpoint, read as read_credential, read_url};
use crate::{
    fault::{FaultCode, child},
    fields::Fields,
    run::text_enum,
};

const TELEGRAM: &str = "https://api.telegram.org";
const NTFY: &str = "https://ntfy.sh";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    Email(Email),
    /// An incoming webhook.
    Slack {
        url: Credential,
    },
    /// A webhook.
    Discord {
        url: Credential,
    },
    /// A bot.
    Telegram {
        token: Credential,
        chat_id: String,
        base_url: Url,
    },
    Ntfy {
        base_url: Url,
        topic: String,
        token: Option<Credential>,
    },
    Webhook {
        url: Credential,
        headers: BTreeMap<String, Credential>,
    },
    /// This machine's own.
    Desktop,
    /// The agent's own.
    Inbox,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub username: Option<String>,
    pub password: Option<Credential>,
    pub from: String,
    /// Never empty.
    pub to: Vec<String>,
}

text_enum! {
    /// How a mail server is spoken to.
    Tls {
        /// In clear at first, then encrypted or not at all.
        StartTls = "starttls",
        /// Encrypted from the start.
        Implicit = "tls",
        /// In clear; without a password, or on this machine.
        None = "none",
    }
}

impl Tls {
    const fn usual_port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

text_enum! {
    /// What a channel is.
    ChannelKind {
        Email = "email",
        Slack = "slack",
        Discord = "discord",
        Telegram = "telegram",
        Ntfy = "ntfy",
        Webhook = "webhook",
        Desktop = "desktop",
        Inbox = "inbox",
    }
}

impl Channel {
    pub const fn kind(&self) -> ChannelKind {
        match self {
            Self::Email(_) => ChannelKind::Email,
            Self::Slack { .. } => ChannelKind::Slack,
            Self::Discord { .. } => ChannelKind::Discord,
            Self::Telegram { .. } => ChannelKind::Telegram,
            Self::Ntfy { .. } => ChannelKind::Ntfy,
            Self::Webhook { .. } => ChannelKind::Webhook,
            Self::Desktop => ChannelKind::Desktop,
            Self::Inbox => ChannelKind::Inbox,
        }
    }
}

pub(super) fn read(mut fields: Fields<'_, '_>) -> Option<Channel> {
    let kinds: Vec<_> = ChannelKind::ALL.iter().map(|kind| kind.as_str()).collect();
    fields.missing("kind", &format!("one of {}", kinds.join(", ")));
    // What it is decides what it has: without it nothing else can be judged.
    let kind = fields.choice("kind", ChannelKind::ALL, ChannelKind::as_str)?;
    let channel = match kind {
        ChannelKind::Email => email(&mut fields).map(Channel::Email),
        ChannelKind::Slack => {
            fields.missing("url", "the incoming webhook's, https://hooks.slack.com/services/…");
            read_url(&mut fields, "url").map(|url| Channel::Slack { url })
        }
        ChannelKind::Discord => {
            fields.missing("url", "the webhook's, https://discord.com/api/webhooks/…");
            read_url(&mut fields, "url").map(|url| Channel::Discord { url })
        }
        ChannelKind::Telegram => telegram(&mut fields),
        ChannelKind::Ntfy => ntfy(&mut fields),
        ChannelKind::Webhook => webhook(&mut fields),
        ChannelKind::Desktop => Some(Channel::Desktop),
        ChannelKind::Inbox => Some(Channel::Inbox),
    };
    fields.finish(
        &format!("a channel of kind {kind}"),
        &[("server", "host"), ("user", "username"), ("chat", "chat_id"), ("webhook_url", "url"), ("recipients", "to")],
    );
    channel
}

fn email(fields: &mut Fields<'_, '_>) -> Option<Email> {
    fields.missing("host", "the mail server that takes messages, such as smtp.example.com");
    fields.missing("from", "the sender's address");
    fields.missing("to", "one address, or a list of them");
    let host = fields.line("host", 253).map(str::to_owned);
    let tls = fields.choice("tls", Tls::ALL, Tls::as_str).unwrap_or(Tls::StartTls);
    let port = fields.count("port", 1..=65535).and_then(|port| u16::try_from(port).ok());
    let username = fields.line("username", 320).map(str::to_owned);
    let password = read_credential(fields, "password");
    if fields.has("username") != fields.has("password") {
        let (there, missing) = if fields.has("username") { ("username", "password") } else { ("password", "username") };
        fields.fault(missing, FaultCode::MissingField, format!("`{missing}` is missing: `{there}` needs it"));
    }
    if tls == Tls::None && password.is_some() && !host.as_deref().is_some_and(is_this_machine) {
        let message = "a password is not sent in clear to another machine: use `starttls` or `tls`";
        fields.fault("tls", FaultCode::InvalidValue, message);
    }
    let from = fields.line("from", 320).map(str::to_owned);
    if from.as_ref().is_some_and(|from| !is_address(from)) {
        fields.fault("from", FaultCode::InvalidValue, "`from` must be an address, such as ordinaut@example.com");
    }
    let to = recipients(fields);
    Some(Email { host: host?, port: port.unwrap_or(tls.usual_port()), tls, username, password, from: from?, to: to? })
}

fn recipients(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let written = match fields.get("to")? {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    let all: Option<Vec<_>> = written.into_iter().map(|it| it.as_str().map(str::trim).map(str::to_owned)).collect();
    let good = all.filter(|all| !all.is_empty() && all.len() <= 50 && all.iter().all(|it| is_address(it)));
    if good.is_none() {
        let message = "`to` must be an address, such as ada@example.com, or a list of 1 to 50 of them";
        fields.fault("to", FaultCode::InvalidValue, message);
    }
    good
}

/// About right; the mail server has the last word.
fn is_address(text: &str) -> bool {
    let inner = text.rsplit_once('<').map_or(text, |(_, inner)| inner.trim_end_matches('>'));
    !text.contains(char::is_control)
        && inner.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !inner.contains(char::is_whitespace) && !domain.contains('@')
        })
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn telegram(fields: &mut Fields<'_, '_>) -> Option<Channel> {
    fields.missing("token", "the bot's, as BotFather gave it");
    fields.missing("chat_id", "the chat's number, or @name of a channel");
    let token = read_credential(fields, "token");
    let chat_id = match fields.get("chat_id") {
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(_) => fields.line("chat_id", 100).map(str::to_owned),
        None => None,
    };
    let base_url = base_url(fields, TELEGRAM);
    Some(Channel::Telegram { token: token?, chat_id: chat_id?, base_url: base_url? })
}

fn ntfy(fields: &mut Fields<'_, '_>) -> Option<Channel> {
    fields.missing("topic", "what the phone is subscribed to; whoever knows it can read along");
    let topic = fields.line("topic", 64).map(str::to_owned);
    let is_plain = |topic: &String| topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if topic.as_ref().is_some_and(|topic| !is_plain(topic)) {
        fields.fault("topic", FaultCode::InvalidValue, "`topic` is letters, digits, `_` and `-`");
    }
    let token = read_credential(fields, "token");
    let base_url = base_url(fields, NTFY);
    Some(Channel::Ntfy { base_url: base_url?, topic: topic.filter(is_plain)?, token })
}

fn base_url(fields: &mut Fields<'_, '_>, usual: &str) -> Option<Url> {
    let written = fields.line("base_url", 2000).unwrap_or(usual);
    endpoint(written).map_err(|why| fields.fault("base_url", FaultCode::InvalidValue, format!("`base_url` {why}"))).ok()
}

fn webhook(fields: &mut Fields<'_, '_>) -> Option<Channel> {
    fields.missing("url", "where the message is posted as JSON");
    let url = read_url(fields, "url");
    let mut headers = BTreeMap::new();
    for (name, value) in fields.object("headers").into_iter().flatten() {
        let is_header = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        let value = value.as_str().map(Credential::parse);
        let at = child(&fields.at("headers"), name);
        match value {
            _ if !is_header => fields.faults.add(at, FaultCode::InvalidValue, "it cannot be the name of a header"),
            Some(Ok(value)) => drop(headers.insert(name.clone(), value)),
            Some(Err(why)) => fields.faults.add(at, FaultCode::InvalidValue, why),
            None => fields.faults.add(at, FaultCode::WrongType, "the value of a header must be a text (in quotes)"),
        }
    }
    Some(Channel::Webhook { url: url?, headers })
}
