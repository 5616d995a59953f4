//! Whether what a tool answered is what the resource `ordinaut://schema/outputs` says of it.

use std::collections::BTreeMap;

use jsonschema::Validator;
use rmcp::model::CallToolResult;
use serde_json::Value;

pub(crate) const RESOURCE: &str = "ordinaut://schema/outputs";

/// The resource, ready to judge by.
pub(crate) struct Outputs {
    tools: BTreeMap<String, Validator>,
    refusal: Validator,
}

impl Outputs {
    pub(crate) fn new(resource: &str) -> Self {
        let resource: Value = serde_json::from_str(resource).unwrap();
        let tools = resource["tools"].as_object().unwrap().iter();
        Self {
            tools: tools.map(|(tool, schema)| (tool.clone(), validator(schema))).collect(),
            refusal: validator(&resource["refusal"]),
        }
    }

    /// # Panics
    /// The result has a field that nobody described, or lacks one that was promised.
    pub(crate) fn judge(&self, tool: &str, result: &CallToolResult) {
        // A tool that is not there, say, has no content to judge.
        let Some(content) = &result.structured_content else { return };
        let schema = if result.is_error == Some(true) { Some(&self.refusal) } else { self.tools.get(tool) };
        let schema = schema.unwrap_or_else(|| panic!("{tool} has no output schema"));
        let wrong: Vec<_> = schema.iter_errors(content).map(|it| format!("{}: {it}", it.instance_path())).collect();
        assert!(wrong.is_empty(), "{tool} answered what its output schema does not say: {wrong:#?}\n{content:#}");
    }
}

fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}
