//! Secrets in the operator's file of servers: put in when a server is started, and again when they are set anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use http::{HeaderName, HeaderValue};
use ordinaut_schema::{
    run::{ErrorKind, StepFailure},
    secret::{Configured, configured},
};
use ordinaut_store::secrets::{For, OpenSecret, SecretError, SecretVault};

use super::servers::Launch;
use crate::actions::http::secrets::failure;

/// The secrets that a launch names.
pub(super) fn names(launch: &Launch) -> BTreeSet<String> {
    let texts: Vec<&str> = match launch {
        Launch::Stdio { env, .. } => env.values().map(String::as_str).collect(),
        Launch::Http { headers, .. } => headers.values().filter_map(|value| value.to_str().ok()).collect(),
    };
    let parts = texts.into_iter().flat_map(configured);
    parts
        .filter_map(|part| match part {
            Configured::Text(_) => None,
            Configured::Secret(name) => Some(name.to_owned()),
        })
        .collect()
}

/// The launch with its secrets in place, and the secrets.
pub(super) async fn fill(
    vault: Option<&SecretVault>,
    server: &str,
    launch: &Launch,
) -> Result<(Launch, Vec<OpenSecret>), StepFailure> {
    let Some(vault) = vault else { return Ok((launch.clone(), Vec::new())) };
    let mut used = Vec::new();
    let filled = match launch {
        Launch::Stdio { command, args, env, cwd } => {
            let mut filled = BTreeMap::new();
            for (name, text) in env {
                let text = fill_text(vault, server, text, &mut used).await.map_err(|error| failure(&error))?;
                filled.insert(name.clone(), text);
            }
            Launch::Stdio { command: command.clone(), args: args.clone(), env: filled, cwd: cwd.clone() }
        }
        Launch::Http { url, headers } => {
            let mut filled = HashMap::new();
            for (name, value) in headers {
                let value = match value.to_str() {
                    Ok(text) => {
                        let text = fill_text(vault, server, text, &mut used).await.map_err(|error| failure(&error))?;
                        header(name, &text)?
                    }
                    Err(_) => value.clone(),
                };
                filled.insert(name.clone(), value);
            }
            Launch::Http { url: url.clone(), headers: filled }
        }
    };
    Ok((filled, used))
}

async fn fill_text(
    vault: &SecretVault,
    server: &str,
    text: &str,
    used: &mut Vec<OpenSecret>,
) -> Result<String, SecretError> {
    let resolved = vault.resolve_text(text, For::Server(server)).await?;
    used.extend(resolved.secrets().iter().cloned());
    Ok(resolved.text().to_owned())
}

fn header(name: &HeaderName, text: &str) -> Result<HeaderValue, StepFailure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        StepFailure::new(ErrorKind::Denied, format!("with its secrets its header `{name}` holds what no header can"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}
