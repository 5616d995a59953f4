//! Sentences about every tool, and those that no other file here is about.

use ordinaut_mcp::{backend::Backend, server::OrdinautServer, surface::Surface, telemetry::Metrics};
use ordinaut_schema::action::{Descriptor, Effect, Offered, Takes};
use ordinaut_store::catalog::SeenTool;
use rmcp::{
    ServiceExt as _,
    model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion},
    service::{ClientLifecycleMode, ClientServiceExt as _, ServiceError},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    matrix,
    support::{Called, Chat, call, chisinau, connect, read, serve, task},
};

fn has_the_present(called: &Called, of: &str) {
    let now = called.content["now"].as_str().unwrap_or_else(|| panic!("{of} has no `now`: {}", called.text));
    assert!(now.parse::<jiff::Timestamp>().is_ok() && !now.ends_with('Z'), "{of}: {now} has an offset");
    assert!(called.text.contains(&format!("Now: {now}")), "{of}: {}", called.text);
}

#[tokio::test]
async fn every_result_has_now_with_its_offset_as_text_and_as_structure() {
    let chat = Chat::start().await;
    for (tool, _, arguments) in matrix::tools() {
        has_the_present(&chat.call(tool, arguments).await, tool);
        has_the_present(&chat.refused(tool, json!({ "surprise": 1 })).await, tool);
    }
    chat.ok("create_task", task("Briefing", json!({}))).await;
    for (tool, more) in [
        ("get_task", json!({})),
        ("run_now", json!({})),
        ("pause", json!({})),
        ("resume", json!({})),
        ("snooze", json!({ "skip": 1 })),
        ("update_task", json!({ "changes": { "priority": 1 } })),
        ("cancel", json!({})),
    ] {
        let mut arguments = more;
        arguments["task"] = json!("Briefing");
        let called = chat.call(tool, arguments).await;
        assert!(!called.refused, "{tool}: {}", called.text);
        has_the_present(&called, tool);
    }
    let run = chat.ok("list_runs", json!({})).await["runs"][0]["id"].as_str().unwrap().to_owned();
    let shown: Value = serde_json::from_str(&read(&chat.client, &format!("ordinaut://runs/{run}")).await).unwrap();
    assert!(shown["now"].is_string(), "{shown}");

    let (_starter, backend) = Backend::starting("nothing");
    let reading = Surface { read_only: true, groups: Vec::new() };
    let server = OrdinautServer::local(backend, Metrics::new().unwrap(), chisinau()).offering(reading);
    let client = connect(server).await;
    has_the_present(&call(&client, "pause", json!({ "task": "x" })).await, "a tool that is not offered");
}

#[tokio::test]
async fn a_fault_of_ours_is_told_without_its_cause_and_with_the_present() {
    let chat = Chat::start().await;
    chat.database.run_sql("alter table task rename to gone").await.unwrap();
    let refused = chat.refused("list_tasks", json!({})).await;
    assert_eq!(refused.code(), "internal", "{}", refused.text);
    assert!(refused.text.contains("ordinaut doctor") && !refused.text.contains("task\""), "{}", refused.text);
    has_the_present(&refused, "a fault");
}

#[tokio::test]
async fn every_write_of_a_task_echoes_what_is_stored_and_warns_above_a_hundred_runs_a_day() {
    let chat = Chat::start().await;
    // 102.86 a day.
    let often = json!({ "schedule_kind": "interval", "schedule_expr": "PT14M" });
    let writes = [
        ("create_task", task("Often", often), "created"),
        ("create_task", task("Often", json!({ "schedule_kind": "interval", "schedule_expr": "14m" })), "existed"),
        ("update_task", json!({ "task": "often", "changes": { "priority": 2 } }), "updated"),
        ("snooze", json!({ "task": "often", "skip": 1 }), "snoozed"),
        ("pause", json!({ "task": "often", "until": "+30d" }), "paused"),
        ("resume", json!({ "task": "often" }), "resumed"),
    ];
    for (tool, arguments, outcome) in writes {
        let called = chat.call(tool, arguments).await;
        let echoed = &called.content["task"];
        assert_eq!(called.content["outcome"], outcome, "{tool}: {}", called.text);
        assert_eq!((&echoed["schedule"]["expr"], &echoed["schedule"]["kind"]), (&json!("14m"), &json!("interval")));
        let sentence = echoed["schedule"]["sentence"].as_str().unwrap();
        assert!(sentence.starts_with("Every 14 minutes, counted from "), "{tool}: {sentence}");
        assert_eq!(echoed["schedule"]["timezone"], "Europe/Chisinau", "{tool}");
        assert_eq!(echoed["next"].as_array().unwrap().len(), 3, "{tool}: {}", called.text);
        assert_eq!(echoed["runs_per_day"], json!(102.86), "{tool}");
        let warned = called.content["warnings"].to_string();
        assert!(warned.contains("about 103 times a day") && warned.contains("No executor"), "{tool}: {warned}");
        for part in ["Every 14 minutes", "zone Europe/Chisinau: ", "Next: ", "About 102.86 runs a day", "Warning: "] {
            assert!(called.text.contains(part), "{tool}: {part} in {}", called.text);
        }
    }
    // A hundred a day is no more than that.
    let hundred = task("Hundred", json!({ "schedule_kind": "interval", "schedule_expr": "864s" }));
    let called = chat.ok("create_task", hundred).await;
    assert_eq!(called["task"]["runs_per_day"], json!(100.0));
    assert!(!called["warnings"].to_string().contains("times a day"), "{called}");
}

#[tokio::test]
async fn what_is_not_configured_is_refused_with_what_there_is_and_the_persons_command() {
    let chat = Chat::start().await;
    let offered = Offered {
        channels: [("ops".to_owned(), "slack".to_owned())].into(),
        models: [("home".to_owned(), "small".to_owned())].into(),
        commands: [("backup".to_owned(), "Backs up".to_owned())].into(),
        ..Offered::default()
    };
    chat.store.executor.set_offered(&offered).await.unwrap();
    let close = Descriptor {
        name: "hub.close".to_owned(),
        sentence: "Closes.".to_owned(),
        input_schema: json!({ "type": "object" }),
        example: json!({}),
        effect: Effect::Once,
    };
    let seen = vec![SeenTool { tool: "close".to_owned(), descriptor: close, sha256: [1; 32] }];
    chat.store.executor.write_server("hub", Uuid::now_v7(), Ok(seen)).await.unwrap();
    for (step, at, words) in [
        (
            json!({ "uses": "notify.send", "with": { "channel": "x", "text": "x" } }),
            ".with.channel",
            ["there is me, ops", "ordinaut channel add"],
        ),
        (
            json!({ "uses": "llm.generate", "with": { "model": "x", "instruction": "x" } }),
            ".with.model",
            ["there is home", "ordinaut llm add"],
        ),
        (
            json!({ "uses": "shell.exec", "with": { "command": "x" } }),
            ".with.command",
            ["there is backup", "[shell.<id>]"],
        ),
        (json!({ "uses": "nowhere.at_all", "with": {} }), ".uses", ["there is hub", "ordinaut server add"]),
        (
            json!({ "uses": "http.get", "with": { "url": "https://a.example", "headers": { "X": "${secrets.NONE}" } } }),
            ".with.headers.X",
            ["none is", "ordinaut secret set NONE"],
        ),
    ] {
        let refused = chat.refused("create_task", task("X", json!({ "pipeline": [step] }))).await;
        let paths: Vec<_> = refused.faults().iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(paths, [format!("$.pipeline[0]{at}")], "{}", refused.text);
        for part in words {
            assert!(refused.text.contains(part), "{part} in {}", refused.text);
        }
    }
}

#[tokio::test]
async fn a_command_is_not_created_with_more_than_the_operator_lets_it_take() {
    let chat = Chat::start().await;
    let offered = Offered {
        commands: [("sort".to_owned(), "Sorts".to_owned())].into(),
        takes: [("sort".to_owned(), Takes::default())].into(),
        ..Offered::default()
    };
    chat.store.executor.set_offered(&offered).await.unwrap();
    chat.store.executor.change_grants("local", |grants| grants.commands.push("sort".to_owned())).await.unwrap();
    let sort = |more: Value| {
        let mut with = json!({ "command": "sort" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task("Sort", json!({ "pipeline": [{ "uses": "shell.exec", "with": with }] }))
    };
    let refused = chat.refused("create_task", sort(json!({ "stdin": "b" }))).await;
    assert_eq!(refused.faults(), [("$.pipeline[0].with.stdin", "not_configured")], "{}", refused.text);
    assert!(refused.text.contains("`stdin = true` in `[shell.sort]`"), "{}", refused.text);
    chat.ok("create_task", sort(json!({ "args": [] }))).await;
}

#[tokio::test]
async fn what_a_model_can_mend_is_a_result_and_what_it_cannot_an_error_of_the_protocol() {
    let chat = Chat::start().await;
    assert_eq!(chat.refused("get_task", json!({ "task": 7 })).await.faults(), [("$.task", "wrong_type")]);
    let unknown = chat.client.call_tool(CallToolRequestParams::new("get_weather")).await;
    assert!(matches!(unknown, Err(ServiceError::McpError(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_request_to_run_is_answered_as_it_was_whatever_became_of_the_task() {
    let chat = Chat::start().await;
    let created = chat.ok("create_task", task("Briefing", json!({}))).await;
    let now = json!({ "task": created["task"]["id"], "request_id": "once" });
    let first = chat.ok("run_now", now.clone()).await;
    chat.ok("cancel", json!({ "task": "briefing" })).await;
    let again = chat.ok("run_now", now).await;
    assert_eq!((&again["outcome"], &again["run"]["id"]), (&json!("existed"), &first["run"]["id"]));
}

#[tokio::test]
async fn a_list_of_runs_is_paged_by_opaque_cursors() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Briefing", json!({ "overlap": "allow" }))).await;
    for _ in 0..5 {
        chat.ok("run_now", json!({ "task": "briefing" })).await;
    }
    let (mut seen, mut arguments) = (Vec::new(), json!({ "limit": 2 }));
    loop {
        let page = chat.call("list_runs", arguments.clone()).await;
        seen.extend(page.content["runs"].as_array().unwrap().iter().map(|run| run["id"].to_string()));
        let Value::String(cursor) = &page.content["next_cursor"] else { break };
        assert!(page.text.contains(&format!("call again with cursor \"{cursor}\"")), "{}", page.text);
        arguments["cursor"] = json!(cursor);
    }
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((all, seen.len()), (5, 5));
    let wrong = chat.refused("list_runs", json!({ "cursor": "5" })).await;
    assert_eq!(wrong.faults(), [("$.cursor", "invalid_value")]);
}

#[tokio::test]
async fn a_long_definition_is_shown_in_outline_with_the_ways_to_the_rest() {
    let chat = Chat::start().await;
    let long = "x".repeat(9000);
    let step = |id: &str, text: &str| json!({ "id": id, "uses": "inbox.post", "with": { "text": text } });
    let huge = "y".repeat(40_000);
    let pipeline = json!([step("a", &long), step("b", &long), step("c", &huge)]);
    let created = chat.ok("create_task", task("Long", json!({ "pipeline": pipeline }))).await;
    let shown = chat.call("get_task", json!({ "task": "long" })).await;
    assert!(shown.content["definition"].get("pipeline").is_none(), "{}", shown.text);
    assert_eq!(shown.content["definition"]["steps_outline"][1], json!({ "id": "b", "uses": "inbox.post" }));
    assert!(shown.text.contains("get_task with `step`") && shown.text.len() < 8_000, "{}", shown.text.len());
    let one = chat.call("get_task", json!({ "task": "long", "step": "b" })).await;
    assert_eq!(one.content["step"]["with"]["text"], json!(long));
    let cut = chat.call("get_task", json!({ "task": "long", "step": "c" })).await;
    assert!(cut.text.len() < 8_000 && cut.text.contains("the resource ordinaut://tasks/"), "{}", cut.text.len());
    let uri = format!("ordinaut://tasks/{}", created["task"]["id"].as_str().unwrap());
    let whole: Value = serde_json::from_str(&read(&chat.client, &uri).await).unwrap();
    assert_eq!(whole["definition"]["pipeline"][2]["with"]["text"], json!(huge));
}

#[tokio::test]
async fn many_changes_and_many_runs_are_counted_where_they_are_not_shown() {
    let chat = Chat::start().await;
    let steps = |text: &str| -> Value {
        (0..30).map(|n| json!({ "id": format!("s{n}"), "uses": "inbox.post", "with": { "text": text } })).collect()
    };
    chat.ok("create_task", task("Many", json!({ "pipeline": steps("a"), "overlap": "queue", "queue_limit": 500 })))
        .await;
    let update = json!({ "task": "many", "changes": { "pipeline": steps("b") } });
    let updated = chat.call("update_task", update).await;
    assert_eq!((updated.content["changed"].as_array().unwrap().len(), &updated.content["left_out"]), (20, &json!(10)));
    assert!(updated.text.contains("and 10 more; get_task shows the definition."), "{}", updated.text);
    for _ in 0..103 {
        chat.ok("run_now", json!({ "task": "many" })).await;
    }
    let cancelled = chat.ok("cancel", json!({ "task": "many" })).await;
    assert_eq!((cancelled["runs"].as_array().unwrap().len(), &cancelled["left_out"]), (100, &json!(3)));
}

#[tokio::test]
async fn every_revision_that_the_sdk_speaks_is_spoken() {
    let chat = Chat::start().await;
    for revision in ProtocolVersion::KNOWN_VERSIONS {
        let about = ClientConfig::new(ClientCapabilities::default(), Implementation::new("test", "1"))
            .with_protocol_version(revision.clone());
        let client = if *revision >= ProtocolVersion::V_2026_07_28 {
            let lifecycle = ClientLifecycleMode::Discover { preferred_versions: vec![revision.clone()] };
            about.serve_with_lifecycle(serve(chat.server.for_session()), lifecycle).await.unwrap()
        } else {
            about.serve(serve(chat.server.for_session())).await.unwrap()
        };
        let agreed = client.peer_info().unwrap().protocol_version.clone();
        assert_eq!(agreed, *revision);
        assert_eq!(client.list_all_tools().await.unwrap().len(), matrix::tools().len(), "{revision}");
        let listed = client.call_tool(CallToolRequestParams::new("list_tasks")).await.unwrap();
        assert_ne!(listed.is_error, Some(true), "{revision}");
        client.cancel().await.unwrap();
    }
    assert_eq!(ProtocolVersion::KNOWN_VERSIONS.len(), 5, "{:?}", ProtocolVersion::KNOWN_VERSIONS);
}
