//! What a server offers: read-only, by groups, and to a token by its scopes; nothing told names what is hidden.

use std::collections::BTreeSet;

use ordinaut_mcp::{
    backend::Backend,
    server::OrdinautServer,
    surface::{Group, Surface},
    telemetry::Metrics,
};
use rmcp::{RoleClient, model::GetPromptRequestParams, service::RunningService};
use serde_json::json;

use crate::{
    isolation::Site,
    matrix,
    support::{call, chisinau, connect, read, task, tools},
};

async fn offering(surface: Surface) -> RunningService<RoleClient, ()> {
    let (_starter, backend) = Backend::starting("nothing");
    connect(OrdinautServer::local(backend, Metrics::new().unwrap(), chisinau()).offering(surface)).await
}

async fn names(client: &RunningService<RoleClient, ()>) -> Vec<String> {
    client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.to_string()).collect()
}

/// Everything that a client's model reads before its first call: instructions, prompts, what the tools say of themselves,
/// and the guide.
async fn told(client: &RunningService<RoleClient, ()>) -> String {
    let mut told = client.peer_info().unwrap().instructions.clone().unwrap();
    for prompt in client.list_all_prompts().await.unwrap() {
        let needed = prompt.arguments.iter().flatten().map(|it| (it.name.clone(), json!("x"))).collect();
        let got = client.get_prompt(GetPromptRequestParams::new(prompt.name).with_arguments(needed)).await.unwrap();
        told.push_str(&json!(got.messages).to_string());
    }
    for tool in client.list_all_tools().await.unwrap() {
        told.push_str(tool.description.as_deref().unwrap());
        for (name, field) in tool.input_schema["properties"].as_object().unwrap() {
            let about = field["description"].as_str().unwrap();
            assert!(about.len() > 5, "{}.{name} is described to whom sees it", tool.name);
            told.push('\n');
            told.push_str(about);
        }
    }
    told + &read(client, GUIDE).await
}

/// Everything that the tools which a client lists say when they are called wrongly, and for what is not there.
async fn refusals(client: &RunningService<RoleClient, ()>) -> String {
    let mut told = String::new();
    for (tool, _, arguments) in matrix::tools() {
        if names(client).await.iter().all(|listed| listed != tool) {
            continue;
        }
        for arguments in [json!({}), json!({ "run": "x", "cursor": "x", "uses": "y" }), arguments] {
            let called = call(client, tool, arguments).await;
            // Its own name it may say; everything else of an answer that is data stands in the structured content.
            let said = called.text.replace(&format!("`{tool}`"), "it");
            told.push_str(if called.refused || tool != "list_actions" { &said } else { "" });
        }
    }
    told
}

const GUIDE: &str = "ordinaut://guide/pipelines";

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

fn names_only(listed: &[String], told: &str) {
    for (tool, ..) in matrix::tools() {
        assert!(!words(told).contains(tool) || listed.iter().any(|it| it == tool), "{tool} is told of in: {told}");
    }
}

async fn names_only_what_it_lists(client: &RunningService<RoleClient, ()>) {
    let listed = names(client).await;
    names_only(&listed, &told(client).await);
    let guide = read(client, GUIDE).await;
    for tool in &listed {
        assert!(words(&guide).contains(&**tool), "{tool} is not in the guide: {guide}");
    }
    assert!(guide.contains("```yaml\ntitle: Weekday morning briefing\n"), "{guide}");
}

#[tokio::test]
async fn a_read_only_server_offers_the_tools_that_change_nothing() {
    let reading: Vec<_> = tools()
        .await
        .into_iter()
        // The inbox is looked into, and not acknowledged.
        .filter(|tool| tool.name == "check_inbox" || tool.annotations.as_ref().unwrap().read_only_hint == Some(true))
        .map(|tool| tool.name.to_string())
        .collect();
    let client = offering(Surface { read_only: true, groups: Vec::new() }).await;
    assert_eq!(names(&client).await, reading);
    assert_eq!(reading.len(), 7, "{reading:?}");
    names_only_what_it_lists(&client).await;
    // It still reads: the templates of what it shows are there, and how to diagnose.
    assert_eq!(client.list_all_resource_templates().await.unwrap().len(), 2);
    assert!(told(&client).await.contains("get_task"));

    for tool in client.list_all_tools().await.unwrap() {
        assert_eq!(tool.annotations.as_ref().unwrap().read_only_hint, Some(true), "{}", tool.name);
        assert!(!tool.input_schema["properties"].as_object().unwrap().contains_key("ack_through"), "{}", tool.name);
    }

    let refused = call(&client, "create_task", task("X", json!({}))).await;
    assert_eq!(refused.code(), "not_offered", "{}", refused.text);
    assert!(refused.text.contains("--read-only"), "{}", refused.text);
}

#[tokio::test]
async fn groups_are_offered_alone_and_together_in_one_order() {
    let all = names(&offering(Surface::default()).await).await;
    let mut each = Vec::new();
    for group in Group::ALL {
        let client = offering(Surface { read_only: false, groups: vec![group] }).await;
        let own = names(&client).await;
        assert!(!own.is_empty(), "{group}");
        names_only_what_it_lists(&client).await;
        each.extend(own);
    }
    each.sort();
    assert_eq!(each, all, "each tool is of one group");

    let mixed = |groups| offering(Surface { read_only: true, groups });
    let there = mixed(vec![Group::Tasks, Group::Runs]).await;
    assert_eq!(names(&there).await, ["get_run", "get_task", "list_runs", "list_tasks"]);
    assert_eq!(names(&there).await, names(&mixed(vec![Group::Runs, Group::Tasks]).await).await);
    let runs = mixed(vec![Group::Runs]).await;
    assert_eq!(runs.list_all_resource_templates().await.unwrap().len(), 1, "a task is no resource of it");
    let refused = call(&runs, "get_task", json!({ "task": "x" })).await;
    assert_eq!(refused.code(), "not_offered", "{}", refused.text);
    assert!(refused.text.contains("`tasks`"), "{}", refused.text);
}

#[tokio::test]
async fn a_token_is_shown_the_tools_that_its_scopes_allow() {
    let site = Site::start().await;
    let mut clients = Vec::new();
    for scope in matrix::SCOPES {
        let client = site.agent(&format!("only {scope}"), &[scope]).await;
        let allowed = matrix::tools().into_iter().filter(|(_, scopes, _)| scopes.contains(&scope));
        let allowed: Vec<String> = allowed.map(|it| it.0.to_owned()).collect();
        assert_eq!(names(&client).await, allowed, "{scope}");
        names_only_what_it_lists(&client).await;
        names_only(&allowed, &refusals(&client).await);
        clients.push(client);
    }
    site.end(clients).await;
}
