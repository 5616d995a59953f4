//! `secret`: credentials that steps and the configuration name and never hold. A value comes in by standard input or a
//! prompt without echo, and never goes out again.

use std::io::{self, IsTerminal as _, Read as _};

use clap::{Args, Subcommand};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use ordinaut_schema::secret::MOST_BYTES;
use ordinaut_store::secrets::{Bindings, SecretError, SecretRecord, SecretVault};
use serde_json::{Value, json};

use crate::{
    config::Config,
    failure::{Exit, Failure},
    out::{Out, note},
    session::Session,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Keep a secret; its value is read from standard input, or asked for
    Set(Set),
    /// List secrets with what they are bound to; never their values
    List,
    /// Forget a secret; steps that name it are denied from then on
    Delete { name: String },
    /// Encrypt every secret with a new key
    Rotate,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// What `${secrets.NAME}` calls it
    name: String,
    /// A host that requests may carry it to: api.example.com, api.example.com:8443, *.example.com; may be repeated
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// An MCP server whose `env` or `headers` may name it; may be repeated
    #[arg(long, value_name = "SERVER")]
    server: Vec<String>,
    /// A channel whose settings may name it; may be repeated
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
}

impl Set {
    /// What can be judged without the value and the database.
    pub(crate) fn bindings(&self) -> Result<Option<Bindings>, Failure> {
        let is_bound = !(self.host.is_empty() && self.server.is_empty() && self.channel.is_empty());
        Ok(is_bound.then(|| Bindings::new(&self.host, &self.server, &self.channel)).transpose()?)
    }
}

pub(crate) async fn secret(session: &Session, config: &Config, verb: &Secret, out: Out) -> Result<(), Failure> {
    let store = &session.store;
    if config.keys_are_ignored {
        note(
            "ordinaut: the embedded set does not read ORDINAUT_SECRET_KEY and ORDINAUT_SECRET_KEY_FILE; name a file as \
              `secret_key_file` in ordinaut.toml instead",
        );
    }
    match verb {
        Secret::Set(options) => set(session, config, options, out).await,
        Secret::List => list(&store.list_secrets().await?, out),
        Secret::Delete { name } => {
            if !store.delete_secret(name).await? {
                let known = store.list_secrets().await?.into_iter().map(|secret| secret.name).collect();
                return Err(SecretError::Unknown { secret: name.clone(), known }.into());
            }
            if out.is_json() {
                return out.json(&json!({ "name": name, "deleted": true }));
            }
            out.line(format!("secret `{name}` is forgotten; steps that name it are denied"))
        }
        Secret::Rotate => {
            let (key, count) = SecretVault::new(store.clone(), config.keys.clone()).rotate().await?;
            if out.is_json() {
                return out.json(&json!({ "key": key, "secrets": count }));
            }
            let s = if count == 1 { "" } else { "s" };
            out.line(format!(
                "{count} secret{s} encrypted anew, with the key {key}; a backup made before needs the former key"
            ))
        }
    }
}

async fn set(session: &Session, config: &Config, options: &Set, out: Out) -> Result<(), Failure> {
    let bindings = options.bindings()?;
    let value = read_value(&options.name)?;
    // A key is made for the embedded set only: elsewhere every executor has to be given the same one.
    let keys = if config.database_url.is_none() { config.keys.read_or_make()? } else { config.keys.read()? };
    let (is_new, bindings) = session.store.set_secret(&keys, &options.name, &value, bindings).await?;
    if out.is_json() {
        let mut told = told(&options.name, &bindings);
        told["created"] = json!(is_new);
        return out.json(&told);
    }
    let verb = if is_new { "is kept" } else { "has a new value" };
    out.line(format!("secret `{}` {verb}, bound to {}", options.name, described(&bindings)))?;
    if !bindings.hosts().is_empty() {
        out.line(format!(
            "steps name it as ${{secrets.{}}} in headers, query and body of http.*; agents other than the local one need \
             `agent add … --secret {}`",
            options.name, options.name
        ))?;
    }
    Ok(())
}

fn list(secrets: &[SecretRecord], out: Out) -> Result<(), Failure> {
    if out.is_json() {
        let all: Vec<_> = secrets
            .iter()
            .map(|secret| {
                let mut told = told(&secret.name, &secret.bindings);
                told["key"] = json!(secret.key_id);
                told["created_at"] = json!(secret.created_at);
                told["updated_at"] = json!(secret.updated_at);
                told
            })
            .collect();
        return out.json(&all);
    }
    let rows = secrets.iter().map(|secret| {
        let bindings = &secret.bindings;
        vec![
            secret.name.clone(),
            bindings.hosts().join(", "),
            bindings.servers().join(", "),
            bindings.channels().join(", "),
            secret.updated_at.strftime("%F").to_string(),
        ]
    });
    out.table(&["NAME", "HOSTS", "SERVERS", "CHANNELS", "SET ON"], rows.collect(), "no secret")
}

fn told(name: &str, bindings: &Bindings) -> Value {
    json!({ "name": name, "hosts": bindings.hosts(), "servers": bindings.servers(), "channels": bindings.channels() })
}

fn described(bindings: &Bindings) -> String {
    let parts = [("", bindings.hosts()), ("the server ", bindings.servers()), ("the channel ", bindings.channels())];
    let parts: Vec<_> =
        parts.iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind}{name}"))).collect();
    parts.join(", ")
}

/// The value, without the newline that an editor or `echo` puts behind it.
fn read_value(name: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("could not read the value: {error}"));
    if io::stdin().is_terminal() {
        return prompt(name).map_err(failed);
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX) + 2;
    io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(failed)?;
    let mut value = String::from_utf8(bytes).map_err(|_| {
        Failure::new(Exit::Refused, "the value is not UTF-8 text").mend("encode it, in base64 for example")
    })?;
    if value.ends_with('\n') {
        value.truncate(value.len() - if value.ends_with("\r\n") { 2 } else { 1 });
        note("ordinaut: the newline at the end of the value was left out");
    }
    Ok(value)
}

fn prompt(name: &str) -> io::Result<String> {
    note(format!("Value of {name} (it is not shown):"));
    let _silent = Silent::begin()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\n', '\r']).len());
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent(Termios);

impl Silent {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}
