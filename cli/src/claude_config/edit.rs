//! What the text of a client's file becomes with our entry, or without it. Pure.
//!
//! Everything else keeps its order and the file its indentation. Of an entry that is there, only what starts the
//! program is ours: an `env` that a person wrote stays.

use serde::Serialize as _;
use serde_json::{Map, Value, json, ser::PrettyFormatter};

const NAME: &str = "ordinaut";
const SERVERS: &str = "mcpServers";

/// Why a file is left alone.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    // The parser names what it expected and where, and quotes nothing: the file may hold credentials.
    #[error("it is no JSON in line {}, column {}", .0.line(), .0.column())]
    Syntax(#[source] serde_json::Error),
    #[error("{0} is no object")]
    NotAnObject(&'static str),
}

impl Refused {
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Syntax(_) => {
                "mend that line (JSON has no comments and no comma after the last entry), then say it again"
            }
            Self::NotAnObject(_) => "mend it by hand: { \"mcpServers\": { … } }, then say it again",
        }
    }
}

/// The text with an entry that starts `command`; nothing when it is there already.
pub(super) fn with(text: &str, command: &Value) -> Result<Option<String>, Refused> {
    let before = read(text)?;
    let mut root = before.clone();
    let servers = root.entry(SERVERS).or_insert_with(|| json!({}));
    let servers = servers.as_object_mut().ok_or(Refused::NotAnObject("`mcpServers`"))?;
    let entry = servers.entry(NAME).or_insert_with(|| json!({}));
    let entry = entry.as_object_mut().ok_or(Refused::NotAnObject("`mcpServers.ordinaut`"))?;
    entry.insert("command".into(), command.clone());
    entry.insert("args".into(), json!(["stdio"]));
    Ok((root != before).then(|| written(&root, text)))
}

/// The text without our entry; nothing when there is none.
pub(super) fn without(text: &str) -> Result<Option<String>, Refused> {
    let mut root = read(text)?;
    let Some(servers) = root.get_mut(SERVERS) else { return Ok(None) };
    let servers = servers.as_object_mut().ok_or(Refused::NotAnObject("`mcpServers`"))?;
    // `remove` would put the last entry in its place.
    Ok(servers.shift_remove(NAME).map(|_| written(&root, text)))
}

fn read(text: &str) -> Result<Map<String, Value>, Refused> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text).map_err(Refused::Syntax)? {
        Value::Object(root) => Ok(root),
        _ => Err(Refused::NotAnObject("the whole of it")),
    }
}

/// In the form that `before` has: its indentation, and whether it ends in a line break.
fn written(root: &Map<String, Value>, before: &str) -> String {
    let indented = before.lines().find(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty());
    let indent = indented.map_or("  ", |line| &line[..line.len() - line.trim_start().len()]);
    let mut text = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent.as_bytes()));
    root.serialize(&mut to).expect("a map of JSON can be written to memory");
    let mut text = String::from_utf8(text).expect("JSON is UTF-8");
    if before.is_empty() || before.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = "{\n    \"theme\": \"dark\",\n    \"mcpServers\": {\n        \"b\": {\n            \"command\": \"b\"\n        },\n        \"a\": {\n            \"command\": \"a\"\n        }\n    },\n    \"last\": 1\n}";

    #[test]
    fn an_entry_comes_and_goes_and_the_rest_of_the_file_is_as_it_was() {
        let command = json!("/opt/ordinaut-mcp");
        let there = with(THEIRS, &command).unwrap().unwrap();
        let ours = "        \"ordinaut\": {\n            \"command\": \"/opt/ordinaut-mcp\",\n            \"args\": [\n                \"stdio\"\n            ]\n        }\n";
        assert_eq!(there.replace(&format!(",\n{ours}"), "\n"), THEIRS);
        assert_eq!(with(&there, &command).unwrap(), None);
        assert_eq!(without(&there).unwrap().unwrap(), THEIRS);
        assert_eq!(without(THEIRS).unwrap(), None);
    }

    #[test]
    fn of_an_entry_that_is_there_only_what_starts_the_program_is_replaced() {
        let moved = with(
            r#"{"mcpServers":{"ordinaut":{"command":"/old","args":[],"env":{"ORDINAUT_TIMEZONE":"UTC"}}}}"#,
            &json!("/new"),
        );
        let moved: Value = serde_json::from_str(&moved.unwrap().unwrap()).unwrap();
        let entry = &moved["mcpServers"]["ordinaut"];
        assert_eq!(*entry, json!({ "command": "/new", "args": ["stdio"], "env": { "ORDINAUT_TIMEZONE": "UTC" } }));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_line_and_without_its_text() {
        let refused = with("{\n  \"a\": 1,\n  // hunter2\n}", &json!("x")).unwrap_err().to_string();
        assert!(refused.contains("line 3") && !refused.contains("hunter2"), "{refused}");
        for text in ["[]", r#"{"mcpServers":[]}"#, r#"{"mcpServers":{"ordinaut":"x"}}"#] {
            assert!(matches!(with(text, &json!("x")), Err(Refused::NotAnObject(_))), "{text}");
        }
    }
}
