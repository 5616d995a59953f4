//! `create_task` and `update_task`: what is stored, what is refused, and what helps.

use std::path::{Path, PathBuf};

use ordinaut_mcp::{backend::Embedded, server::Zones};
use ordinaut_store::embedded::{Layout, ServiceUnits};
use serde_json::{Value, json};

use crate::support::{Chat, task};

#[tokio::test]
async fn a_created_task_is_echoed_as_it_was_understood() {
    let chat = Chat::start().await;
    let called = chat.call("create_task", task("Morning briefing", json!({}))).await;
    assert!(!called.refused, "{}", called.text);
    let content = &called.content;
    assert_eq!(content["outcome"], "created");
    let task = &content["task"];
    assert_eq!((task["state"].as_str(), task["revision"].as_u64()), (Some("active"), Some(1)));
    assert_eq!(task["schedule"]["expr"], "30 8 * * MON-FRI");
    assert_eq!(task["schedule"]["timezone"], "Europe/Chisinau");
    assert_eq!(task["schedule"]["timezone_source"], "configuration");
    assert_eq!(task["next"].as_array().unwrap().len(), 3);
    assert!(task["next"][0]["local"].as_str().unwrap().contains("T08:30:00+0"));
    assert!(task["next"][0]["utc"].as_str().unwrap().ends_with('Z'));
    assert!(content["now"].as_str().unwrap().contains("+0"), "{}", content["now"]);
    assert!(content["warnings"][0].as_str().unwrap().contains("No executor"));
    for part in ["Morning briefing", task["id"].as_str().unwrap(), "Next: ", "ORDINAUT_TIMEZONE", "Now: "] {
        assert!(called.text.contains(part), "{part} in {}", called.text);
    }
}

#[tokio::test]
async fn this_machines_own_set_is_not_said_to_lack_an_executor_while_that_starts() {
    let home = Home::new("starts");
    let chat = Chat::start_embedded(home.set()).await;
    let created = chat.ok("create_task", task("Morning briefing", json!({}))).await;
    let warnings = created["warnings"].to_string();
    assert!(warnings.contains("only while Ordinaut is up") && !warnings.contains("No executor"), "{warnings}");
    assert!(warnings.contains("`ordinaut service install`"), "how to make it permanent: {warnings}");
}

#[tokio::test]
async fn nobody_is_warned_of_restarts_once_the_service_is_installed() {
    let home = Home::new("installed");
    let set = home.set();
    let unit = set.units.user.clone().unwrap();
    let chat = Chat::start_embedded(set).await;
    let before = chat.ok("create_task", task("Before", json!({}))).await;
    assert!(before["warnings"].to_string().contains("only while Ordinaut is up"), "{before}");

    home.install(&unit.file);

    let after = chat.ok("create_task", task("After", json!({}))).await;
    assert!(!after["warnings"].to_string().contains("only while Ordinaut is up"), "{after}");
}

/// A person's home, and in it the data of a set of theirs.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let home = PathBuf::from(format!("/tmp/ordinaut-home-{name}-{}", std::process::id()));
        std::fs::create_dir(&home).unwrap();
        Self(home)
    }

    fn set(&self) -> Embedded {
        let lookup = |name: &str| match name {
            "HOME" => Some(self.0.clone().into()),
            "ORDINAUT_DATA_DIR" => Some(self.0.join("data").into()),
            _ => None,
        };
        Embedded { layout: Layout::from_lookup(1000, lookup), units: ServiceUnits::from_lookup(1000, lookup) }
    }

    /// What `ordinaut service install` leaves.
    fn install(&self, file: &Path) {
        let wants = file.with_file_name("default.target.wants");
        std::fs::create_dir_all(&wants).unwrap();
        std::fs::write(file, format!("Environment=ORDINAUT_DATA_DIR={}", self.0.join("data").display())).unwrap();
        std::os::unix::fs::symlink(file, wants.join("ordinaut.service")).unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What is left lies in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_same_definition_again_answers_existed() {
    let chat = Chat::start().await;
    let first = chat.ok("create_task", task("Morning briefing", json!({}))).await;
    let again = chat.ok("create_task", task("  morning BRIEFING ", json!({ "title": "Morning briefing" }))).await;
    assert_eq!(again["outcome"], "existed");
    assert_eq!(again["task"]["id"], first["task"]["id"]);
}

#[tokio::test]
async fn a_request_id_answers_with_its_task_whatever_else_is_asked() {
    let chat = Chat::start().await;
    let first = chat.ok("create_task", task("Once only", json!({ "request_id": "r1" }))).await;
    let again = chat.ok("create_task", json!({ "request_id": "r1", "nonsense": true })).await;
    assert_eq!(again["outcome"], "existed");
    assert_eq!(again["task"]["id"], first["task"]["id"]);
}

#[tokio::test]
async fn a_taken_title_is_refused_with_both_definitions_and_a_hint() {
    let chat = Chat::start().await;
    let first = chat.ok("create_task", task("Morning briefing", json!({}))).await;
    let other = task("Morning briefing", json!({ "schedule_expr": "0 9 * * *", "priority": 2 }));
    let refused = chat.refused("create_task", other).await;
    assert_eq!(refused.code(), "title_taken");
    assert_eq!(refused.content["existing"]["id"], first["task"]["id"]);
    assert_eq!(refused.content["given"]["schedule_expr"], "0 9 * * *");
    assert_eq!(refused.content["existing"]["definition"]["schedule_expr"], "30 8 * * MON-FRI");
    assert!(
        refused.text.contains("update_task")
            && refused.text.contains("schedule_expr: \"30 8 * * MON-FRI\" -> \"0 9 * * *\""),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn six_faults_are_refused_at_once_and_nothing_is_stored() {
    let chat = Chat::start().await;
    let definition = json!({
        "title": "Six",
        "schedule_kind": "cron",
        "schedule_expr": "0 30 8 * * *",
        "timezone": "Europe/Chisinev",
        "priorty": 3,
        "pipeline": [
            { "id": "a", "uses": "http.gett", "with": { "url": "https://example.com" } },
            { "id": "b", "uses": "inbox.post", "with": { "text": "${steps.c.body}" } },
            { "id": "c", "uses": "inbox.post", "with": {} },
        ],
    });
    let refused = chat.refused("create_task", definition).await;
    assert_eq!(refused.code(), "invalid_definition");
    let paths: Vec<_> = refused.faults().iter().map(|(path, _)| *path).collect();
    for path in ["$.schedule_expr", "$.timezone", "$.priorty", "$.pipeline[0].uses", "$.pipeline[2].with.text"] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
        assert!(refused.text.contains(path), "{path} in {}", refused.text);
    }
    assert!(paths.iter().any(|path| path.starts_with("$.pipeline[1].with.text")), "{paths:?}");
    assert_eq!(paths.len(), 6, "{paths:?}");
    assert_eq!(chat.ok("list_tasks", json!({})).await["tasks"], json!([]));
}

/// What models get wrong most, and the words of the refusal that mend it.
#[tokio::test]
async fn each_typical_slip_is_refused_with_its_mend() {
    let chat = Chat::start_in(Zones::default()).await;
    let step = |condition: &str| {
        json!([{ "id": "a", "uses": "http.get", "with": { "url": "https://example.com" } },
        { "id": "b", "if": condition, "uses": "inbox.post", "with": { "text": "x" } }])
    };
    for (more, code, mend) in [
        (json!({ "timezone": "UTC", "pipeline": step("steps.a.body.status == \"ok\"") }), "bad_expression", "'ok'"),
        (json!({ "timezone": "UTC", "schedule_expr": "0 30 8 * * *" }), "bad_cron", "interval"),
        (
            json!({ "timezone": "UTC", "schedule_kind": "once", "schedule_expr": "2020-01-01T09:00" }),
            "in_the_past",
            "name a later instant",
        ),
        (json!({}), "timezone_required", "Europe/Chisinau"),
        (json!({ "timezone": "CET5" }), "unknown_timezone", "IANA"),
    ] {
        let refused = chat.refused("create_task", task("Slip", more)).await;
        let faults = refused.faults();
        assert_eq!(faults.iter().map(|(_, code)| *code).collect::<Vec<_>>(), [code], "{}", refused.text);
        assert!(refused.text.contains(mend), "{mend} in {}", refused.text);
        assert!(!refused.content["next"].as_str().unwrap().is_empty());
        assert!(refused.content["now"].is_string());
    }
}

#[tokio::test]
async fn a_pipeline_in_quotes_is_taken_for_what_it_is() {
    let chat = Chat::start().await;
    let pipeline = r#"[{"uses":"inbox.post","with":{"text":"hi"}}]"#;
    let created = chat.ok("create_task", task("Quoted", json!({ "pipeline": pipeline }))).await;
    assert_eq!(created["outcome"], "created");
}

#[tokio::test]
async fn a_schedule_that_fires_very_often_is_stored_with_a_warning() {
    let chat = Chat::start().await;
    let fields = json!({ "schedule_kind": "interval", "schedule_expr": "1m" });
    let created = chat.ok("create_task", task("Often", fields)).await;
    assert_eq!(created["task"]["runs_per_day"], json!(1440.0));
    assert!(created["warnings"].to_string().contains("1440 times a day"), "{}", created["warnings"]);
}

#[tokio::test]
async fn a_definition_of_the_original_is_accepted() {
    let chat = Chat::start().await;
    let definition = json!({
        "title": "From before", "created_by": "x", "schedule_kind": "cron", "schedule_expr": "0 8 * * *",
        "timezone": "Europe/Chisinau",
        "payload": { "params": {}, "pipeline": [{ "id": "tell-me", "uses": "inbox.post", "with": { "text": "x" } }] },
    });
    assert_eq!(chat.ok("create_task", definition).await["outcome"], "created");
}

#[tokio::test]
async fn an_update_shows_what_changed_and_guards_the_revision() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Morning briefing", json!({ "priority": 2 }))).await;
    let update = json!({
        "task": "morning briefing", "if_revision": 1,
        "changes": { "schedule_expr": "0 9 * * *" }, "clear": ["priority"],
        "steps": { "tell": { "uses": "inbox.post", "with": { "text": "Hello" } } },
    });
    let updated = chat.ok("update_task", update.clone()).await;
    assert_eq!(updated["task"]["revision"], 2);
    let fields: Vec<_> = updated["changed"].as_array().unwrap().iter().map(|it| it["field"].clone()).collect();
    assert_eq!(Value::from(fields), json!(["schedule_expr", "priority", "pipeline.tell"]));

    let refused = chat.refused("update_task", update).await;
    assert_eq!((refused.code(), refused.content["revision"].as_u64()), ("revision_changed", Some(2)));
    let same = chat.ok("update_task", json!({ "task": "morning briefing", "changes": {} })).await;
    assert_eq!((same["outcome"].as_str(), same["changed"].clone()), (Some("unchanged"), json!([])));
}

#[tokio::test]
async fn an_unknown_argument_is_a_fault_that_names_the_near_one() {
    let chat = Chat::start().await;
    let refused = chat.refused("list_tasks", json!({ "state": ["active"], "limit": 1000 })).await;
    assert_eq!(refused.code(), "invalid_arguments");
    assert_eq!(refused.faults(), [("$.limit", "wrong_type"), ("$.state", "unknown_field")]);
    assert!(refused.text.contains("states"), "{}", refused.text);
}

#[tokio::test]
async fn a_task_that_is_not_there_is_refused_with_near_titles() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Morning briefing", json!({}))).await;
    let refused = chat.refused("get_task", json!({ "task": "Mornin briefing" })).await;
    assert_eq!(refused.code(), "task_not_found");
    assert_eq!(refused.content["near"], json!(["Morning briefing"]));
}

#[tokio::test]
async fn a_task_says_at_any_time_why_its_zone_is_what_it_is() {
    let chat = Chat::start().await;
    let because = |answer: &Value| answer["task"]["schedule"]["timezone_because"].as_str().unwrap().to_owned();
    chat.ok("create_task", task("Briefing", json!({}))).await;
    let configured = "it is the configured default, ORDINAUT_TIMEZONE";
    for (tool, arguments) in [
        ("get_task", json!({ "task": "briefing" })),
        ("update_task", json!({ "task": "briefing", "changes": { "schedule_expr": "0 9 * * *" } })),
        ("snooze", json!({ "task": "briefing", "skip": 1 })),
        ("pause", json!({ "task": "briefing" })),
        ("get_task", json!({ "task": "briefing" })),
    ] {
        assert_eq!(because(&chat.ok(tool, arguments).await), configured, "{tool}");
    }
    let moved = json!({ "task": "briefing", "changes": { "timezone": "Asia/Tokyo" } });
    assert_eq!(because(&chat.ok("update_task", moved).await), "the definition names it");
    let text = chat.call("get_task", json!({ "task": "briefing" })).await.text;
    assert!(text.contains("zone Asia/Tokyo: the definition names it"), "{text}");
}
