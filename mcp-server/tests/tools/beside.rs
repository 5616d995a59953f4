//! An agent whose calls are all stuck, and another beside it.

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    isolation::Site,
    push::until_followers,
    support::{call, task},
};

/// More than the database has connections for.
const CALLS: usize = 20;

#[tokio::test]
async fn an_agent_whose_calls_are_stuck_leaves_the_database_to_others() {
    let site = Site::start().await;
    let scopes = ["task:read", "task:write"];
    let (agent, token) = site.add("stuck", &scopes).await;
    let calm = site.agent("calm", &scopes).await;
    let stuck = rmcp::ServiceExt::serve((), site.transport(token)).await.unwrap();
    assert!(!call(&stuck, "create_task", task("Held", json!({}))).await.refused);
    let held = site.store.hold_tasks(agent).await;
    let mut waiting = JoinSet::new();
    for _ in 0..CALLS {
        let peer = stuck.peer().clone();
        waiting.spawn(async move {
            let arguments = json!({ "task": "Held" }).as_object().cloned().unwrap();
            peer.call_tool(rmcp::model::CallToolRequestParams::new("pause").with_arguments(arguments)).await
        });
    }
    // As many as an agent may have at once.
    site.store.until_waiting(3).await;
    for title in ["One", "Another"] {
        let created = call(&calm, "create_task", task(title, json!({}))).await;
        assert!(!created.refused, "{}", created.text);
    }
    assert!(waiting.try_join_next().is_none(), "what the others waited for was over");
    drop(held);
    while let Some(answered) = waiting.join_next().await {
        assert_ne!(answered.unwrap().unwrap().is_error, Some(true));
    }
    site.end([stuck, calm]).await;
}

/// More than an agent has turns.
const WAITS: u64 = 5;

#[tokio::test]
async fn calls_that_wait_for_a_run_leave_their_turns_to_others() {
    let site = Site::start().await;
    let ann = site.agent("ann", &["task:read", "task:write", "run:control"]).await;
    let definition = task("Long", json!({ "overlap": "allow" }));
    assert!(!call(&ann, "create_task", definition).await.refused);
    let mut waiting = JoinSet::new();
    for _ in 0..WAITS {
        let peer = ann.peer().clone();
        waiting.spawn(async move {
            let arguments = json!({ "task": "Long", "wait": 60 }).as_object().cloned().unwrap();
            peer.call_tool(rmcp::model::CallToolRequestParams::new("run_now").with_arguments(arguments)).await
        });
    }
    until_followers(&site, WAITS).await;
    let runs = call(&ann, "list_runs", json!({ "task": "Long" })).await;
    assert!(!runs.refused, "{}", runs.text);
    assert!(waiting.try_join_next().is_none(), "what was waited for is over");
    for run in runs.content["runs"].as_array().unwrap() {
        assert!(!call(&ann, "cancel_run", json!({ "run": run["id"] })).await.refused);
    }
    while let Some(answered) = waiting.join_next().await {
        assert_ne!(answered.unwrap().unwrap().is_error, Some(true));
    }
    site.end([ann]).await;
}
