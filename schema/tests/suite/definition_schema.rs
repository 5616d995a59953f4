//! The published JSON Schema of a definition, held against what is accepted.

use std::{fs, path::Path};

use jsonschema::Validator;
use ordinaut_schema::{
    action::{Catalogue, Grants},
    limits::Limits,
    task::{Acceptance, ZoneSource, accept, json_schema, read},
    time::Zone,
};
use serde_json::{Value, json};

fn validator() -> Validator {
    jsonschema::draft202012::new(&json_schema()).unwrap()
}

fn task(fields: Value) -> Value {
    let mut task = json!({
        "title": "a task", "schedule_kind": "interval", "schedule_expr": "15m",
        "pipeline": [{ "uses": "inbox.post", "with": { "text": "hello" } }],
    });
    if let (Value::Object(task), Value::Object(fields)) = (&mut task, fields) {
        task.extend(fields);
    }
    task
}

fn is_accepted(definition: &Value) -> bool {
    let zone = Zone::find("Europe/Chisinau").unwrap();
    let catalogue = Catalogue { grants: Grants::local(), ..Catalogue::default() };
    let against = Acceptance {
        now: "2026-11-23T08:30:00Z".parse().unwrap(),
        default_zone: Some((&zone, ZoneSource::Agent)),
        catalogue: &catalogue,
        limits: &Limits::DEFAULT,
    };
    accept(definition, against).is_ok()
}

/// `UPDATE_SCHEMA=1` writes it anew.
#[test]
fn the_published_file_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("task.schema.json");
    let text = format!("{:#}\n", json_schema());
    #[allow(clippy::disallowed_methods, reason = "a test's own switch")]
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "schema/task.schema.json is out of date: `./just snapshots` renews it"
    );
}

#[test]
fn every_example_of_ours_meets_the_schema() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for file in fs::read_dir(examples).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|it| it != "yaml") || file.ends_with("original.yaml") {
            continue;
        }
        for definition in read(&fs::read_to_string(&file).unwrap(), &Limits::DEFAULT).unwrap() {
            let faults: Vec<String> = validator().iter_errors(&definition).map(|it| it.to_string()).collect();
            assert!(faults.is_empty(), "{}: {faults:#?}", file.display());
            seen += 1;
        }
    }
    assert!(seen >= 4);
}

/// Each is judged twice: by the schema and by what reads definitions.
#[test]
fn the_schema_and_the_reader_agree() {
    let step = |fields: Value| {
        let mut step = json!({ "uses": "http.get", "with": { "url": "https://example.com" } });
        if let (Value::Object(step), Value::Object(fields)) = (&mut step, fields) {
            step.extend(fields);
        }
        json!({ "pipeline": [step] })
    };
    let good = [
        json!({}),
        json!({ "retry": { "max_attempts": 2, "backoff": "linear", "errors": ["timeout"] }, "priority": 9 }),
        json!({ "run_timeout": 90, "jitter": "1m30s", "misfire": "run_all", "overlap": "queue" }),
        json!({ "schedule_kind": "event", "schedule_expr": "user.email.*", "event_filter": "event.payload.n > 3" }),
        step(json!({ "id": "a", "if": "params.x", "params": null, "timeout": "30s", "on_error": "continue" })),
        step(json!({ "foreach": [1, 2], "max_parallel": 2, "with": { "url": "https://example.com/${item}" } })),
        step(
            json!({ "uses": "http.post", "with": { "url": "${params.url}", "json": { "a": [1] }, "headers": "${params.h}" } }),
        ),
        json!({ "pipeline": [{ "parallel": [{ "uses": "data.assert", "with": { "that": "`true`", "message": "m" } }] }] }),
    ];
    for fields in good {
        let mut definition = task(fields);
        if definition["pipeline"][0]["params"].is_null() {
            definition["pipeline"][0].as_object_mut().unwrap().remove("params");
        }
        definition["params"] = json!({ "x": true, "url": "https://example.com", "h": {} });
        assert!(is_accepted(&definition), "refused: {definition}");
        let faults: Vec<String> = validator().iter_errors(&definition).map(|it| it.to_string()).collect();
        assert!(faults.is_empty(), "{definition}: {faults:#?}");
    }

    let bad = [
        json!({ "titel": "a task" }),
        json!({ "pipeline": [] }),
        json!({ "priority": 10 }),
        json!({ "overlap": "wait" }),
        json!({ "retry": { "attempts": 3 } }),
        step(json!({ "uses": "http.get", "with": {} })),
        step(json!({ "with": { "url": "https://example.com", "timeout": "3s" } })),
        step(json!({ "id": "9a" })),
        step(json!({ "on_error": "ignore" })),
        json!({ "pipeline": [{ "parallel": [] }] }),
        json!({ "pipeline": [{ "uses": "inbox.post", "with": { "text": "x", "level": "loud" } }] }),
    ];
    for fields in bad {
        let definition = task(fields);
        assert!(!is_accepted(&definition), "accepted: {definition}");
        assert!(!validator().is_valid(&definition), "meets the schema: {definition}");
    }
}

/// What the schema lists is what the reader knows: a refusal of an unknown field names every one of them.
#[test]
fn no_field_is_missing_from_the_schema() {
    let zone = Zone::utc();
    let against = Acceptance {
        now: "2026-11-23T08:30:00Z".parse().unwrap(),
        default_zone: Some((&zone, ZoneSource::Agent)),
        catalogue: &Catalogue::default(),
        limits: &Limits::DEFAULT,
    };
    let schema = json_schema();
    let known = |at: &str| -> Vec<String> {
        schema.pointer(at).unwrap()["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let mut definition = task(json!({ "zzzzzz": 1 }));
    definition["pipeline"][0]["zzzzzz"] = json!(1);
    let faults = accept(&definition, against).unwrap_err();
    for (path, at) in [("$.zzzzzz", ""), ("$.pipeline[0].zzzzzz", "/$defs/Step")] {
        let fault = faults.as_slice().iter().find(|fault| fault.path == path).unwrap();
        let (_, listed) = fault.message.split_once("it has ").unwrap();
        // The original's words, and what is accepted and ignored.
        let ours =
            |name: &&str| !["created_by", "max_retries", "backoff_strategy", "dedupe_window_seconds"].contains(name);
        let mut read: Vec<&str> = listed.split(", ").filter(ours).collect();
        let mut written = known(at);
        read.sort_unstable();
        written.sort_unstable();
        assert_eq!(written, read);
    }
}
