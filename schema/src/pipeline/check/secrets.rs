//! Judges the secrets that a step names: where they stand, whether they exist, are granted, and may go where it calls.

use serde_json::{Map, Value};
use url::Url;

use crate::{
    fault::{Fault, FaultCode, nearest},
    secret::{FIELDS, HostPattern},
    template::{MISPLACED, SecretUse, has_template},
};

use super::Checker;

/// Whether a secret may stand in a value of `with`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretPlace {
    None,
    /// In the values of this field, which is an object.
    Values,
    Anywhere,
}

impl SecretPlace {
    pub(super) fn of(uses: &str, field: &str, value: &Value) -> Self {
        match field {
            _ if !uses.starts_with("http.") || !FIELDS.contains(&field) => Self::None,
            "json" | "body" => Self::Anywhere,
            // As a whole they are objects, which no secret is.
            _ if value.is_object() => Self::Anywhere,
            _ => Self::Values,
        }
    }
}

pub(super) fn misplaced(path: &str) -> Fault {
    Fault::new(path, FaultCode::BadTemplate, MISPLACED)
}

/// Where an `http.*` step calls, unless a template has yet to say.
pub(super) fn destination(uses: &str, with: &Map<String, Value>) -> Option<Url> {
    let url = with.get("url").and_then(Value::as_str).filter(|url| uses.starts_with("http.") && !has_template(url))?;
    Url::parse(url.trim()).ok()
}

impl Checker<'_> {
    pub(super) fn secrets(&mut self, used: &SecretUse<'_>, path: &str, place: SecretPlace) {
        match place {
            SecretPlace::None => return self.faults.push(misplaced(path)),
            SecretPlace::Values => {
                let message =
                    "a secret stands in a value of this field, not in its place: write {\"Name\": \"${secrets.NAME}\"}";
                return self.faults.add(path, FaultCode::BadTemplate, message);
            }
            SecretPlace::Anywhere if used.is_nested() => return self.faults.push(misplaced(path)),
            SecretPlace::Anywhere => {}
        }
        for name in used.names() {
            if let Some(fault) = self.judge_secret(name, path) {
                self.faults.push(fault);
            }
        }
    }

    fn judge_secret(&self, name: &str, path: &str) -> Option<Fault> {
        let offered = &self.catalogue.offered.secrets;
        let host = self.destination.as_ref().and_then(Url::host_str).unwrap_or("api.example.com");
        let Some(hosts) = offered.get(name) else {
            let names: Vec<_> = offered.keys().map(String::as_str).collect();
            let known = if names.is_empty() {
                "none is configured".to_owned()
            } else {
                format!("there is {}", names.join(", "))
            };
            let message = format!(
                "the secret `{name}` is not configured: {known}. A person adds one with `ordinaut secret set {name} \
                 --host {host}`, which asks for the value"
            );
            let fault = Fault::new(path, FaultCode::NotConfigured, message);
            return Some(match nearest(name, names) {
                Some(near) => fault.suggest(format!("secrets.{near}")),
                None => fault,
            });
        };
        if !self.catalogue.grants.allow_secret(name) {
            let message = format!("this agent may not use the secret `{name}`; a person can grant it");
            return Some(Fault::new(path, FaultCode::NotGranted, message));
        }
        let url = self.destination.as_ref()?;
        let is_bound = hosts.iter().any(|host| host.parse().is_ok_and(|host: HostPattern| host.covers(url)));
        (!is_bound).then(|| {
            let bound =
                if hosts.is_empty() { "to no host".to_owned() } else { format!("to {} only", hosts.join(", ")) };
            let message = format!(
                "the secret `{name}` is bound {bound}, and this step calls {}; a person can bind it anew with `ordinaut \
                 secret set`",
                &url[url::Position::BeforeHost..url::Position::AfterPort]
            );
            Fault::new(path, FaultCode::NotGranted, message)
        })
    }
}
