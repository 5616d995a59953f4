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
    support::{call, chisinau, connect, task, tools},
};

async fn offering(surface: Surface) -> RunningService<RoleClient, ()> {
    let (_starter, backend) = Backend::starting("nothing");
    connect(OrdinautServer::local(backend, Metrics::new().unwrap(), chisinau()).offering(surface)).await
}

async fn names(client: &RunningService<RoleClient, ()>) -> Vec<String> {
    client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.to_string()).collect()
}

/// Everything that a client's model reads before its first call: instructions and prompts.
async fn told(client: &RunningService<RoleClient, ()>) -> String {
    let mut told = client.peer_info().unwrap().instructions.clone().unwrap();
    for prompt in client.list_all_prompts().await.unwrap() {
        let needed = prompt.arguments.iter().flatten().map(|it| (it.name.clone(), json!("x"))).collect();
        let got = client.get_prompt(GetPromptRequestParams::new(prompt.name).with_arguments(needed)).await.unwrap();
        told.push_str(&json!(got.messages).to_string());
    }
    told
}

async fn names_only_what_it_lists(client: &RunningService<RoleClient, ()>) {
    let (listed, told) = (names(client).await, told(client).await);
    let words: BTreeSet<_> = told.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for tool in matrix::tools() {
        assert!(!words.contains(tool.0) || listed.iter().any(|it| it == tool.0), "{} is told of in: {told}", tool.0);
    }
}

#[tokio::test]
async fn a_read_only_server_offers_the_tools_that_change_nothing() {
    let reading: Vec<_> = tools()
        .await
        .into_iter()
        .filter(|tool| tool.annotations.as_ref().unwrap().read_only_hint == Some(true))
        .map(|tool| tool.name.to_string())
        .collect();
    let client = offering(Surface { read_only: true, groups: Vec::new() }).await;
    assert_eq!(names(&client).await, reading);
    assert_eq!(reading.len(), 6, "{reading:?}");
    names_only_what_it_lists(&client).await;
    // It still reads: the templates of what it shows are there, and how to diagnose.
    assert_eq!(client.list_all_resource_templates().await.unwrap().len(), 2);
    assert!(told(&client).await.contains("get_task"));

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
        let allowed: Vec<_> =
            matrix::tools().into_iter().filter(|(_, scopes, _)| scopes.contains(&scope)).map(|it| it.0).collect();
        assert_eq!(names(&client).await, allowed, "{scope}");
        names_only_what_it_lists(&client).await;
        clients.push(client);
    }
    site.end(clients).await;
}
