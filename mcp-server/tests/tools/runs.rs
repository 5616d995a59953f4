//! Runs: asked for once, read safely, stopped.

use ordinaut_schema::{
    id::{OccurrenceKey, RunId},
    run::RunState,
};
use ordinaut_store::Caller;
use serde_json::json;

use crate::support::{Chat, task};

#[tokio::test]
async fn a_run_is_asked_for_once_under_a_request_id() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    let first = chat.ok("run_now", json!({ "task": "briefing", "request_id": "now" })).await;
    assert_eq!((first["outcome"].as_str(), first["run"]["state"].as_str()), (Some("planned"), Some("pending")));
    let again = chat.ok("run_now", json!({ "task": "briefing", "request_id": "now" })).await;
    assert_eq!((again["outcome"].as_str(), &again["run"]["id"]), (Some("existed"), &first["run"]["id"]));
    let runs = chat.ok("list_runs", json!({ "task": "briefing" })).await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1);

    chat.ok("create_task", task("Other", json!({}))).await;
    let refused = chat.refused("run_now", json!({ "task": "other", "request_id": "now" })).await;
    assert_eq!(refused.code(), "request_id_used");
}

#[tokio::test]
async fn waiting_for_a_run_has_an_end() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    // Nothing executes it: the wait ends by itself, and says how the run stands.
    let waited = chat.ok("run_now", json!({ "task": "briefing", "wait": 1 })).await;
    assert_eq!(waited["run"]["state"], "pending");
    assert_eq!(chat.refused("run_now", json!({ "task": "briefing", "wait": 61 })).await.code(), "invalid_arguments");
}

#[tokio::test]
async fn a_pending_run_is_cancelled_at_once_and_a_running_one_is_asked() {
    let chat = Chat::start().await;
    let created = chat.ok("create_task", task("Briefing", json!({ "overlap": "allow" }))).await;
    let run = chat.ok("run_now", json!({ "task": "briefing" })).await["run"]["id"].clone();
    assert_eq!(chat.ok("cancel_run", json!({ "run": run, "reason": "no" })).await["outcome"], "cancelled");
    assert_eq!(chat.ok("cancel_run", json!({ "run": run })).await["outcome"], "over");
    let shown = chat.ok("get_run", json!({ "run": run })).await;
    assert_eq!(
        (shown["run"]["state"].as_str(), shown["run"]["error_kind"].as_str()),
        (Some("cancelled"), Some("cancelled"))
    );

    let (caller, named) = (Caller::local("test"), created["task"]["id"].as_str().unwrap().into());
    let task = chat.store.mcp.find_task(&caller, &named).await.unwrap();
    let at = "2026-01-01T00:00:00Z".parse().unwrap();
    let running = chat.store.plant_run(&task, &OccurrenceKey::at(at), at, RunState::Running).await;
    assert_eq!(chat.ok("cancel_run", json!({ "run": running })).await["outcome"], "requested");
}

#[tokio::test]
async fn a_run_that_is_not_there_is_refused_as_such() {
    let chat = Chat::start().await;
    let nowhere = RunId::floor("2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(chat.refused("get_run", json!({ "run": nowhere })).await.code(), "run_not_found");
    let refused = chat.refused("get_run", json!({ "run": "latest" })).await;
    assert!(refused.text.contains("list_runs"), "{}", refused.text);
    assert_eq!(chat.refused("get_run", json!({})).await.faults(), [("$.run", "missing_field")]);
}

#[tokio::test]
async fn a_run_asked_for_twice_under_one_dedupe_key_is_answered_with_the_first() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({ "dedupe_key": "briefing" }))).await;
    let first = chat.ok("run_now", json!({ "task": "briefing" })).await;
    let second = chat.call("run_now", json!({ "task": "briefing", "wait": 1 })).await;
    assert!(!second.refused, "{}", second.text);
    assert_eq!(second.content["outcome"], "duplicate");
    assert_eq!(second.content["duplicate_of"], first["run"]["id"]);
    assert_eq!(second.content["run"]["state"], "pending");
    assert!(second.text.contains("Nothing was started") && second.text.contains("less than 1h ago"), "{}", second.text);
    let listed = chat.ok("list_runs", json!({ "task": "briefing" })).await;
    assert_eq!(listed["runs"][0]["skip_reason"], "duplicate");
}

#[tokio::test]
async fn a_tasks_health_counts_its_last_twenty_occurrences_with_those_being_skipped() {
    let chat = Chat::start().await;
    let definition = json!({ "schedule_kind": "interval", "schedule_expr": "1h", "overlap": "allow" });
    chat.ok("create_task", task("Briefing", definition)).await;
    let health = async || chat.ok("get_task", json!({ "task": "briefing" })).await;
    assert_eq!(health().await["health"], "It has not run yet.");
    // Failed, and its retry goes on: one occurrence.
    let first = chat.ok("run_now", json!({ "task": "briefing" })).await["run"]["id"].as_str().unwrap().to_owned();
    chat.ok("cancel_run", json!({ "run": first })).await;
    assert_eq!(health().await["health"], "Of the last 1 occurrence: 1 cancelled.");
    chat.ok("retry_run", json!({ "run": first })).await;
    assert_eq!(health().await["health"], "Of the last 1 occurrence: 1 pending.");
    chat.store.skipping("Briefing", 3).await;
    let shown = health().await;
    assert_eq!(shown["health"], "Of the last 4 occurrences: 3 skipped: overlap, 1 pending.");
    assert_eq!(
        (&shown["open_stretch"]["reason"], &shown["open_stretch"]["occurrences"]),
        (&json!("overlap"), &json!(3))
    );
    assert_eq!(shown["task"]["next"].as_array().unwrap().len(), 3);
    assert_eq!(shown["last_runs"].as_array().unwrap().len(), 2);
    chat.store.skipping("Briefing", 5000).await;
    assert_eq!(health().await["health"], "Of the last 20 occurrences: 20 skipped: overlap.");
}
