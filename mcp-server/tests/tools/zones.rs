//! A zone that nobody knows: asked of the person by the client's form, on every revision that has one.

use ordinaut_mcp::server::Zones;
use ordinaut_schema::action::Grants;
use rmcp::model::ProtocolVersion;
use serde_json::{Value, json};

use crate::{
    person::{WITH_FORMS, through_the_form, without_forms},
    support::{Chat, task},
};

const SAID: &str = "the person said so when asked";

fn zone(name: &str) -> Value {
    json!({ "timezone": name })
}

/// A server that knows no zone at all.
async fn zoneless() -> Chat {
    Chat::start_in(Zones::default()).await
}

#[tokio::test]
async fn a_missing_zone_is_asked_of_the_person_and_the_answer_says_so() {
    for revision in &WITH_FORMS {
        let chat = zoneless().await;
        let asked = async |tool, arguments| {
            let (called, shown) =
                through_the_form(&chat.server, revision, [Some(zone(" europe/chisinau "))], tool, arguments).await;
            assert_eq!(shown.len(), 1, "{revision} {tool}: {}", called.text);
            assert_eq!(shown[0].schema["properties"]["timezone"]["type"], "string");
            assert!(shown[0].message.contains("Europe/Chisinau"), "an example: {:?}", shown[0]);
            (called, shown)
        };
        let definition = || task("Gunoiul\u{202e}", json!({}));
        let mut dry = definition();
        dry["dry_run"] = json!(true);
        let (rehearsed, shown) = asked("create_task", dry).await;
        assert!(shown[0].message.starts_with("\"Gunoiul\\u{202e}\" goes by the clock"), "{shown:?}");
        assert_eq!(rehearsed.content["outcome"], "would_create", "{}", rehearsed.text);
        let (created, _) = asked("create_task", definition()).await;
        assert_eq!(created.content["outcome"], "created", "{}", created.text);
        for schedule in [&rehearsed.content["task"]["schedule"], &created.content["task"]["schedule"]] {
            assert_eq!(schedule["timezone"], "Europe/Chisinau");
            assert_eq!((&schedule["timezone_source"], &schedule["timezone_because"]), (&json!("person"), &json!(SAID)));
        }
        assert!(created.text.contains(&format!("zone Europe/Chisinau: {SAID}")), "{}", created.text);
        // Kept with the task: whoever asks later is told the same.
        let id = created.content["task"]["id"].clone();
        let later = chat.ok("get_task", json!({ "task": id })).await;
        assert_eq!(later["task"]["schedule"]["timezone_source"], "person");

        // The same definition again is that task: nobody is asked once more.
        let (again, shown) = through_the_form(&chat.server, revision, [], "create_task", definition()).await;
        assert_eq!((&again.content["outcome"], shown.len()), (&json!("existed"), 0), "{}", again.text);

        let preview = json!({ "schedule_kind": "cron", "schedule_expr": "0 9 * * *", "after": "2027-01-31T10:00" });
        let (preview, _) = asked("preview_schedule", preview).await;
        assert_eq!(preview.content["schedule"]["timezone_source"], "person", "{}", preview.text);
        // `after` is a local time of that zone, too.
        assert_eq!(preview.content["occurrences"][0]["local"], "2027-02-01T09:00:00+02:00");

        let cleared = json!({ "task": id, "clear": ["timezone"], "changes": { "schedule_expr": "0 7 * * *" } });
        let (updated, _) = asked("update_task", cleared).await;
        assert_eq!(updated.content["task"]["schedule"]["timezone_source"], "person", "{}", updated.text);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_zone_is_asked_once_more_with_the_nearest_and_then_refused() {
    for revision in &WITH_FORMS {
        let chat = zoneless().await;
        let answers = [Some(zone("Europe/Chisinev")), Some(zone("Europe/Chisinau"))];
        let create = task("Gunoiul", json!({}));
        let (mended, shown) = through_the_form(&chat.server, revision, answers, "create_task", create.clone()).await;
        assert_eq!(mended.content["task"]["schedule"]["timezone"], "Europe/Chisinau", "{}", mended.text);
        assert!(shown[1].message.contains("perhaps Europe/Chisinau is meant"), "{shown:?}");
        assert_eq!(shown[1].schema["properties"]["timezone"]["default"], "Europe/Chisinau");

        let answers = [Some(zone("here")), Some(zone("at\u{202e} home"))];
        let (refused, shown) =
            through_the_form(&chat.server, revision, answers, "create_task", task("Other", json!({}))).await;
        assert_eq!((refused.code(), shown.len()), ("invalid_definition", 2), "{}", refused.text);
        assert_eq!(refused.faults(), [("$.timezone", "timezone_required")]);
        assert!(refused.text.contains("was asked twice") && refused.text.contains("home"), "{}", refused.text);
        assert!(!refused.text.contains('\u{202e}'), "{}", refused.text);
        assert_eq!(chat.ok("list_tasks", json!({})).await["tasks"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_person_who_declines_is_not_asked_again_and_nothing_is_stored() {
    for revision in &WITH_FORMS {
        let chat = zoneless().await;
        let preview = json!({ "schedule_kind": "once", "schedule_expr": "2030-01-31T09:00" });
        for (tool, arguments, code) in [
            ("create_task", task("Gunoiul", json!({})), "invalid_definition"),
            ("preview_schedule", preview, "invalid_schedule"),
        ] {
            let (refused, shown) = through_the_form(&chat.server, revision, [None], tool, arguments).await;
            assert_eq!((refused.code(), shown.len()), (code, 1), "{}", refused.text);
            assert_eq!(refused.faults(), [("$.timezone", "timezone_required")]);
            assert!(refused.text.contains("declined"), "{}", refused.text);
        }
        assert_eq!(chat.ok("list_tasks", json!({})).await["tasks"], json!([]));
    }
}

#[tokio::test]
async fn a_client_that_cannot_ask_is_told_what_to_ask_the_person() {
    let chat = zoneless().await;
    let older = [ProtocolVersion::V_2025_03_26, ProtocolVersion::V_2024_11_05];
    for revision in WITH_FORMS.iter().chain(&older) {
        let plain = without_forms(&chat.server, revision, "create_task", task("Gunoiul", json!({}))).await;
        assert_eq!(plain.faults(), [("$.timezone", "timezone_required")]);
        assert!(plain.text.contains("Ask the person where they live"), "{}", plain.text);
    }
    // These revisions have no forms, whatever a client says of itself.
    for revision in &older {
        let (refused, shown) =
            through_the_form(&chat.server, revision, [], "create_task", task("Gunoiul", json!({}))).await;
        assert_eq!((refused.code(), shown.len()), ("invalid_definition", 0), "{revision}");
    }
}

#[tokio::test]
async fn nobody_is_asked_for_a_definition_that_is_refused_anyway_or_needs_no_zone() {
    let chat = zoneless().await;
    let newest = &ProtocolVersion::V_2026_07_28;
    for (more, faults) in [
        (json!({ "priority": 99 }), vec![("$.timezone", "timezone_required"), ("$.priority", "invalid_value")]),
        (json!({ "dry_run": "x" }), vec![("$.dry_run", "wrong_type"), ("$.timezone", "timezone_required")]),
    ] {
        let (refused, _) = through_the_form(&chat.server, newest, [], "create_task", task("Slip", more)).await;
        let mut found = refused.faults();
        found.sort_by_key(|(path, _)| *path);
        let mut faults = faults;
        faults.sort_by_key(|(path, _)| *path);
        assert_eq!(found.iter().map(|it| it.0).collect::<Vec<_>>(), faults.iter().map(|it| it.0).collect::<Vec<_>>());
    }
    let wrong = json!({ "schedule_kind": "cron", "schedule_expr": "0 9 * * *", "after": "soon" });
    assert_eq!(through_the_form(&chat.server, newest, [], "preview_schedule", wrong).await.0.faults()[0].0, "$.after");
    let interval = json!({ "schedule_kind": "interval", "schedule_expr": "1h" });
    let (created, _) = through_the_form(&chat.server, newest, [], "create_task", task("Hourly", interval)).await;
    assert_eq!(created.content["task"]["schedule"]["timezone_source"], "not_needed", "{}", created.text);
}

#[tokio::test]
async fn a_zone_that_stood_because_none_was_needed_is_no_answer_for_a_schedule_of_the_clock() {
    let chat = zoneless().await;
    let interval = json!({ "schedule_kind": "interval", "schedule_expr": "1h" });
    chat.ok("create_task", task("Hourly", interval)).await;
    let daily = json!({ "task": "hourly", "changes": { "schedule_kind": "cron", "schedule_expr": "0 9 * * *" } });
    let refused = chat.refused("update_task", daily.clone()).await;
    assert_eq!(refused.faults(), [("$.timezone", "timezone_required")]);
    // What does not touch the times needs no zone.
    chat.ok("update_task", json!({ "task": "hourly", "changes": { "priority": 1 } })).await;

    let newest = &ProtocolVersion::V_2026_07_28;
    let (updated, _) = through_the_form(&chat.server, newest, [Some(zone("UTC"))], "update_task", daily).await;
    let schedule = &updated.content["task"]["schedule"];
    assert_eq!((&schedule["timezone"], &schedule["timezone_source"]), (&json!("UTC"), &json!("person")));
}

#[tokio::test]
async fn what_the_zone_lets_be_seen_is_refused_with_the_zone_that_the_person_said() {
    let chat = zoneless().await;
    chat.store.executor.change_grants("local", |grants| *grants = Grants::default()).await.unwrap();
    let newest = &ProtocolVersion::V_2026_07_28;
    let past = task("Gone", json!({ "schedule_kind": "once", "schedule_expr": "2020-01-01T09:00" }));
    let (refused, shown) =
        through_the_form(&chat.server, newest, [Some(zone("Asia/Tokyo"))], "create_task", past).await;
    assert_eq!((refused.faults(), shown.len()), (vec![("$.schedule_expr", "in_the_past")], 1));
    assert!(refused.text.contains("give `timezone` \"Asia/Tokyo\""), "{}", refused.text);
}
