//! Why a secret could not be kept or opened. No variant holds a value.

use ordinaut_schema::secret::{BadHost, LEAST_CHARS, MOST_BYTES};

use crate::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "`{0}` cannot be the name of a secret: write letters, digits and `_`, at most 64, not beginning with a digit"
    )]
    BadName(String),
    #[error(transparent)]
    BadHost(#[from] BadHost),
    #[error("`{0}` is no name of a server or channel")]
    BadBinding(String),
    #[error("a secret is bound to what it may be sent to: name a host, a server or a channel")]
    Unbound,
    #[error(
        "the value has fewer than {LEAST_CHARS} characters: so short a text cannot be kept out of answers reliably"
    )]
    TooShort,
    #[error("the value is longer than {MOST_BYTES} bytes")]
    TooLong,
    #[error("the value contains a NUL character")]
    Nul,
    /// What to do depends on who asks: see `KeySource`.
    #[error("there is no key for secrets: {0}")]
    NoKey(String),
    #[error("the key for secrets in {place} cannot be used: {why}")]
    BadKey { place: String, why: String },
    #[error(
        "the secret `{secret}` was encrypted with the key {key_id}, and the configured key is {configured}: configure \
         that key again (ORDINAUT_SECRET_KEY or ORDINAUT_SECRET_KEY_FILE), or set the secret anew"
    )]
    OtherKey { secret: String, key_id: String, configured: String },
    #[error(
        "the secret `{secret}` does not open: its row was changed by something other than Ordinaut; set the secret anew"
    )]
    Damaged { secret: String },
    #[error("the secret `{secret}` does not exist{}", there_is(.known))]
    Unknown { secret: String, known: Vec<String> },
    #[error("the secret `{secret}` may not be used for {whom}: it is bound to {bound}")]
    NotBound { secret: String, whom: String, bound: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn there_is(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; there is {}", names.join(", ")) }
}

impl SecretError {
    /// Whether asking again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}
