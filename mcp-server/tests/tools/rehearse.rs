//! `create_task` with `dry_run`: answered as creating would be, with each call, and nothing kept.

use ordinaut_schema::action::{Grants, Offered};
use ordinaut_store::secrets::{Bindings, KeyRing};
use serde_json::{Value, json};

use crate::support::{Chat, task};

const KEY: &str = "a2V5IG9mIHRoZSB0ZXN0cywgd2l0aCAzMiBieXRlcyE=";
const VALUE: &str = "c4nary-s3cr3t-value";

fn dry(mut definition: Value) -> Value {
    definition["dry_run"] = json!(true);
    definition
}

/// Calls with `dry_run`, and sees that no row of any table is another afterwards.
async fn dry_run(chat: &Chat, definition: Value) -> crate::support::Called {
    let before = chat.database.every_row().await;
    let called = chat.call("create_task", dry(definition)).await;
    assert_eq!(chat.database.every_row().await, before, "a dry run left something behind");
    called
}

fn briefing() -> Value {
    json!({
        "params": { "city": "Chisinau" },
        "pipeline": [
            {
                "id": "weather",
                "uses": "http.get",
                "with": {
                    "url": "https://api.example.com/forecast",
                    "query": { "city": "${params.city}" },
                    "headers": { "X-Key": "${secrets.API_KEY}" },
                },
                "expect": { "type": "object", "properties": { "body": {
                    "type": "object", "properties": { "temperature": { "type": "number", "examples": [31] } },
                } } },
            },
            {
                "id": "tell",
                "if": "steps.weather.body.temperature > 25",
                "uses": "notify.send",
                "with": { "channel": "ops", "text": "${params.city}: ${steps.weather.body.temperature}, ${steps.weather.status}" },
            },
        ],
        "on_failure": [{ "id": "cry", "uses": "inbox.post", "with": { "text": "Failed: ${error.message}" } }],
    })
}

async fn chat_with_a_secret() -> Chat {
    let chat = Chat::start().await;
    let bindings = Bindings::new(&["api.example.com".to_owned()], &[], &[]).unwrap();
    chat.store.executor.set_secret(&KeyRing::parse(KEY).unwrap(), "API_KEY", VALUE, Some(bindings)).await.unwrap();
    let offered = Offered { channels: [("ops".to_owned(), "slack".to_owned())].into(), ..Offered::default() };
    chat.store.executor.set_offered(&offered).await.unwrap();
    chat
}

#[tokio::test]
async fn a_dry_run_answers_as_creating_would_shows_each_call_and_keeps_nothing() {
    let chat = chat_with_a_secret().await;
    let definition = task("Morning briefing", briefing());
    let called = dry_run(&chat, definition.clone()).await;
    assert!(!called.refused, "{}", called.text);
    let content = &called.content;
    assert_eq!((&content["outcome"], &content["dry_run"]), (&json!("would_create"), &json!(true)));
    assert_eq!((&content["task"]["id"], &content["task"]["revision"]), (&Value::Null, &Value::Null));

    let calls = content["calls"].as_array().unwrap();
    assert_eq!((&calls[0]["verdict"], &calls[0]["from"]), (&json!("would_call"), &json!("known")));
    assert_eq!(calls[0]["call"], "GET https://api.example.com/forecast");
    assert_eq!(calls[0]["input"]["headers"], json!({ "X-Key": "[secret API_KEY]" }));
    assert_eq!((&calls[1]["verdict"], &calls[1]["from"]), (&json!("depends"), &json!("partly_unknown")));
    assert_eq!(calls[1]["call"], "sends a message through the channel `ops` (slack)");
    assert_eq!(calls[1]["input"]["text"], "Chisinau: 31, ${steps.weather.status}");
    assert_eq!(content["calls_on_failure"][0]["input"]["text"], "Failed: ${error.message}");
    for part in ["Dry run: nothing was stored", "GET https://api.example.com/forecast", "[secret API_KEY]", "Next: "] {
        assert!(called.text.contains(part), "{part} in {}", called.text);
    }
    assert!(!called.text.contains(VALUE) && !content.to_string().contains(VALUE));

    // Creating it then says the same of it.
    let created = chat.ok("create_task", definition).await;
    assert_eq!(created["outcome"], "created");
    for field in ["title", "state", "schedule", "next", "runs_per_day"] {
        assert_eq!(content["task"][field], created["task"][field], "{field}");
    }
    assert_eq!(content["warnings"], created["warnings"]);
}

#[tokio::test]
async fn a_dry_run_uses_up_no_request_id() {
    let chat = Chat::start().await;
    let called = dry_run(&chat, task("First", json!({ "request_id": "r1" }))).await;
    assert_eq!(called.content["outcome"], "would_create");
    let created = chat.ok("create_task", task("Second", json!({ "request_id": "r1" }))).await;
    assert_eq!((&created["outcome"], &created["task"]["title"]), (&json!("created"), &json!("Second")));
    // A request that was answered has its answer, in a dry run too.
    let again = dry_run(&chat, task("Third", json!({ "request_id": "r1" }))).await;
    assert_eq!((&again.content["outcome"], &again.content["task"]["title"]), (&json!("existed"), &json!("Second")));
    assert_eq!(again.content["dry_run"], true);
}

#[tokio::test]
async fn what_creating_would_refuse_a_dry_run_refuses_alike() {
    let chat = Chat::start().await;
    chat.ok("create_task", task("Taken", json!({}))).await;
    let same = dry_run(&chat, task("Taken", json!({}))).await;
    assert_eq!((same.refused, &same.content["outcome"]), (false, &json!("existed")), "{}", same.text);

    chat.store.executor.change_grants("local", |grants| *grants = Grants::default()).await.unwrap();
    let pipeline = json!({ "pipeline": [{ "uses": "notify.send", "with": { "channel": "me", "text": "x" } }] });
    for (definition, code, fault) in [
        (task("taken", json!({ "priority": 2 })), "title_taken", ("$.title", "invalid_value")),
        (task("Ungranted", pipeline), "invalid_definition", ("$.pipeline[0].with.channel", "not_granted")),
        (
            task("Slip", json!({ "schedule_expr": "0 30 8 * * *" })),
            "invalid_definition",
            ("$.schedule_expr", "bad_cron"),
        ),
    ] {
        let refused = dry_run(&chat, definition.clone()).await;
        let really = chat.refused("create_task", definition).await;
        assert_eq!((refused.code(), refused.faults()), (code, vec![fault]), "{}", refused.text);
        assert_eq!((really.code(), really.faults()), (code, vec![fault]));
    }
    let unclear = chat.refused("create_task", task("Unclear", json!({ "dry_run": "perhaps" }))).await;
    assert_eq!(unclear.faults(), [("$.dry_run", "wrong_type")]);
    assert_eq!(chat.ok("list_tasks", json!({})).await["tasks"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_run_that_is_sure_to_fail_is_warned_of() {
    let chat = Chat::start().await;
    let pipeline = json!([{ "id": "sum", "uses": "inbox.post", "with": { "text": "${params.city > 3}" } }]);
    let shown = dry_run(&chat, task("Sure", json!({ "params": { "city": "x" }, "pipeline": pipeline }))).await;
    assert_eq!(shown.content["calls"][0]["verdict"], "would_fail");
    assert!(shown.content["warnings"].to_string().contains("would fail at step `sum`"), "{}", shown.text);
}
