//! Secrets in the operator's file of servers: put in when a server is started, and again when they are set anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use http::{HeaderName, HeaderValue};
use ordinaut_schema::{
    run::{ErrorKind, StepFailure},
    secret::{Configured, configured},
};
use ordinaut_store::secrets::{For, OpenSecret, SecretError, SecretVault};
use url::Url;

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

/// The shortest credential that is looked for: shorter ones would hide half of an ordinary text.
const SHORTEST: usize = 6;

/// Headers that say nothing that is to be hidden.
const PLAIN_HEADERS: [&str; 4] = ["accept", "accept-language", "content-type", "user-agent"];

/// Parts of names that variables with credentials have.
const TELLING: [&str; 11] =
    ["KEY", "TOKEN", "SECRET", "PASS", "PWD", "AUTH", "CRED", "COOKIE", "SESSION", "PRIVATE", "DSN"];

/// Credentials that stand in the file as they are, without a secret's name: taken out of what is kept like secrets.
///
/// A header's value is one, but for a few headers; a variable's is where its name or its form says so. What is only a
/// setting must stay: taken out of results, a word such as `production` would spoil them.
pub(super) fn literals(launch: &Launch) -> Vec<String> {
    let is_literal = |text: &str| configured(text).into_iter().all(|part| matches!(part, Configured::Text(_)));
    let mut found: Vec<String> = Vec::new();
    match launch {
        Launch::Stdio { env, .. } => {
            for (name, text) in env.iter().filter(|(_, text)| is_literal(text)) {
                let password = Url::parse(text).ok().and_then(|url| url.password().map(str::to_owned));
                let name = name.to_uppercase();
                let is_told = TELLING.iter().any(|part| name.contains(part)) && text.parse::<f64>().is_err();
                if is_told || password.is_some() || is_random(text) {
                    found.push(text.clone());
                }
                found.extend(password);
            }
        }
        Launch::Http { headers, .. } => {
            let texts = headers.iter().filter(|(name, _)| !PLAIN_HEADERS.contains(&name.as_str()));
            for text in texts.filter_map(|(_, value)| value.to_str().ok()).filter(|text| is_literal(text)) {
                // A server says the token alone, without `Bearer`.
                found.extend(
                    [Some(text), text.split_once(' ').map(|(_, token)| token)].into_iter().flatten().map(Into::into),
                );
            }
        }
    }
    found.retain(|text| text.len() >= SHORTEST);
    found
}

/// Whether a text looks like a token: long, one word, of small and capital letters and digits.
fn is_random(text: &str) -> bool {
    text.len() >= 24
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_-.".contains(&b))
        && [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit]
            .iter()
            .all(|is| text.bytes().any(|b| is(&b)))
        && !text.starts_with(['/', '.'])
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of_env(entries: &[(&str, &str)]) -> Vec<String> {
        let env = entries.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        literals(&Launch::Stdio { command: "x".to_owned(), args: Vec::new(), env, cwd: None })
    }

    #[test]
    fn a_variable_is_a_credential_by_its_name_or_its_form_and_a_setting_is_none() {
        for (name, text) in [
            ("GITHUB_TOKEN", "hunter2"),
            ("api_key", "correct horse"),
            ("DB_PASSWORD", "hunter22"),
            ("ACCESS", "Zm9vYmFyYmF6cXV4MTIzNDU2"),
        ] {
            assert_eq!(of_env(&[(name, text)]), [text], "{name}");
        }
        assert_eq!(of_env(&[("DB", "postgres://u:hunter22@db/x")]), ["postgres://u:hunter22@db/x", "hunter22"]);
        for (name, text) in [
            ("NODE_ENV", "production"),
            ("REGION", "eu-central-1"),
            ("MAX_TOKENS", "1000000"),
            ("HOME_DIR", "/srv/data/Files/Of-2027/And-More"),
            ("BASE_URL", "https://api.example.com/v1"),
            ("PROJECT", "019ab2c4-5d00-7000-8f1e-2a6b7c8d9e0f"),
            ("PIN_CODE_KEY", "short"),
            ("TOKEN", "${secrets.TOKEN}"),
        ] {
            assert_eq!(of_env(&[(name, text)]), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn a_header_is_a_credential_with_and_without_its_scheme() {
        let headers = [("authorization", "Bearer abc123def"), ("accept", "text/plain"), ("x-tenant", "tenant-7")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let url = Url::parse("https://mcp.example.com/").unwrap();
        let mut found = literals(&Launch::Http { url, headers: headers.into() });
        found.sort();
        assert_eq!(found, ["Bearer abc123def", "abc123def", "tenant-7"]);
    }
}
