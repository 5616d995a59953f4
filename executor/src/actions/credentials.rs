//! Credentials of the operator's, from their configuration to one call, and out of everything that is kept of it.
//!
//! `${secrets.NAME}` is opened from the vault when a call is made. What a call used is remembered while it lasts, by a
//! [`Redactor`], so that an endpoint that echoes what it was sent cannot write a credential into a history or a log.
//! Whoever cuts a text takes the credentials out of it first: half of one is not found any more.

use std::collections::BTreeSet;

use ordinaut_schema::{
    operator::Credential,
    run::{ErrorKind, StepFailure},
    secret::Redactor,
};
use ordinaut_store::secrets::{For, SecretVault};
use url::Url;

use super::http::secrets::failure;

/// Whose configuration names a secret: what the secret must be bound to.
#[derive(Debug, Clone)]
pub(crate) enum Owner {
    Channel(String),
    /// A model, by the address of its endpoint.
    Model(Url),
}

impl Owner {
    fn as_use(&self) -> For<'_> {
        match self {
            Self::Channel(name) => For::Channel(name),
            Self::Model(url) => For::Request(url),
        }
    }
}

/// Shorter ones would hide half of an ordinary text.
const SHORTEST: usize = 6;

/// The credentials that one call uses.
pub(crate) struct Used {
    owner: Owner,
    redactor: Redactor,
}

impl Used {
    pub(crate) fn of(owner: Owner) -> Self {
        Self { owner, redactor: Redactor::default() }
    }

    pub(crate) const fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// What a credential says now.
    pub(crate) async fn fill(&mut self, credential: &Credential, secrets: &SecretVault) -> Result<String, StepFailure> {
        let mut values = Vec::new();
        for name in credential.references() {
            let opened = secrets.open(&BTreeSet::from([name.to_owned()]), self.owner.as_use()).await;
            let opened = opened.map_err(|error| failure(&error))?.pop();
            values.push(opened.expect("one secret was asked for, and an error would have been answered"));
        }
        let mut next = values.iter();
        let filled = credential
            .fill(|_| next.next().map(|secret| secret.value().to_owned()).ok_or(()))
            .expect("each reference of a credential was looked up, in their order");
        if values.is_empty() {
            self.hide(&filled);
        }
        for secret in &values {
            self.redactor.add(secret.name(), secret.value());
        }
        Ok(filled)
    }

    /// As [`Used::fill`], of a URL that is a credential itself.
    pub(crate) async fn fill_url(
        &mut self,
        credential: &Credential,
        secrets: &SecretVault,
    ) -> Result<Url, StepFailure> {
        let text = self.fill(credential, secrets).await?;
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| {
            StepFailure::new(
                ErrorKind::ClientError,
                "the channel's `url` is no http or https URL; the operator mends it",
            )
        })?;
        // The host alone is shown; what follows it is what opens the door.
        self.hide(&url[url::Position::BeforePath..]);
        url.path_segments().into_iter().flatten().filter(|part| part.len() >= 16).for_each(|part| self.hide(part));
        Ok(url)
    }

    /// Has a value that has no name taken out, too.
    pub(crate) fn hide(&mut self, value: &str) {
        if value.len() >= SHORTEST {
            self.redactor.add("", value);
        }
    }

    pub(crate) fn mask_failure(&self, failure: StepFailure) -> StepFailure {
        StepFailure { message: self.redactor.text(&failure.message), ..failure }
    }
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE},
    };
    use ordinaut_store::{
        secrets::{Bindings, KeySource},
        testing::{Database, Fixture},
    };
    use serde_json::json;

    use super::*;

    /// Thirty-two zeros.
    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    /// A vault with `KEY`, which is bound to the channel `team`.
    async fn vault() -> (SecretVault, Database) {
        let (store, database) = Fixture::fresh().await;
        let keys = KeySource::choose(Some(KEY), None, std::path::Path::new("unused"));
        let bindings = Bindings::new(&[], &[], &["team".to_owned()]).unwrap();
        store.executor.set_secret(&keys.read().unwrap(), "KEY", "hunter2hunter2", Some(bindings)).await.unwrap();
        (SecretVault::new(store.executor.clone(), keys), database)
    }

    fn of(channel: &str) -> Used {
        Used::of(Owner::Channel(channel.to_owned()))
    }

    #[tokio::test]
    async fn every_form_of_a_used_credential_is_hidden() {
        let ((vault, _database), mut used) = (vault().await, of("team"));
        let credential = Credential::parse("pass\"wörd&1").unwrap();
        assert_eq!(used.fill(&credential, &vault).await.unwrap(), "pass\"wörd&1");
        let mut echoed = json!({
            "plain": "<pass\"wörd&1>",
            "base64": STANDARD.encode("pass\"wörd&1"),
            "base64url": URL_SAFE.encode("pass\"wörd&1"),
            "basic": STANDARD.encode("\0ada\0pass\"wörd&1"),
            "url": "p=pass%22w%c3%b6rd%261",
            "json": "{\"p\": \"pass\\\"wörd&1\"}",
        });
        used.redactor().clean(&mut echoed);
        for (name, value) in echoed.as_object().unwrap() {
            assert!(value.as_str().unwrap().contains("[hidden]"), "{name}: {value}");
        }
    }

    #[tokio::test]
    async fn a_secret_goes_into_the_configuration_that_it_is_bound_to_and_out_of_what_comes_back() {
        let (vault, _database) = vault().await;
        let credential = Credential::parse("Bearer ${secrets.KEY}").unwrap();
        let mut used = of("team");
        assert_eq!(used.fill(&credential, &vault).await.unwrap(), "Bearer hunter2hunter2");
        assert_eq!(used.redactor().text("no hunter2hunter2 here"), "no [secret KEY] here");

        let refused = of("other").fill(&credential, &vault).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        assert!(refused.message.contains("KEY") && refused.message.contains("team"), "{refused}");
        let model = Owner::Model(Url::parse("https://api.example.com/v1").unwrap());
        assert_eq!(Used::of(model).fill(&credential, &vault).await.unwrap_err().kind, ErrorKind::Denied);
    }

    #[tokio::test]
    async fn the_path_of_a_secret_url_is_hidden_and_its_host_is_not() {
        let ((vault, _database), mut used) = (vault().await, of("team"));
        let credential = Credential::parse("https://hooks.example.com/services/T0/abcdefghijklmnop1234").unwrap();
        used.fill_url(&credential, &vault).await.unwrap();
        assert_eq!(used.redactor().text("POST /services/T0/abcdefghijklmnop1234"), "POST [hidden]");
        assert_eq!(
            used.redactor().text("no hook abcdefghijklmnop1234 at hooks.example.com"),
            "no hook [hidden] at hooks.example.com"
        );
    }
}
