//! Opening secrets, for whoever sends a call or starts a server. Values live as long as what is returned here.

use std::{collections::BTreeSet, fmt, sync::Arc};

use ordinaut_schema::secret::{Configured, HostPattern, Redactor, configured};
use url::Url;
use zeroize::Zeroizing;

use crate::Store;

use super::{Bindings, KeySource, SecretError, seal};

/// What a secret is to be used for.
#[derive(Debug, Clone, Copy)]
pub enum For<'a> {
    /// A request to this URL, of a step or to a model.
    Request(&'a Url),
    /// The configuration of an MCP server.
    Server(&'a str),
    /// The configuration of a channel.
    Channel(&'a str),
}

impl fmt::Display for For<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(url) => {
                // Host and port only: the rest may hold credentials.
                write!(f, "a request to {}", &url[url::Position::BeforeHost..url::Position::AfterPort])
            }
            Self::Server(name) => write!(f, "the MCP server `{name}`"),
            Self::Channel(name) => write!(f, "the channel `{name}`"),
        }
    }
}

/// A secret with its value in clear. `Debug` hides it; it is wiped when it is dropped.
#[derive(Clone)]
pub struct OpenSecret {
    name: String,
    value: Zeroizing<String>,
    bindings: Bindings,
}

impl fmt::Debug for OpenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

impl OpenSecret {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// Takes the values of these secrets out of what comes back from a call.
    pub fn redactor(secrets: &[Self]) -> Redactor {
        Redactor::new(secrets.iter().map(|secret| (secret.name(), secret.value())))
    }

    /// Whether its bindings allow this use.
    pub fn is_bound_to(&self, whom: For<'_>) -> bool {
        is_bound(&self.bindings, whom)
    }
}

fn is_bound(bindings: &Bindings, whom: For<'_>) -> bool {
    match whom {
        For::Request(url) => {
            bindings.hosts.iter().any(|host| host.parse().is_ok_and(|host: HostPattern| host.covers(url)))
        }
        For::Server(name) => bindings.servers.iter().any(|server| server == name),
        For::Channel(name) => bindings.channels.iter().any(|channel| channel == name),
    }
}

fn described(bindings: &Bindings) -> String {
    let parts = [("", &bindings.hosts), ("the server ", &bindings.servers), ("the channel ", &bindings.channels)];
    let parts: Vec<_> =
        parts.iter().flat_map(|(kind, names)| names.iter().map(move |it| format!("{kind}{it}"))).collect();
    parts.join(", ")
}

/// A text of the configuration with its secrets in place. `Debug` hides it.
#[derive(Clone, Default)]
pub struct Resolved {
    text: Zeroizing<String>,
    secrets: Vec<OpenSecret>,
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

impl Resolved {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The secrets in it, for a [`Redactor`] of what comes back.
    pub fn secrets(&self) -> &[OpenSecret] {
        &self.secrets
    }
}

/// Where secrets are kept, and the keys they open with.
#[derive(Debug, Clone)]
pub struct SecretVault {
    store: Store,
    keys: Arc<KeySource>,
}

impl SecretVault {
    pub fn new(store: Store, keys: KeySource) -> Self {
        Self { store, keys: Arc::new(keys) }
    }

    /// Opens secrets for one use.
    ///
    /// # Errors
    /// One does not exist, is not bound to this use (then none is opened), or does not open.
    pub async fn open(&self, names: &BTreeSet<String>, whom: For<'_>) -> Result<Vec<OpenSecret>, SecretError> {
        match self.open_once(names, whom).await {
            // Between reading the row and reading the key, both may have been renewed.
            Err(SecretError::OtherKey { .. }) => self.open_once(names, whom).await,
            opened => opened,
        }
    }

    async fn open_once(&self, names: &BTreeSet<String>, whom: For<'_>) -> Result<Vec<OpenSecret>, SecretError> {
        let wanted: Vec<String> = names.iter().cloned().collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.store.sealed_secrets(&wanted).await?;
        if let Some(missing) = names.iter().find(|name| !rows.iter().any(|row| row.name == **name)) {
            let known = self.store.list_secrets().await?.into_iter().map(|secret| secret.name).collect();
            return Err(SecretError::Unknown { secret: missing.clone(), known });
        }
        if let Some(row) = rows.iter().find(|row| !is_bound(&row.bindings, whom)) {
            return Err(SecretError::NotBound {
                secret: row.name.clone(),
                whom: whom.to_string(),
                bound: described(&row.bindings),
            });
        }
        let keys = self.keys.read()?;
        rows.into_iter()
            .map(|row| {
                let value = seal::open(&keys, &row)?;
                Ok(OpenSecret { name: row.name, value, bindings: row.bindings })
            })
            .collect()
    }

    /// Puts secrets in the place of `${secrets.NAME}` in a value of the operator's configuration. A text without any
    /// is answered as it is, without asking anybody.
    ///
    /// # Errors
    /// As [`SecretVault::open`].
    ///
    /// # Panics
    /// Never: every secret that was asked for is opened, or an error is answered.
    pub async fn resolve_text(&self, text: &str, whom: For<'_>) -> Result<Resolved, SecretError> {
        let parts = configured(text);
        let names = parts.iter().filter_map(|part| match part {
            Configured::Text(_) => None,
            Configured::Secret(name) => Some((*name).to_owned()),
        });
        let secrets = self.open(&names.collect(), whom).await?;
        let mut resolved = Zeroizing::new(String::new());
        for part in parts {
            match part {
                Configured::Text(text) => resolved.push_str(text),
                Configured::Secret(name) => {
                    let found = secrets.iter().find(|secret| secret.name == name);
                    // Whatever was asked for was opened, or an error answered.
                    resolved.push_str(found.map_or("", OpenSecret::value));
                }
            }
        }
        Ok(Resolved { text: resolved, secrets })
    }

    /// Encrypts everything with a new key: one that is made where keys are in a file, else the first of those that the
    /// operator wrote. Answers the key's id, and how many secrets were encrypted anew.
    ///
    /// # Errors
    /// A secret opens with none of the keys: then all stay as they are, and so do the keys.
    pub async fn rotate(&self) -> Result<(String, usize), SecretError> {
        let keys = self.keys.read()?;
        if keys.has_former() {
            // Written by the operator, or left by a rotation that was cut short: either way the first is the new one.
            let count = self.store.reseal_secrets(&keys).await?;
            return Ok((keys.first().id().to_owned(), count));
        }
        let retire = self.keys.add_key()?;
        let keys = self.keys.read()?;
        let count = self.store.reseal_secrets(&keys).await?;
        retire.former_keys()?;
        Ok((keys.first().id().to_owned(), count))
    }
}
