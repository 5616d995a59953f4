//! Tools that ask the client while the call waits, as revisions up to 2025-11-25 do.
#![expect(deprecated, reason = "the suite still samples, which a later revision dropped")]

use std::time::Duration;

use rmcp::{
    RoleServer,
    model::{
        CallToolResult, ContentBlock, CreateMessageRequestParams, ElicitRequestParams, ElicitResult, ElicitationSchema,
        JsonObject, SamplingMessage,
    },
    service::{RequestContext, ServiceError},
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// The suite answers at once, or never.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer of the tool of that name, if it is one of these.
pub(super) async fn answer(
    tool: &str,
    arguments: &JsonObject,
    context: &RequestContext<RoleServer>,
) -> Option<CallToolResult> {
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let told = match tool {
        "test_sampling" => sample(argument("prompt"), context).await.map(|text| format!("LLM response: {text}")),
        "test_elicitation" => elicit(argument("message"), user(), context).await.map(|it| shown("User response", &it)),
        "test_elicitation_sep1034_defaults" => {
            let asked = elicit("Every field has a default".to_owned(), defaults(), context).await;
            asked.map(|it| shown("Elicitation completed", &it))
        }
        "test_elicitation_sep1330_enums" => {
            let asked = elicit("Every field is a choice".to_owned(), choices(), context).await;
            asked.map(|it| shown("Elicitation completed", &it))
        }
        _ => return None,
    };
    Some(match told {
        Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
        Err(error) => CallToolResult::error(vec![ContentBlock::text(format!("the client was asked: {error}"))]),
    })
}

async fn sample(prompt: String, context: &RequestContext<RoleServer>) -> Result<String, ServiceError> {
    let request = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], 100);
    let answered = timeout(PATIENCE, context.peer.create_message(request)).await;
    let answer = answered.map_err(|_elapsed| ServiceError::Timeout { timeout: PATIENCE })??;
    Ok(answer.message.content.first().and_then(|it| it.as_text()).map(|it| it.text.clone()).unwrap_or_default())
}

async fn elicit(
    message: String,
    schema: Value,
    context: &RequestContext<RoleServer>,
) -> Result<ElicitResult, ServiceError> {
    let requested_schema: ElicitationSchema = serde_json::from_value(schema).expect("a fixture's form is one");
    let form = ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema };
    context.peer.create_elicitation_with_timeout(form, Some(PATIENCE)).await
}

fn shown(what: &str, answer: &ElicitResult) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let content = json!(answer.content);
    format!("{what}: action={}, content={content}", word(&json!(answer.action)))
}

fn user() -> Value {
    json!({
        "type": "object",
        "properties": {
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        },
        "required": ["username", "email"],
    })
}

/// SEP-1034: one field of each kind, with its default.
fn defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
            "verified": { "type": "boolean", "default": true },
        },
    })
}

/// SEP-1330: choices in each of the five ways.
fn choices() -> Value {
    let titled = |what: &str| {
        json!([
            { "const": "value1", "title": format!("First {what}") },
            { "const": "value2", "title": format!("Second {what}") },
            { "const": "value3", "title": format!("Third {what}") },
        ])
    };
    let plain = json!(["option1", "option2", "option3"]);
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": plain },
            "titledSingle": { "type": "string", "oneOf": titled("Option") },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": { "type": "array", "items": { "type": "string", "enum": plain } },
            "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
        },
    })
}
