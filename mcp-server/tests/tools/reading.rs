//! Resources and prompts.

use rmcp::{
    model::{GetPromptRequestParams, ReadResourceRequestParams, ResourceContents},
    service::ServiceError,
};
use serde_json::{Value, json};

use crate::support::{Chat, task};

async fn read(chat: &Chat, uri: &str) -> String {
    let result = chat.client.read_resource(ReadResourceRequestParams::new(uri)).await.unwrap();
    match &result.contents[0] {
        ResourceContents::TextResourceContents { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_task_and_its_run_are_read_as_resources_that_the_list_names() {
    let chat = Chat::start().await;
    let created = chat.ok("create_task", task("Briefing", json!({}))).await;
    let run = chat.ok("run_now", json!({ "task": "briefing" })).await["run"]["id"].as_str().unwrap().to_owned();
    let listed: Vec<_> = chat.client.list_all_resources().await.unwrap().into_iter().map(|it| it.uri).collect();
    let uri = format!("ordinaut://tasks/{}", created["task"]["id"].as_str().unwrap());
    assert_eq!(listed, ["ordinaut://guide/pipelines", "ordinaut://schema/task", &uri]);
    let shown: Value = serde_json::from_str(&read(&chat, &uri).await).unwrap();
    assert_eq!(shown["definition"]["title"], "Briefing");
    let shown: Value = serde_json::from_str(&read(&chat, &format!("ordinaut://runs/{run}")).await).unwrap();
    assert_eq!(shown["run"]["state"], "pending");
    assert!(read(&chat, "ordinaut://guide/pipelines").await.contains("# Writing a task"));
    let schema: Value = serde_json::from_str(&read(&chat, "ordinaut://schema/task").await).unwrap();
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
