//! Pause, resume, snooze, cancel, and how lists page.

use serde_json::{Value, json};

use crate::support::{Chat, task};

#[tokio::test]
async fn a_paused_task_shows_until_when_and_what_comes_after() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    let paused = chat.ok("pause", json!({ "task": "briefing", "until": "2099-01-05T07:00", "reason": "away" })).await;
    assert_eq!(paused["task"]["state"], "paused");
    assert_eq!(paused["task"]["resume_at"], "2099-01-05T07:00:00+02:00");
    assert_eq!(paused["task"]["next"][0]["local"], "2099-01-05T08:30:00+02:00");
    let shown = chat.ok("get_task", json!({ "task": "briefing" })).await;
    assert_eq!(shown["task"]["paused_because"], "away");
    let resumed = chat.ok("resume", json!({ "task": "briefing" })).await;
    assert_eq!(resumed["task"]["state"], "active");
}

#[tokio::test]
async fn a_snooze_takes_exactly_one_way_to_say_it() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    let skipped = chat.ok("snooze", json!({ "task": "briefing", "skip": 2 })).await;
    assert_eq!(skipped["task"]["skip_next"], 2);
    let snoozed = chat.ok("snooze", json!({ "task": "briefing", "for": "30d" })).await;
    assert!(snoozed["task"]["snoozed_until"].is_string());
    for wrong in [json!({ "task": "briefing" }), json!({ "task": "briefing", "for": "1h", "skip": 1 })] {
        assert_eq!(chat.refused("snooze", wrong).await.code(), "invalid_arguments");
    }
}

#[tokio::test]
async fn a_span_where_an_instant_belongs_is_refused_with_the_delay_that_is_meant() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    let refused = chat.refused("pause", json!({ "task": "briefing", "until": "2 weeks" })).await;
    assert_eq!(refused.content["faults"][0]["suggestion"], "+14d");
    assert!(refused.text.contains("(try +14d)"), "{}", refused.text);
    let refused = chat.refused("pause", json!({ "task": "briefing", "until": "soon" })).await;
    assert!(refused.content["faults"][0]["suggestion"].is_null());
}

#[tokio::test]
async fn the_family_of_an_action_is_refused_with_the_action() {
    let chat = Chat::start().await;
    for (asked, meant) in [("notify", "notify.send"), ("slack", "notify.send"), ("htp.get", "http.get")] {
        let refused = chat.refused("list_actions", json!({ "name": asked })).await;
        assert_eq!(refused.code(), "unknown_action");
        assert!(refused.text.contains(&format!("Perhaps `{meant}` is meant")), "{}", refused.text);
    }
}

#[tokio::test]
async fn occurrences_to_skip_are_not_shown_as_next_while_snoozed() {
    let chat = Chat::start().await;
    let created = chat.ok("create_task", task("Briefing", json!({}))).await;
    chat.ok("snooze", json!({ "task": "briefing", "for": "2h" })).await;
    let both = chat.ok("snooze", json!({ "task": "briefing", "skip": 2 })).await;
    assert_eq!(both["task"]["next"][0], created["task"]["next"][2]);
    let shown = chat.ok("get_task", json!({ "task": "briefing" })).await;
    assert_eq!(shown["task"]["next"][0], created["task"]["next"][2]);
}

#[tokio::test]
async fn skipping_the_held_occurrence_leaves_nothing_for_the_end_of_the_snooze() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({ "schedule_expr": "30 8 * * *" }))).await;
    let held = chat.ok("snooze", json!({ "task": "briefing", "for": "30d" })).await;
    assert_eq!(held["task"]["next"][0]["snoozed_until"], held["task"]["snoozed_until"]);
    let both = chat.ok("snooze", json!({ "task": "briefing", "skip": 1 })).await;
    assert_eq!(both["task"]["next"][0], held["task"]["next"][1]);
}

#[tokio::test]
async fn a_cancelled_task_is_gone_from_the_list_and_cannot_be_resumed() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({}))).await;
    assert_eq!(chat.ok("cancel", json!({ "task": "briefing" })).await["task"]["state"], "cancelled");
    assert_eq!(chat.ok("list_tasks", json!({})).await["tasks"], json!([]));
    let all = chat.ok("list_tasks", json!({ "states": ["cancelled"] })).await;
    assert_eq!(all["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(chat.refused("resume", json!({ "task": "briefing" })).await.code(), "task_state");
}

#[tokio::test]
async fn pages_neither_repeat_nor_lose_a_task() {
    let chat = Chat::start().await;
    for n in 0..5 {
        chat.ok("create_task", task(&format!("Task {n}"), json!({}))).await;
    }
    let mut titles = Vec::new();
    let mut arguments = json!({ "limit": 2 });
    loop {
        let page = chat.ok("list_tasks", arguments.clone()).await;
        titles.extend(page["tasks"].as_array().unwrap().iter().map(|task| task["title"].clone()));
        match &page["next_cursor"] {
            Value::String(cursor) => arguments["cursor"] = json!(cursor),
            _ => break,
        }
    }
    assert_eq!(Value::from(titles), json!(["Task 0", "Task 1", "Task 2", "Task 3", "Task 4"]));
}

#[tokio::test]
async fn a_snooze_that_changes_nothing_says_so_and_names_what_is_next() {
    let chat = Chat::start().await;
    let definition = json!({ "schedule_kind": "interval", "schedule_expr": "2000h" });
    let created = chat.ok("create_task", task("Rare", definition)).await;
    let snoozed = chat.call("snooze", json!({ "task": "rare", "for": "2h" })).await;
    assert!(!snoozed.refused, "{}", snoozed.text);
    assert_eq!(snoozed.content["outcome"], "unchanged");
    assert!(snoozed.text.contains("Nothing is put off"), "{}", snoozed.text);
    assert!(snoozed.content["task"]["snoozed_until"].is_null());
    assert_eq!(snoozed.content["task"]["next"], created["task"]["next"]);
}

#[tokio::test]
async fn skipping_names_what_is_skipped_and_what_is_next() {
    let chat = Chat::start().await;
    let created = chat.ok("create_task", task("Briefing", json!({}))).await;
    let skipped = chat.call("snooze", json!({ "task": "briefing", "skip": 2 })).await;
    let next = |n: usize| created["task"]["next"][n]["local"].as_str().unwrap();
    let named: Vec<_> = skipped.content["skipped"].as_array().unwrap().iter().map(|it| &it["local"]).collect();
    assert_eq!(named, [next(0), next(1)]);
    assert_eq!(skipped.content["task"]["next"][0]["local"], next(2));
    assert!(skipped.text.contains(&format!("Will be skipped: {}", "")), "{}", skipped.text);
}

#[tokio::test]
async fn an_edit_of_the_schedule_says_what_becomes_of_a_snooze_and_of_occurrences_to_skip() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({ "schedule_kind": "interval", "schedule_expr": "1h" }))).await;
    chat.ok("snooze", json!({ "task": "briefing", "for": "5h" })).await;
    let change =
        async |changes: Value| chat.call("update_task", json!({ "task": "briefing", "changes": changes })).await;
    let kept = change(json!({ "schedule_expr": "2h" })).await;
    assert!(kept.content["task"]["snoozed_until"].is_string());
    assert!(kept.text.contains("The snooze stays, for the new schedule"), "{}", kept.text);
    chat.ok("snooze", json!({ "task": "briefing", "skip": 2 })).await;
    let over = change(json!({ "schedule_expr": "2000h" })).await;
    assert!(over.content["task"]["snoozed_until"].is_null());
    assert_eq!(over.content["task"]["skip_next"], 2);
    for said in ["The snooze until ", " is over", "are now those of the new schedule"] {
        assert!(over.text.contains(said), "{said} in {}", over.text);
    }
    let other = change(json!({ "priority": 1 })).await;
    assert!(!other.text.contains("new schedule"), "{}", other.text);
}
