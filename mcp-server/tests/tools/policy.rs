//! What holds for every tool: a model reads their schemas, and people are asked by their annotations.

use serde_json::{Value, json};

use crate::support::{Chat, tools};

const TOOLS: [&str; 18] = [
    "answer_approval",
    "cancel",
    "cancel_run",
    "check_inbox",
    "create_task",
    "get_run",
    "get_task",
    "list_actions",
    "list_runs",
    "list_tasks",
    "pause",
    "preview_schedule",
    "publish_event",
    "resume",
    "retry_run",
    "run_now",
    "snooze",
    "update_task",
];

/// What `tools/list` may weigh.
const BUDGET: usize = 24_000;

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a reviewer reads how much is left")]
async fn the_tools_are_listed_in_one_order_within_the_budget() {
    let tools = tools().await;
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(names, TOOLS);
    let bytes = json!({ "tools": tools }).to_string().len();
    eprintln!("tools/list: {bytes} bytes of {BUDGET}");
    assert!(bytes <= BUDGET, "{bytes} bytes");
}

#[tokio::test]
async fn tool_schemas_match_their_snapshots() {
    for tool in tools().await {
        // One file per tool: a reviewer sees exactly which contract changed.
        insta::assert_json_snapshot!(tool.name.as_ref(), tool);
    }
}

#[tokio::test]
async fn every_field_is_described_with_an_example_and_every_schema_is_flat() {
    for tool in tools().await {
        let name = tool.name.as_ref();
        let schema = Value::Object(tool.input_schema.as_ref().clone());
        assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)), "{name}");
        let text = schema.to_string();
        for forbidden in ["$ref", "$defs", "anyOf", "oneOf", "\"null\"", "nullable"] {
            assert!(!text.contains(forbidden), "{name} has {forbidden}");
        }
        for (field, described) in schema["properties"].as_object().unwrap() {
            let example = &described["examples"][0];
            assert!(described["description"].as_str().is_some_and(|it| it.len() > 5), "{name}.{field}");
            let fits = match described["type"].as_str().unwrap() {
                "string" => example.is_string(),
                "integer" => example.is_u64(),
                "number" => example.is_number(),
                "boolean" => example.is_boolean(),
                "array" => example.is_array() && described["items"]["type"].is_string(),
                "object" => example.is_object(),
                other => panic!("{name}.{field} is a {other}"),
            };
            assert!(fits, "{name}.{field}: {example}");
        }
        for needed in schema["required"].as_array().into_iter().flatten() {
            assert!(schema["properties"].get(needed.as_str().unwrap()).is_some(), "{name}: {needed}");
        }
    }
}

#[tokio::test]
async fn every_tool_is_titled_described_and_annotated() {
    for tool in tools().await {
        let name = tool.name.clone();
        assert!(tool.title.is_some_and(|title| !title.is_empty()), "{name}");
        assert!(tool.description.is_some_and(|it| it.len() > 15), "{name}");
        let hints = tool.annotations.unwrap();
        let read_only = hints.read_only_hint.unwrap();
        assert_eq!(
            read_only,
            name.starts_with("get_") || name.starts_with("list_") || name == "preview_schedule",
            "{name}"
        );
        assert_eq!(hints.destructive_hint.unwrap(), name.starts_with("cancel"), "{name}");
        assert!(hints.idempotent_hint.is_some() && hints.open_world_hint.is_some(), "{name}");
    }
}

#[tokio::test]
async fn every_tool_refuses_an_argument_that_it_does_not_have() {
    let chat = Chat::start().await;
    for name in TOOLS {
        let refused = chat.refused(name, json!({ "surprise": 1 })).await;
        assert!(refused.faults().contains(&("$.surprise", "unknown_field")), "{name}: {}", refused.text);
        assert!(refused.content["next"].as_str().is_some_and(|next| !next.is_empty()), "{name}");
        assert!(refused.content["now"].is_string(), "{name}");
    }
}
