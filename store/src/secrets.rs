//! Secrets: what they are called and bound to, their encrypted values, and the verbs of the operator.
//!
//! - `key`: where keys come from, and the file that is made for an embedded set
//! - `seal`: encryption, with name and bindings authenticated
//! - `vault`: opening, for whoever sends a call, and binding checks
//!
//! The operator's verbs work in the executors' role. The MCP role sees names and hosts, never a ciphertext.

mod error;
mod key;
mod seal;
mod vault;

use std::collections::BTreeMap;

use jiff::Timestamp;
use ordinaut_schema::secret::{HostPattern, LEAST_CHARS, MOST_BYTES, is_name};
use serde_json::json;
use sqlx::{Postgres, Transaction};

use crate::{Caller, Store, StoreError, audit::audit, error::Doing as _, unanswered::Within as _};

pub use error::SecretError;
pub use key::{KeyRing, KeySource};
use seal::Sealed;
pub use vault::{For, OpenSecret, Resolved, SecretVault};

/// Where a secret may be used. Each list is sorted and without repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    hosts: Vec<String>,
    servers: Vec<String>,
    channels: Vec<String>,
}

impl Bindings {
    /// # Errors
    /// A host is none, a name is empty, or there is nothing at all.
    pub fn new(hosts: &[String], servers: &[String], channels: &[String]) -> Result<Self, SecretError> {
        let mut patterns = Vec::new();
        for host in hosts {
            patterns.push(host.parse::<HostPattern>()?.to_string());
        }
        for name in servers.iter().chain(channels) {
            if name.trim() != name || name.is_empty() {
                return Err(SecretError::BadBinding(name.clone()));
            }
        }
        if patterns.is_empty() && servers.is_empty() && channels.is_empty() {
            return Err(SecretError::Unbound);
        }
        Ok(Self { hosts: sorted(patterns), servers: sorted(servers.to_vec()), channels: sorted(channels.to_vec()) })
    }

    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    pub fn channels(&self) -> &[String] {
        &self.channels
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

/// A secret as the operator sees it.
#[derive(Debug, Clone)]
pub struct SecretRecord {
    pub name: String,
    pub bindings: Bindings,
    /// Which key its value is encrypted with.
    pub key_id: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    /// Keeps a secret, in the place of an earlier one of that name. Without `bindings` those of the earlier one stay.
    /// Answers whether it is new, and what it is bound to.
    ///
    /// # Errors
    /// A name or value that cannot be, or a new secret without bindings.
    pub async fn set_secret(
        &self,
        keys: &KeyRing,
        name: &str,
        value: &str,
        bindings: Option<Bindings>,
    ) -> Result<(bool, Bindings), SecretError> {
        if !is_name(name) {
            return Err(SecretError::BadName(name.to_owned()));
        }
        judge_value(value)?;
        let known = self.sealed_secrets(&[name.to_owned()]).await?.pop();
        let is_new = known.is_none();
        let bindings = bindings.or(known.map(|known| known.bindings)).ok_or(SecretError::Unbound)?;
        let sealed = seal::seal(keys, name, bindings.clone(), value);
        self.transaction("keep a secret", move |mut tx| async move {
            write(&mut tx, &sealed).await?;
            let detail = json!({
                "secret": sealed.name,
                "hosts": sealed.bindings.hosts,
                "servers": sealed.bindings.servers,
                "channels": sealed.bindings.channels,
                "key": sealed.key_id,
            });
            audit(&mut tx, &operator(), "set_secret", None, None, Some(detail)).await?;
            Ok(((), tx))
        })
        .await?;
        Ok((is_new, bindings))
    }

    /// Every secret, in order of name.
    pub async fn list_secrets(&self) -> Result<Vec<SecretRecord>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select name, hosts, servers, channels, key_id, created_at as "created_at: jiff_sqlx::Timestamp",
                updated_at as "updated_at: jiff_sqlx::Timestamp"
            from secret
            order by name
            "#
        )
        .fetch_all(&self.pool)
        .within(self, "list secrets")
        .await?;
        let records = rows.into_iter().map(|row| SecretRecord {
            name: row.name,
            bindings: Bindings { hosts: row.hosts, servers: row.servers, channels: row.channels },
            key_id: row.key_id,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        });
        Ok(records.collect())
    }

    /// Names and hosts, which is what definitions are judged by. Works in both roles.
    pub(crate) async fn offered_secrets(&self) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
        let rows = sqlx::query!("select name, hosts from secret order by name")
            .fetch_all(&self.pool)
            .within(self, "list the names of secrets")
            .await?;
        Ok(rows.into_iter().map(|row| (row.name, row.hosts)).collect())
    }

    /// Forgets a secret; whether there was one.
    pub async fn delete_secret(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.transaction("delete a secret", move |mut tx| async move {
            let gone = sqlx::query!("delete from secret where name = $1", name)
                .execute(&mut *tx)
                .await
                .doing("delete a secret")?
                .rows_affected();
            if gone > 0 {
                audit(&mut tx, &operator(), "delete_secret", None, None, Some(json!({ "secret": name }))).await?;
            }
            Ok((gone > 0, tx))
        })
        .await
    }

    /// Encrypts every secret with the first key that is not so yet; how many.
    ///
    /// # Errors
    /// One of them does not open with any of the keys: then none is changed.
    pub async fn reseal_secrets(&self, keys: &KeyRing) -> Result<usize, SecretError> {
        let mut resealed = Vec::new();
        for sealed in self.all_sealed_secrets().await? {
            if sealed.key_id != keys.first().id() {
                let value = seal::open(keys, &sealed)?;
                resealed.push((sealed.nonce, seal::seal(keys, &sealed.name, sealed.bindings, &value)));
            }
        }
        let key = keys.first().id().to_owned();
        let count = self
            .transaction("encrypt secrets anew", move |mut tx| async move {
                let mut count = 0;
                for (former, sealed) in resealed {
                    // One that was set meanwhile has another nonce, and the newer value stays.
                    count += rewrite(&mut tx, &former, &sealed).await?;
                }
                audit(
                    &mut tx,
                    &operator(),
                    "rotate_secrets",
                    None,
                    None,
                    Some(json!({ "key": key, "secrets": count })),
                )
                .await?;
                Ok((count, tx))
            })
            .await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    async fn sealed_secrets(&self, names: &[String]) -> Result<Vec<Sealed>, StoreError> {
        let rows = sqlx::query_as!(
            SealedRow,
            "
            select name, ciphertext, nonce, key_id, hosts, servers, channels
            from secret
            where name = any ($1)
            order by name
            ",
            names,
        )
        .fetch_all(&self.pool)
        .within(self, "read secrets")
        .await?;
        Ok(rows.into_iter().map(Sealed::from).collect())
    }

    async fn all_sealed_secrets(&self) -> Result<Vec<Sealed>, StoreError> {
        let rows = sqlx::query_as!(
            SealedRow,
            "select name, ciphertext, nonce, key_id, hosts, servers, channels from secret order by name",
        )
        .fetch_all(&self.pool)
        .within(self, "read secrets")
        .await?;
        Ok(rows.into_iter().map(Sealed::from).collect())
    }
}

struct SealedRow {
    name: String,
    ciphertext: Vec<u8>,
    nonce: Vec<u8>,
    key_id: String,
    hosts: Vec<String>,
    servers: Vec<String>,
    channels: Vec<String>,
}

impl From<SealedRow> for Sealed {
    fn from(row: SealedRow) -> Self {
        Self {
            name: row.name,
            ciphertext: row.ciphertext,
            nonce: row.nonce,
            key_id: row.key_id,
            bindings: Bindings { hosts: row.hosts, servers: row.servers, channels: row.channels },
        }
    }
}

fn judge_value(value: &str) -> Result<(), SecretError> {
    if value.chars().count() < LEAST_CHARS {
        return Err(SecretError::TooShort);
    }
    if value.len() > MOST_BYTES {
        return Err(SecretError::TooLong);
    }
    if value.contains('\0') {
        return Err(SecretError::Nul);
    }
    Ok(())
}

async fn write(tx: &mut Transaction<'_, Postgres>, sealed: &Sealed) -> Result<(), StoreError> {
    sqlx::query!(
        "
        insert into secret (name, ciphertext, nonce, key_id, hosts, servers, channels)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (name) do update
        set ciphertext = excluded.ciphertext,
            nonce = excluded.nonce,
            key_id = excluded.key_id,
            hosts = excluded.hosts,
            servers = excluded.servers,
            channels = excluded.channels,
            updated_at = clock_timestamp()
        ",
        sealed.name,
        sealed.ciphertext,
        sealed.nonce,
        sealed.key_id,
        &sealed.bindings.hosts,
        &sealed.bindings.servers,
        &sealed.bindings.channels,
    )
    .execute(&mut **tx)
    .await
    .doing("write a secret")?;
    Ok(())
}

async fn rewrite(tx: &mut Transaction<'_, Postgres>, former: &[u8], sealed: &Sealed) -> Result<u64, StoreError> {
    let written = sqlx::query!(
        "update secret set ciphertext = $3, nonce = $4, key_id = $5 where name = $1 and nonce = $2",
        sealed.name,
        former,
        sealed.ciphertext,
        sealed.nonce,
        sealed.key_id,
    )
    .execute(&mut **tx)
    .await
    .doing("write a secret anew")?;
    Ok(written.rows_affected())
}

/// Secrets are nobody's but the operator's.
fn operator() -> Caller {
    Caller::local("operator")
}
