//! What MCP servers say about their tools.

use std::{collections::BTreeMap, sync::Mutex};

use rmcp::model::Tool;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

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
    /// SHA-256, in hex, over name, description, schema and hints: pinned, so that a changed tool is noticed.
    pub hash: String,
}

impl SeenTool {
    pub(super) fn new(server: &str, tool: &Tool) -> Self {
        let hint = |pick: fn(&rmcp::model::ToolAnnotations) -> Option<bool>| {
            tool.annotations.as_ref().and_then(pick).unwrap_or(false)
        };
        let (read_only, idempotent) = (hint(|it| it.read_only_hint), hint(|it| it.idempotent_hint));
        let description = tool.description.as_deref().unwrap_or_default().to_owned();
        let input_schema = Value::Object((*tool.input_schema).clone());
        let pinned = json!([tool.name, description, sorted(&input_schema), read_only, idempotent]);
        let hash = hex::encode(Sha256::digest(pinned.to_string()));
        Self {
            server: server.to_owned(),
            tool: tool.name.clone().into_owned(),
            description,
            input_schema,
            read_only,
            idempotent,
            hash,
        }
    }
}

/// Objects with their keys in order: a server may list them differently each time it starts.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<_, _> = fields.iter().map(|(name, field)| (name.clone(), sorted(field))).collect();
            Value::Object(ordered.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
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
    pub(super) fn put(&self, server: &str, mut tools: Vec<SeenTool>) {
        tools.sort_by(|a, b| a.tool.cmp(&b.tool));
        let previous = self.lock().insert(server.to_owned(), tools.clone());
        if previous.as_ref() != Some(&tools) {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    pub(super) fn remove(&self, server: &str) {
        if self.lock().remove(server).is_some() {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    pub(super) fn all(&self) -> Vec<SeenTool> {
        self.lock().values().flatten().cloned().collect()
    }

    pub(super) fn has(&self, server: &str) -> bool {
        self.lock().contains_key(server)
    }

    /// The names of one server's tools.
    pub(super) fn names(&self, server: &str) -> Vec<String> {
        self.lock().get(server).into_iter().flatten().map(|tool| tool.tool.clone()).collect()
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
        assert_eq!(a.hash, b.hash);
        assert_ne!(a.hash, c.hash);
        assert_eq!(a.hash.len(), 64);
    }

    #[test]
    fn only_what_differs_counts_as_a_change() {
        let catalogue = Catalogue::default();
        let changes = catalogue.changes();
        let one = tool(r#"{"name": "t", "inputSchema": {}, "annotations": {"readOnlyHint": true}}"#);
        assert!(one.read_only && !one.idempotent);
        catalogue.put("s", vec![one.clone()]);
        catalogue.put("s", vec![one]);
        assert_eq!(*changes.borrow(), 1);
        catalogue.remove("s");
        assert_eq!(*changes.borrow(), 2);
        assert!(catalogue.all().is_empty());
    }
}
