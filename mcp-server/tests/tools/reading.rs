//! Resources and prompts.

use rmcp::{
    model::{GetPromptRequestParams, ReadResourceRequestParams},
    service::ServiceError,
};
use serde_json::{Value, json};

use crate::{
    isolation::Site,
    outputs::RESOURCE,
    support::{Chat, read, task},
};

#[tokio::test]
async fn a_task_and_its_run_are_read_as_resources_that_the_list_names() {
    let chat = Chat::start().await;
    let created = chat.ok("create_task", task("Briefing", json!({}))).await;
    let run = chat.ok("run_now", json!({ "task": "briefing" })).await["run"]["id"].as_str().unwrap().to_owned();
    let listed: Vec<_> = chat.client.list_all_resources().await.unwrap().into_iter().map(|it| it.uri).collect();
    let uri = format!("ordinaut://tasks/{}", created["task"]["id"].as_str().unwrap());
    let fixed = ["ordinaut://guide/pipelines", "ordinaut://schema/task", "ordinaut://schema/outputs"];
    assert_eq!((&listed[..3], &listed[3..]), (&fixed.map(str::to_owned)[..], &[uri.clone()][..]));
    let shown: Value = serde_json::from_str(&read(&chat.client, &uri).await).unwrap();
    assert_eq!(shown["definition"]["title"], "Briefing");
    let shown: Value = serde_json::from_str(&read(&chat.client, &format!("ordinaut://runs/{run}")).await).unwrap();
    assert_eq!(shown["run"]["state"], "pending");
    assert!(read(&chat.client, "ordinaut://guide/pipelines").await.contains("# Writing a task"));
    let schema: Value = serde_json::from_str(&read(&chat.client, "ordinaut://schema/task").await).unwrap();
    assert!(schema["$defs"]["Step"]["properties"]["uses"].is_object());
    assert_eq!(chat.client.list_all_resource_templates().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_error_of_a_resource_names_its_address() {
    let chat = Chat::start().await;
    let nobodys = "ordinaut://tasks/019ab2c4-5d00-7000-8f1e-2a6b7c8d9e0f";
    for nowhere in ["ordinaut://tasks/briefing", nobodys, "ordinaut://runs/x", "file:///etc/passwd"] {
        match chat.client.read_resource(ReadResourceRequestParams::new(nowhere)).await.unwrap_err() {
            ServiceError::McpError(error) => assert_eq!(error.data, Some(json!({ "uri": nowhere }))),
            other => panic!("{nowhere}: {other}"),
        }
    }
}

#[tokio::test]
async fn prompts_are_filled_in_and_say_what_they_need() {
    let chat = Chat::start().await;
    let prompts = chat.client.list_all_prompts().await.unwrap();
    let names: Vec<_> = prompts.iter().map(|prompt| prompt.name.as_str()).collect();
    assert_eq!(names, ["schedule_something", "morning_briefing", "diagnose_task", "weekly_review"]);
    let arguments = json!({ "topics": "weather" }).as_object().unwrap().clone();
    let request = GetPromptRequestParams::new("morning_briefing").with_arguments(arguments);
    let prompt = chat.client.get_prompt(request).await.unwrap();
    let text = &prompt.messages[0].content.as_text().unwrap().text;
    assert!(text.contains("about: weather") && !text.contains("{time}"), "{text}");
    assert!(chat.client.get_prompt(GetPromptRequestParams::new("diagnose_task")).await.is_err());
}

#[tokio::test]
async fn the_schemas_of_answers_are_those_of_the_tools_that_a_token_sees() {
    let site = Site::start().await;
    for (scopes, shown) in
        [(&["event:publish"][..], vec!["publish_event"]), (&["approval:answer"], vec!["answer_approval"])]
    {
        let client = site.agent(scopes[0], scopes).await;
        let outputs: Value = serde_json::from_str(&read(&client, RESOURCE).await).unwrap();
        assert_eq!(outputs["tools"].as_object().unwrap().keys().collect::<Vec<_>>(), shown);
        assert_eq!(outputs["refusal"]["properties"]["next"]["type"], "string");
        client.cancel().await.unwrap();
    }
    site.end([]).await;
}

#[tokio::test]
async fn every_field_of_an_answer_is_described_by_a_closed_schema() {
    fn closed(schema: &Value, path: &str) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        assert_eq!(schema["additionalProperties"], json!(false), "{path}");
        for (name, field) in properties {
            let path = format!("{path}.{name}");
            assert!(field["description"].as_str().is_none_or(|it| it.len() > 2), "{path}");
            closed(field, &path);
            closed(&field["items"], &format!("{path}[]"));
        }
    }
    let chat = Chat::start().await;
    let outputs: Value = serde_json::from_str(&read(&chat.client, RESOURCE).await).unwrap();
    let tools = outputs["tools"].as_object().unwrap();
    let listed: Vec<_> = chat.client.list_all_tools().await.unwrap().iter().map(|tool| tool.name.to_string()).collect();
    assert_eq!(tools.keys().cloned().collect::<Vec<_>>(), listed);
    for (tool, schema) in tools {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{tool}");
        assert!(schema["required"].to_string().contains("\"now\""), "{tool}");
        closed(schema, tool);
    }
    closed(&outputs["refusal"], "refusal");
}
