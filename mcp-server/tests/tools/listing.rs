//! Lists, after what they show has changed: what was worked out of a definition before is shown of that one only.

use serde_json::{Value, json};

use crate::support::{Chat, task};

/// The only task there is, as the list has it, which is what `get_task` says of it.
async fn listed(chat: &Chat) -> Value {
    let listed = chat.ok("list_tasks", json!({})).await["tasks"][0].clone();
    let shown = chat.ok("get_task", json!({ "task": listed["id"] })).await["task"].clone();
    assert_eq!(listed["schedule"], shown["schedule"]["sentence"]);
    assert_eq!(listed["next"], shown["next"][0]["local"]);
    for field in ["title", "state", "revision"] {
        assert_eq!(listed[field], shown[field], "{field}");
    }
    listed
}

#[tokio::test]
async fn a_list_follows_every_change_of_a_task() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    let before = listed(&chat).await;

    chat.ok("update_task", json!({ "task": "briefing", "changes": { "schedule_expr": "15 9 * * *" } })).await;
    let edited = listed(&chat).await;
    assert_ne!(edited["schedule"], before["schedule"]);

    chat.ok("snooze", json!({ "task": "briefing", "skip": 2 })).await;
    let snoozed = listed(&chat).await;
    assert_ne!(snoozed["next"], edited["next"]);

    chat.ok("update_task", json!({ "task": "briefing", "changes": { "title": "Report", "max_runs": 1 } })).await;
    assert_eq!(listed(&chat).await["title"], "Report");
    chat.ok("pause", json!({ "task": "report" })).await;
    assert!(listed(&chat).await["next"].is_null());
}

/// PostgreSQL's clock was set back, and came to the same microsecond again.
#[tokio::test]
async fn a_revision_that_was_written_at_the_instant_of_another_is_not_taken_for_it() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    let at_once = "update task set updated_at = created_at";
    chat.database.run_sql(at_once).await.unwrap();
    let before = listed(&chat).await;
    chat.ok("update_task", json!({ "task": "briefing", "changes": { "schedule_expr": "15 9 * * *" } })).await;
    chat.database.run_sql(at_once).await.unwrap();
    assert_ne!(listed(&chat).await["schedule"], before["schedule"]);
}

#[tokio::test]
async fn tasks_that_were_written_at_the_same_instant_are_not_taken_for_each_other() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    chat.ok("create_task", task("Report", json!({ "schedule_expr": "15 9 * * *" }))).await;
    chat.database.run_sql("update task set updated_at = '2026-01-01 00:00:00+00'").await.unwrap();
    // What the first list kept, the second one shows.
    chat.ok("list_tasks", json!({})).await;
    for task in chat.ok("list_tasks", json!({})).await["tasks"].as_array().unwrap() {
        let shown = chat.ok("get_task", json!({ "task": task["id"] })).await["task"].clone();
        assert_eq!(task["schedule"], shown["schedule"]["sentence"], "{}", task["title"]);
    }
}

/// A backup was restored under a server that went on: its revision 2 is another one.
#[tokio::test]
async fn a_revision_that_came_back_otherwise_is_not_taken_for_the_one_that_was_listed() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    let before = listed(&chat).await;
    let restored = "
        with revision as (
            update task_revision set definition = definition || '{\"schedule_expr\": \"15 9 * * *\"}'
        )
        update task set updated_at = updated_at + interval '1 microsecond'
    ";
    chat.database.run_sql(restored).await.unwrap();
    assert_ne!(listed(&chat).await["schedule"], before["schedule"]);
}
