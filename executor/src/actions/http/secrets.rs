//! The secrets of one request: opened when it is sent, for a host that each of them is bound to, and taken out of
//! everything that comes back before anybody keeps it.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName};
use ordinaut_schema::{
    run::{ErrorKind, StepFailure},
    secret::{FIELDS, Redactor, mark},
};
use ordinaut_store::secrets::{For, OpenSecret, SecretError, SecretVault};
use serde_json::Value;
use url::Url;

use super::{
    guard::{Destination, shown},
    request::{target, unfit},
};

/// What a request carries of secrets. `Debug` shows names.
#[derive(Clone, Default)]
pub(super) struct Carried {
    secrets: Arc<Vec<OpenSecret>>,
    redactor: Arc<Redactor>,
    /// The headers that hold one.
    headers: Vec<HeaderName>,
    /// Whether the request at hand still holds any: not after it was sent elsewhere.
    holds: bool,
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.secrets.iter().map(OpenSecret::name)).finish()
    }
}

impl Carried {
    /// Puts the values into a rendered `with`.
    pub(super) async fn fill(vault: Option<&SecretVault>, with: &mut Value) -> Result<Self, StepFailure> {
        let names = mark::names(with);
        if names.is_empty() {
            return Ok(Self::default());
        }
        let vault = vault.ok_or_else(|| denied("this executor opens no secrets"))?;
        let url = target(with.get("url").and_then(Value::as_str).unwrap_or_default())?;
        let secrets = vault.open(&names, For::Request(&url)).await.map_err(|error| failure(&error))?;
        let headers = with.get("headers").and_then(Value::as_object).into_iter().flatten();
        let headers = headers
            .filter(|(_, value)| !mark::names(value).is_empty())
            .filter_map(|(name, _)| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect();
        let find = |name: &str| secrets.iter().find(|secret| secret.name() == name).map(OpenSecret::value);
        for field in FIELDS {
            if let Some(value) = with.get_mut(field) {
                mark::fill(value, &find).map_err(|unfilled| unfit(unfilled.to_string()))?;
            }
        }
        let redactor = Arc::new(OpenSecret::redactor(&secrets));
        Ok(Self { secrets: Arc::new(secrets), redactor, headers, holds: true })
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Has the headers that hold a secret shown by nobody.
    pub(super) fn hide(&self, headers: &mut HeaderMap) {
        for (name, value) in headers.iter_mut() {
            if self.headers.contains(name) {
                value.set_sensitive(true);
            }
        }
    }

    /// Secrets go over TLS only, except to addresses that the operator allowed by name.
    pub(super) fn judge_connection(&self, url: &Url, destination: &Destination) -> Result<(), StepFailure> {
        if !self.holds || url.scheme() == "https" || destination.is_allowed {
            return Ok(());
        }
        Err(denied(format!(
            "{} would be sent to {} without TLS: call it by https, or have the operator allow `host:port`",
            self.named(),
            destination.shown
        )))
    }

    /// Whether all of them may go to this address, too.
    pub(super) fn may_follow(&self, url: &Url) -> bool {
        self.secrets.iter().all(|secret| secret.is_bound_to(For::Request(url)))
    }

    /// Leaves every secret behind. A redirect that hands one on itself is refused.
    pub(super) fn leave(&mut self, headers: &mut HeaderMap, to: &Url) -> Result<(), StepFailure> {
        for name in &self.headers {
            headers.remove(name);
        }
        self.holds = false;
        match self.redactor.find(to.as_str()) {
            Some(name) if !self.may_follow(to) => Err(denied(format!(
                "a redirect would hand the secret `{name}` on to {}, which it is not bound to",
                self.redactor.text(&shown(to))
            ))),
            _ => Ok(()),
        }
    }

    fn named(&self) -> String {
        let names: Vec<_> = self.secrets.iter().map(|secret| format!("`{}`", secret.name())).collect();
        format!("the secret{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
    }
}

fn denied(message: impl Into<String>) -> StepFailure {
    StepFailure::new(ErrorKind::Denied, message)
}

/// What an unopened secret means for the step: nothing was sent.
pub(crate) fn failure(error: &SecretError) -> StepFailure {
    match error {
        SecretError::Store(cause) if error.is_retryable() => {
            StepFailure::new(ErrorKind::Connection, format!("its secrets could not be read: {cause}"))
        }
        error => denied(error.to_string()),
    }
}
