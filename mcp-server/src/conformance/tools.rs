//! Which tools the suite calls, with what its scenarios say of their schemas.

use std::sync::Arc;

use rmcp::model::Tool;
use serde_json::{Value, json};

/// Name and what it does.
const ALL: [(&str, &str); 27] = [
    ("test_simple_text", "Answers with text"),
    ("test_image_content", "Answers with an image"),
    ("test_audio_content", "Answers with a sound"),
    ("test_embedded_resource", "Answers with a resource"),
    ("test_multiple_content_types", "Answers with text, an image and a resource"),
    ("test_error_handling", "Fails"),
    ("test_tool_with_logging", "Logs three times"),
    ("test_logging_tool", "Logs where the request asks for it"),
    ("test_tool_with_progress", "Tells its progress"),
    ("test_trigger_tool_change", "Says that the list of tools changed"),
    ("test_trigger_prompt_change", "Says that the list of prompts changed"),
    ("test_elicitation_sep1034_defaults", "Asks by a form with default values"),
    ("test_elicitation_sep1330_enums", "Asks by a form with choices"),
    ("test_missing_capability", "Needs a client that samples"),
    ("test_streaming_elicitation", "Asks for a name, for clients that stream"),
    ("test_input_required_result_elicitation", "Asks for a name"),
    ("test_input_required_result_sampling", "Asks the client's model"),
    ("test_input_required_result_list_roots", "Asks for the client's roots"),
    ("test_input_required_result_request_state", "Asks, and knows its own question again"),
    ("test_input_required_result_multiple_inputs", "Asks for three things at once"),
    ("test_input_required_result_multi_round", "Asks twice, one after the other"),
    ("test_input_required_result_tampered_state", "Asks, and refuses a question that is not its own"),
    ("test_input_required_result_capabilities", "Asks for what the client declares, and no more"),
    ("json_schema_2020_12_tool", "Has a schema of many words"),
    ("test_header_parameter", "Has a parameter that travels as a header too"),
    ("test_sampling", "Asks the client's model while the call waits"),
    ("test_elicitation", "Asks by a form while the call waits"),
];

pub(super) fn all() -> Vec<Tool> {
    ALL.iter().map(|(name, description)| tool(name, description)).collect()
}

pub(super) fn find(name: &str) -> Option<Tool> {
    ALL.iter().find(|(known, _)| *known == name).map(|(name, description)| tool(name, description))
}

fn tool(name: &'static str, description: &'static str) -> Tool {
    let Value::Object(schema) = schema(name) else { unreachable!("an input schema is an object") };
    Tool::new(name, description, Arc::new(schema.into_iter().collect()))
}

fn schema(tool: &str) -> Value {
    let one =
        |name: &str, schema: Value| json!({ "type": "object", "properties": { name: schema }, "required": [name] });
    match tool {
        "test_sampling" => one("prompt", json!({ "type": "string" })),
        "test_elicitation" => one("message", json!({ "type": "string" })),
        "test_header_parameter" => one("region", json!({ "type": "string", "x-mcp-header": "Region" })),
        "json_schema_2020_12_tool" => many_words(),
        _ => json!({ "type": "object", "properties": {} }),
    }
}

/// Every keyword that the suite looks for.
fn many_words() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}
