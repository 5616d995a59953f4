//! Credentials of the operator's, from their configuration to one call, and out of everything that is kept of it.
//!
//! [`Secrets`] is the one seam to where `${secrets.NAME}` is looked up. What a call used is remembered while it lasts,
//! so that an endpoint that echoes what it was sent cannot write a credential into a history or a log.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ordinaut_schema::{
    operator::Credential,
    run::{ErrorKind, StepFailure},
};
use serde_json::Value;
use url::Url;

/// Where `${secrets.NAME}` of the operator's configuration is looked up, when a call is made.
#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    async fn resolve(&self, name: &str) -> Result<String, StepFailure>;
}

/// Until there is a store of secrets: refuses, and says what to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn resolve(&self, name: &str) -> Result<String, StepFailure> {
        Err(StepFailure::new(
            ErrorKind::Denied,
            format!(
                "the operator's configuration refers to ${{secrets.{name}}}, and this version keeps no secrets: write \
                 the credential itself into ordinaut.toml, which only its owner may read"
            ),
        ))
    }
}

/// Shorter ones would hide half of an ordinary text.
const SHORTEST: usize = 6;
const HIDDEN: &str = "[hidden]";

/// The credentials that one call uses.
#[derive(Default)]
pub(crate) struct Used {
    forms: Vec<String>,
}

impl Used {
    /// What a credential says now.
    pub(crate) async fn fill(&mut self, credential: &Credential, secrets: &dyn Secrets) -> Result<String, StepFailure> {
        let mut values = Vec::new();
        for name in credential.references() {
            values.push(secrets.resolve(name).await?);
        }
        let mut next = values.iter();
        let filled = credential
            .fill(|_| next.next().cloned().ok_or(()))
            .expect("each reference of a credential was looked up, in their order");
        for value in &values {
            self.hide(value);
        }
        self.hide(&filled);
        Ok(filled)
    }

    /// As [`Used::fill`], of a URL that is a credential itself.
    pub(crate) async fn fill_url(
        &mut self,
        credential: &Credential,
        secrets: &dyn Secrets,
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

    fn hide(&mut self, value: &str) {
        if value.len() < SHORTEST {
            return;
        }
        let json = Value::from(value).to_string();
        let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        for form in [value, &STANDARD.encode(value), json.trim_matches('"'), &encoded] {
            if !self.forms.iter().any(|known| known == form) {
                self.forms.push(form.to_owned());
            }
        }
        // The longest first: a part of it hidden would leave the rest in clear.
        self.forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// `text` without any of them.
    pub(crate) fn mask(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, form| {
            if text.contains(form.as_str()) { text.replace(form.as_str(), HIDDEN) } else { text }
        })
    }

    pub(crate) fn mask_failure(&self, failure: StepFailure) -> StepFailure {
        StepFailure { message: self.mask(&failure.message), ..failure }
    }

    /// Of every text in a value, keys included.
    pub(crate) fn mask_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.mask(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.mask_value(field));
                if fields.keys().any(|key| self.mask(key) != *key) {
                    *fields = std::mem::take(fields).into_iter().map(|(key, value)| (self.mask(&key), value)).collect();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn every_form_of_a_used_credential_is_hidden() {
        let mut used = Used::default();
        let credential = Credential::parse("pass\"wörd&1").unwrap();
        assert_eq!(used.fill(&credential, &NoSecrets).await.unwrap(), "pass\"wörd&1");
        let mut echoed = json!({
            "plain": "<pass\"wörd&1>",
            "base64": STANDARD.encode("pass\"wörd&1"),
            "url": "p=pass%22w%C3%B6rd%261",
            "json": "{\"p\": \"pass\\\"wörd&1\"}",
        });
        used.mask_value(&mut echoed);
        for (name, value) in echoed.as_object().unwrap() {
            assert!(value.as_str().unwrap().contains(HIDDEN), "{name}: {value}");
        }
    }

    #[tokio::test]
    async fn a_reference_is_refused_with_what_to_do_until_there_are_secrets() {
        let credential = Credential::parse("Bearer ${secrets.KEY}").unwrap();
        let refused = Used::default().fill(&credential, &NoSecrets).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        assert!(refused.message.contains("${secrets.KEY}") && refused.message.contains("ordinaut.toml"), "{refused}");
    }

    #[tokio::test]
    async fn the_path_of_a_secret_url_is_hidden_and_its_host_is_not() {
        let mut used = Used::default();
        let credential = Credential::parse("https://hooks.example.com/services/T0/abcdefghijklmnop1234").unwrap();
        used.fill_url(&credential, &NoSecrets).await.unwrap();
        assert_eq!(used.mask("POST /services/T0/abcdefghijklmnop1234"), "POST [hidden]");
        assert_eq!(
            used.mask("no hook abcdefghijklmnop1234 at hooks.example.com"),
            "no hook [hidden] at hooks.example.com"
        );
    }
}
