//! What MCP servers say about their tools.

use std::{collections::BTreeMap, sync::Mutex};

use ordinaut_store::catalog::Digest;
use rmcp::model::Tool;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// The longest name of a tool that is taken for one.
const NAME_BYTES: usize = 256;

/// One tool, as its server describes it. All of it is the server's word: untrusted.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenTool {
    pub server: String,
    pub tool: String,
    pub description: String,
    pub input_schema: Value,
    /// `readOnlyHint`
    pub read_only: bool,
    /// `idempotentHint`
    pub idempotent: bool,
    /// SHA-256 over name, description, schema and hints: pinned, so that a changed tool is noticed.
    pub sha256: Digest,
}

impl SeenTool {
    /// What a pipeline `uses`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.server, self.tool)
    }

    pub(super) fn new(server: &str, tool: &Tool) -> Self {
        let hint = |pick: fn(&rmcp::model::ToolAnnotations) -> Option<bool>| {
            tool.annotations.as_ref().and_then(pick).unwrap_or(false)
        };
        let (read_only, idempotent) = (hint(|it| it.read_only_hint), hint(|it| it.idempotent_hint));
        let description = without_nul(tool.description.as_deref().unwrap_or_default());
        let input_schema = sorted(&Value::Object((*tool.input_schema).clone()));
        let pinned = json!([tool.name, description, input_schema, read_only, idempotent]);
        let sha256 = Sha256::digest(pinned.to_string()).into();
        Self {
            server: server.to_owned(),
            tool: tool.name.clone().into_owned(),
            description,
            input_schema,
            read_only,
            idempotent,
            sha256,
        }
    }
}

/// Objects with their keys in order: a server may list them differently each time it starts. Without NUL, which
/// Postgres keeps in no text.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<_, _> =
                fields.iter().map(|(name, field)| (without_nul(name), sorted(field))).collect();
            Value::Object(ordered.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::String(text) => Value::String(without_nul(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

/// Each tool once, in order of name. One that is listed twice is neither: which would be called, nobody could say.
/// Nor are names that no definition could hold.
pub(super) fn settled(mut tools: Vec<SeenTool>) -> Vec<SeenTool> {
    tools.retain(|it| !it.tool.is_empty() && it.tool.len() <= NAME_BYTES && !it.tool.contains(char::is_control));
    tools.sort_by(|a, b| a.tool.cmp(&b.tool));
    let groups = tools.chunk_by(|a, b| a.tool == b.tool);
    groups.filter(|group| group.iter().all(|tool| *tool == group[0])).map(|group| group[0].clone()).collect()
}

/// The tools of every server that has been seen since start-up.
#[derive(Debug)]
pub(super) struct Catalogue {
    seen: Mutex<BTreeMap<String, Vec<SeenTool>>>,
    changes: watch::Sender<u64>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { seen: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Catalogue {
    pub(super) fn put(&self, server: &str, tools: &[SeenTool]) {
        let previous = self.lock().insert(server.to_owned(), tools.to_vec());
        if previous.as_deref() != Some(tools) {
            self.changed();
        }
    }

    pub(super) fn remove(&self, server: &str) {
        if self.lock().remove(server).is_some() {
            self.changed();
        }
    }

    /// Something is to be published again.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn all(&self) -> Vec<SeenTool> {
        self.lock().values().flatten().cloned().collect()
    }

    pub(super) fn has(&self, server: &str) -> bool {
        self.lock().contains_key(server)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<SeenTool>>> {
        self.seen.lock().expect("never poisoned: no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(text: &str) -> SeenTool {
        SeenTool::new("s", &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_hash_sees_a_change_and_not_the_order_of_keys() {
        let a = tool(r#"{"name": "t", "description": "d", "inputSchema": {"type": "object", "required": ["x"]}}"#);
        let b = tool(r#"{"name": "t", "description": "d", "inputSchema": {"required": ["x"], "type": "object"}}"#);
        let c = tool(r#"{"name": "t", "description": "D", "inputSchema": {"required": ["x"], "type": "object"}}"#);
        assert_eq!(a.sha256, b.sha256);
        assert_ne!(a.sha256, c.sha256);
        let read_only = r#"{"name": "t", "description": "d", "inputSchema": {"type": "object", "required": ["x"]},
            "annotations": {"readOnlyHint": true}}"#;
        assert_ne!(a.sha256, tool(read_only).sha256, "what it says of repeats counts");
    }

    #[test]
    fn a_tool_that_is_listed_twice_is_no_tool_unless_both_are_the_same() {
        let one = tool(r#"{"name": "t", "description": "d", "inputSchema": {}}"#);
        let other = tool(r#"{"name": "t", "description": "evil", "inputSchema": {}}"#);
        let nul = tool(r#"{"name": "u", "description": "a\u0000b", "inputSchema": {"x\u0000": "\u0000"}}"#);
        assert_eq!(settled(vec![one.clone(), other, nul.clone()]), std::slice::from_ref(&nul));
        assert_eq!(settled(vec![one.clone(), one.clone()]), [one]);
        assert_eq!((nul.description.as_str(), nul.input_schema), ("ab", json!({"x": ""})));
        let named = |name: &str| SeenTool { tool: name.to_owned(), ..tool(r#"{"name": "t", "inputSchema": {}}"#) };
        assert_eq!(settled(vec![named("a\nb"), named(""), named(&"x".repeat(300))]), []);
    }

    #[test]
    fn only_what_differs_counts_as_a_change() {
        let catalogue = Catalogue::default();
        let changes = catalogue.changes();
        let one = tool(r#"{"name": "t", "inputSchema": {}, "annotations": {"readOnlyHint": true}}"#);
        assert!(one.read_only && !one.idempotent);
        catalogue.put("s", std::slice::from_ref(&one));
        catalogue.put("s", &[one]);
        assert_eq!(*changes.borrow(), 1);
        catalogue.remove("s");
        assert_eq!(*changes.borrow(), 2);
        assert!(catalogue.all().is_empty());
    }
}
