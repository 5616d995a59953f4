//! The operator's file of MCP servers, in the shape that Claude Desktop uses (`mcpServers`).
//!
//! An existing file can be pointed at, so this reads generously: unknown fields are ignored, and one bad entry
//! does not take the others down; it is kept as a [`Entry::Unusable`] with its reason, for whoever asks for it.
//! Entries that start an Ordinaut program are left out: a scheduler must not call itself through the back door.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

/// How to reach one server.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Launch {
    Stdio { command: String, args: Vec<String>, env: BTreeMap<String, String>, cwd: Option<String> },
    Http { url: Url, headers: HashMap<HeaderName, HeaderValue> },
}

/// One name in the file.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Usable(Launch),
    /// The reason, as an end of "the MCP server `x` cannot be used: …".
    Unusable(String),
}

/// Why the whole file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileFault {
    #[error("it is not JSON")]
    Syntax(#[source] serde_json::Error),
    #[error("it has no object `mcpServers`")]
    NoServers,
}

/// The first parts of the built-in actions' names: `uses` would be ambiguous.
const FAMILIES: &[&str] =
    &["approval", "data", "event", "http", "inbox", "llm", "notify", "orchestrator", "shell", "task", "wait"];

const OWN_PROGRAMS: &[&str] = &["ordinaut", "ordinaut-mcp", "ordinaut-executor"];

#[derive(Deserialize)]
struct Written {
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(rename = "type", alias = "transport")]
    kind: Option<String>,
    #[serde(default)]
    disabled: bool,
}

/// Reads the file's text.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Entry>, FileFault> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let file: Value = serde_json::from_str(text).map_err(FileFault::Syntax)?;
    let servers = match file.get("mcpServers") {
        Some(Value::Object(servers)) => servers,
        // Claude Desktop writes files without any server.
        None if file.is_object() => return Ok(BTreeMap::new()),
        _ => return Err(FileFault::NoServers),
    };
    let entries = servers.iter().filter_map(|(name, written)| Some((name.clone(), entry(name, written)?)));
    Ok(entries.collect())
}

/// `None` for what is left out.
fn entry(name: &str, written: &Value) -> Option<Entry> {
    let Ok(written) = Written::deserialize(written) else {
        // The error's text could repeat a secret of `env` or `headers`: only the shape is told.
        return Some(Entry::Unusable("its entry has not the shape {command, args, env} or {url}".to_owned()));
    };
    if written.disabled || starts_ordinaut(&written) {
        return None;
    }
    Some(match check_name(name).and_then(|()| launch(written)) {
        Ok(launch) => Entry::Usable(launch),
        Err(reason) => Entry::Unusable(reason),
    })
}

fn check_name(name: &str) -> Result<(), String> {
    if FAMILIES.contains(&name) {
        return Err(format!("`{name}` is the name of a family of built-in actions: rename it in the file"));
    }
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_plain { Ok(()) } else { Err("its name may hold letters, digits, `_` and `-` only: rename it".to_owned()) }
}

fn launch(written: Written) -> Result<Launch, String> {
    match (written.command, written.url) {
        (Some(command), None) if !command.trim().is_empty() => {
            Ok(Launch::Stdio { command, args: written.args, env: written.env, cwd: written.cwd })
        }
        (None, Some(url)) => {
            if written.kind.as_deref() == Some("sse") {
                return Err("it is of type `sse`; only stdio and Streamable HTTP (`http`) are spoken".to_owned());
            }
            let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let url = url.ok_or("its `url` is not a whole http or https URL")?;
            Ok(Launch::Http { url, headers: headers(&written.headers)? })
        }
        _ => Err("its entry needs either `command` or `url`".to_owned()),
    }
}

fn headers(written: &BTreeMap<String, String>) -> Result<HashMap<HeaderName, HeaderValue>, String> {
    let mut headers = HashMap::new();
    for (name, text) in written {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` cannot name a header"))?;
        let mut value =
            HeaderValue::from_str(text.trim()).map_err(|_| format!("its header `{name}` holds what no header can"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

/// Whether the command, or a word of its arguments (`sh -c "ordinaut-mcp stdio"`), is one of our programs.
fn starts_ordinaut(written: &Written) -> bool {
    let words = written.command.iter().chain(&written.args).flat_map(|text| text.split_whitespace());
    let mut names = words.filter_map(|word| Path::new(word).file_stem()?.to_str());
    names.any(|name| OWN_PROGRAMS.contains(&name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(name: &str, written: Value) -> Option<Entry> {
        let mut servers = serde_json::Map::new();
        servers.insert(name.to_owned(), written);
        parse(&json!({ "mcpServers": servers }).to_string()).unwrap().remove(name)
    }

    #[test]
    fn a_claude_desktop_file_is_read_as_it_is() {
        let file = json!({
            "globalShortcut": "",
            "mcpServers": {
                "weather": {"command": "npx", "args": ["-y", "weather"], "env": {"KEY": "v"}, "alwaysAllow": []},
                "remote": {"type": "http", "url": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer x"}},
                "off": {"command": "x", "disabled": true},
            }
        });
        let servers = parse(&file.to_string()).unwrap();
        assert_eq!(servers.keys().collect::<Vec<_>>(), ["remote", "weather"]);
        assert!(servers.values().all(|entry| matches!(entry, Entry::Usable(_))));
        assert!(parse("").unwrap().is_empty() && parse("{}").unwrap().is_empty());
        assert!(parse("[").is_err() && parse("[]").is_err());
    }

    #[test]
    fn entries_that_start_ordinaut_are_left_out() {
        for written in [
            json!({"command": "ordinaut-mcp", "args": ["stdio"]}),
            json!({"command": "/usr/local/bin/ordinaut-mcp"}),
            json!({"command": "sh", "args": ["-c", "exec /opt/ordinaut-mcp stdio"]}),
            json!({"command": "env", "args": ["A=b", "ordinaut", "up"]}),
        ] {
            assert!(one("self", written.clone()).is_none(), "{written}");
        }
        assert!(one("example", json!({"command": "ordinaut-example-server"})).is_some());
    }

    #[test]
    fn an_entry_that_cannot_be_used_says_why() {
        for (name, written, part) in [
            ("http", json!({"command": "x"}), "built-in"),
            ("orchestrator", json!({"command": "x"}), "built-in"),
            ("a.b", json!({"command": "x"}), "letters"),
            ("a", json!({}), "`command` or `url`"),
            ("a", json!({"command": "x", "url": "http://h/"}), "`command` or `url`"),
            ("a", json!({"url": "/mcp"}), "whole http"),
            ("a", json!({"url": "http://h/sse", "type": "sse"}), "sse"),
            ("a", json!({"command": 3, "env": {"K": "s3cret"}}), "shape"),
        ] {
            match one(name, written) {
                Some(Entry::Unusable(reason)) => assert!(reason.contains(part), "{reason}"),
                _ => panic!("{name} should be unusable"),
            }
        }
    }
}
