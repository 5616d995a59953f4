//! The command line on a private database: what it answers, in which form, and with which exit code.

use std::path::Path;

use ordinaut_store::{Caller, Role, Settings, Store};
use serde_json::json;

use crate::support::programs::{CommandLine, bare, finish};

const TWO: &str = "\
title: One
schedule_kind: cron
schedule_expr: 0 8 * * *
pipeline:
  - uses: inbox.post
    with: { text: Good morning }
---
title: Two
schedule_kind: interval
schedule_expr: 15m
pipeline:
  - uses: inbox.post
    with: { text: Again }
";

#[tokio::test]
async fn applying_a_file_twice_changes_nothing_and_an_edit_changes_what_was_edited() {
    let cli = CommandLine::new().await;
    let file = cli.file("two.yaml", TWO);

    let first = cli.run(&["apply", "-f", &file, "--json"]).await.json();
    assert_eq!(first[0]["outcome"], "created");
    assert_eq!(first[1]["outcome"], "created");
    assert_eq!(first[0]["next"].as_array().unwrap().len(), 3);
    assert!(first[0]["next"][0]["local"].as_str().unwrap().contains("T08:00:00+0"), "{first}");

    let second = cli.run(&["apply", "-f", &file, "--json"]).await.json();
    for n in 0..2 {
        assert_eq!(second[n]["outcome"], "unchanged", "{second}");
        assert_eq!(second[n]["id"], first[n]["id"]);
        assert_eq!(second[n]["revision"], 1);
    }

    let before = cli.run(&["tasks", "Two", "--json"]).await.json();
    let edited = cli.file("edited.yaml", &TWO.replace("Again", "Once more"));
    let third = cli.run(&["apply", "-f", &edited, "--json"]).await.json();
    assert_eq!(third[0]["outcome"], "unchanged");
    assert_eq!(third[1]["outcome"], "updated");
    assert_eq!(third[1]["changed"], json!(["pipeline"]));
    assert_eq!(third[1]["revision"], 2);
    let after = cli.run(&["tasks", "Two", "--json"]).await.json();
    assert_eq!(before["next_occurrence_at"], after["next_occurrence_at"], "an edit beside the schedule moved it");
}

#[tokio::test]
async fn a_refused_file_exits_2_with_every_fault_of_every_document_and_stores_nothing() {
    let cli = CommandLine::new().await;
    let good = cli.file("good.yaml", TWO);
    let bad = cli.file(
        "bad.yaml",
        "\
title: Three
schedule_kind: cron
schedule_expr: 0 0 8 * * *
pipeline:
  - uses: inbox.posts
    with: { text: x }
  - uses: inbox.post
    if: 'steps.step_1.level == \"ok\"'
    with: { text: x }
---
title: one
schedule_kind: once
schedule_expr: 2020-01-01T00:00:00Z
pipeline: []
",
    );

    let refused = cli.run(&["apply", "-f", &good, "-f", &bad]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert_eq!(refused.stdout, "");
    for told in [
        "bad.yaml:3: $.schedule_expr",
        "bad.yaml:5: $.pipeline[0].uses",
        "bad.yaml:8: $.pipeline[1].if",
        "bad.yaml:11: $.title",
        "bad.yaml:13: $.schedule_expr",
        "bad.yaml:14: $.pipeline",
        "nothing was stored",
    ] {
        assert!(refused.stderr.contains(told), "{told} is not in\n{}", refused.stderr);
    }

    let refused = cli.run(&["--json", "apply", "-f", &bad]).await;
    let faults = refused.parsed()["error"]["faults"].as_array().unwrap().clone();
    assert!(faults.iter().any(|it| it["code"] == "unknown_action" && it["line"] == 5), "{faults:?}");
    assert_eq!(cli.run(&["tasks", "--json"]).await.json(), json!([]));
}

#[tokio::test]
async fn what_is_exported_can_be_applied_and_is_the_same() {
    let cli = CommandLine::new().await;
    cli.run_with(&["apply", "-f", "-", "--json"], TWO).await.json();

    let exported = cli.run(&["export"]).await;
    assert_eq!(exported.code, 0, "{exported:?}");
    let again = cli.run_with(&["apply", "-f", "-", "--json"], &exported.stdout).await.json();
    assert_eq!(
        (&again[0]["outcome"], &again[1]["outcome"]),
        (&json!("unchanged"), &json!("unchanged")),
        "{exported:?}"
    );

    let other = CommandLine::new().await;
    let there = other.run_with(&["apply", "-f", "-", "--json"], &exported.stdout).await.json();
    assert_eq!(there[0]["outcome"], "created");
    assert_eq!(other.run(&["export"]).await.stdout, exported.stdout);
}

#[tokio::test]
async fn a_dry_run_says_what_would_become_and_stores_nothing() {
    let cli = CommandLine::new().await;
    let said = cli.run_with(&["apply", "-f", "-", "--dry-run"], TWO).await;
    assert!(said.stdout.contains("would be created"), "{said:?}");
    assert_eq!(cli.run(&["tasks", "--json"]).await.json(), json!([]));
}

#[tokio::test]
async fn a_run_asked_for_twice_under_one_id_is_one_run_that_waits_for_an_executor() {
    let cli = CommandLine::new().await;
    cli.run_with(&["apply", "-f", "-", "--json"], TWO).await.json();

    let first = cli.run(&["run", "one", "--request-id", "r1", "--json"]).await.json();
    let second = cli.run(&["run", "ONE", "--request-id", "r1", "--json"]).await.json();
    assert_eq!(first["id"], second["id"]);
    assert_eq!((&first["existed"], &second["existed"]), (&json!(false), &json!(true)));

    let id = first["id"].as_str().unwrap();
    let run = cli.run(&["runs", id, "--json"]).await.json();
    assert_eq!((&run["state"], &run["trigger"], &run["task"]), (&json!("pending"), &json!("manual"), &json!("One")));
    let runs = cli.run(&["runs", "One", "--json"]).await.json();
    assert_eq!(runs.as_array().unwrap().len(), 1);

    let waited = cli.run(&["run", "One", "--request-id", "r1", "--wait", "--timeout", "300ms"]).await;
    assert_eq!(waited.code, 6, "{waited:?}");
    assert!(waited.stderr.contains("no executor is alive"), "{waited:?}");
}

#[tokio::test]
async fn a_run_that_did_not_succeed_is_retried_as_a_new_run_and_another_is_not() {
    let cli = CommandLine::new().await;
    cli.run_with(&["apply", "-f", "-", "--json"], TWO).await.json();
    let first = cli.run(&["run", "One", "--json"]).await.json();
    let id = first["id"].as_str().unwrap();

    let early = cli.run(&["retry", id]).await;
    assert_eq!(early.code, 2, "{early:?}");
    let store = Store::connect(Settings::new(&cli.database.url, Role::Executor)).await.unwrap();
    store.cancel_run(&Caller::local("test"), id.parse().unwrap(), None).await.unwrap();
    let retried = cli.run(&["retry", id, "--json"]).await.json();
    assert_eq!((&retried["retry_of"], &retried["task"]), (&json!(id), &json!("One")));
    let shown = cli.run(&["runs", retried["id"].as_str().unwrap(), "--json"]).await.json();
    assert_eq!((&shown["state"], &shown["trigger"]), (&json!("pending"), &json!("retry")));
    let anew = cli.run(&["retry", id, "--from-start", "--wait", "--timeout", "300ms"]).await;
    assert_eq!(anew.code, 6, "nothing executes it: {anew:?}");
    assert_eq!(cli.run(&["retry", "0193a2b4-0000-8000-8000-000000000001"]).await.code, 4);
    assert_eq!(cli.run(&["retry", "One"]).await.code, 2);
}

#[tokio::test]
async fn what_is_not_there_exits_4_and_names_what_comes_near() {
    let cli = CommandLine::new().await;
    cli.run_with(&["apply", "-f", "-"], &TWO.replace("One", "Briefing")).await;

    let missing = cli.run(&["run", "Briefin"]).await;
    assert_eq!(missing.code, 4, "{missing:?}");
    assert!(missing.stderr.contains("did you mean `Briefing`?"), "{missing:?}");
    assert_eq!(cli.run(&["tasks", "--agent", "nobody"]).await.code, 4);
    let missing = cli.run(&["--json", "runs", "0193a2b4-0000-8000-8000-000000000001"]).await;
    assert_eq!(missing.code, 4);
    assert_eq!(missing.parsed()["error"]["exit"], 4);
}

#[tokio::test]
async fn an_agents_token_is_shown_once_and_its_tasks_are_its_own() {
    let cli = CommandLine::new().await;
    let added =
        cli.run(&["agent", "add", "phone", "--timezone", "europe/chisinau", "--expires", "30d", "--json"]).await;
    let token = added.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("ordinaut_"));
    cli.run_with(&["apply", "-f", "-", "--json", "--agent", "phone"], TWO).await.json();

    assert_eq!(cli.run(&["tasks", "--json"]).await.json(), json!([]));
    assert_eq!(cli.run(&["tasks", "--json", "--agent", "phone"]).await.json().as_array().unwrap().len(), 2);
    let listed = cli.run(&["agent", "list", "--json"]).await;
    assert!(!listed.stdout.contains(&token));
    let phone = listed.json().as_array().unwrap().iter().find(|it| it["name"] == "phone").unwrap().clone();
    assert_eq!(phone["timezone"], "Europe/Chisinau");
    assert_eq!(phone["tokens"][0]["scopes"], json!(["task:read", "task:write", "run:control", "event:publish"]));

    assert_eq!(cli.run(&["agent", "add", "phone"]).await.code, 2);
    assert_eq!(cli.run(&["agent", "revoke", "phone"]).await.code, 0);
    let tasks = cli.run(&["tasks", "--json", "--agent", "phone"]).await.json();
    assert_eq!(tasks[0]["state"], "paused");
}

#[tokio::test]
async fn the_gate_is_shut_and_opened_and_status_says_so() {
    let cli = CommandLine::new().await;
    assert_eq!(cli.run(&["pause-all"]).await.code, 0);
    let status = cli.run(&["status", "--json"]).await.json();
    assert!(status["gate"]["shut_at"].is_string(), "{status}");
    assert_eq!(cli.run(&["resume-all"]).await.code, 0);
    let status = cli.run(&["status", "--json"]).await.json();
    assert_eq!(status["gate"], json!(null));
    assert_eq!(status["executors"], json!([]));
}

#[tokio::test]
async fn doctor_finds_that_nothing_runs_the_tasks_and_shows_no_password() {
    let cli = CommandLine::new().await;
    let mut command = bare(&cli.directory);
    let url = format!("{}&password=hush", cli.database.url);
    command.env("DATABASE_URL", &url).env("REDIS_URL", "redis://ada:hush@localhost:1/0");
    let said = finish(command, &["doctor"], "").await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(!said.stdout.contains("hush"), "{}", said.stdout);
    for told in ["none alive", "ordinaut-executor", "tzdb 20", "database answers"] {
        assert!(said.stdout.contains(told), "{told} is not in\n{}", said.stdout);
    }
}

#[tokio::test]
async fn doctor_names_the_migrations_that_are_missing_and_does_not_wait_for_a_silent_database() {
    let cli = CommandLine::new().await;
    cli.database.forget_last_migration().await;
    let mut command = bare(&cli.directory);
    command.env("DATABASE_URL", &cli.database.url);
    let said = finish(command, &["doctor"], "").await;
    assert!(said.stdout.contains("not applied: 00"), "{said:?}");

    // It takes connections, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let mut command = bare(&cli.directory);
    command.env("DATABASE_URL", format!("postgres://me@{}/none", silent.local_addr().expect("it has an address")));
    let said = finish(command, &["doctor"], "").await;
    assert_eq!(said.code, 1, "{said:?}");
    for told in ["says nothing within 3 s", "DATABASE_URL"] {
        assert!(said.stdout.contains(told), "{told} is not in\n{}", said.stdout);
    }
}

#[tokio::test]
async fn without_a_database_next_answers_and_status_says_that_nothing_runs() {
    let directory = Path::new("/tmp/ordinaut-cli-nowhere");
    let said =
        finish(bare(directory), &["next", "30 8 * * MON-FRI", "--tz", "Europe/Chisinau", "--count", "2"], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("08:30"), "{said:?}");
    let said = finish(bare(directory), &["next", "0 0 30 2 *", "--json"], "").await;
    assert_eq!(said.code, 2, "{said:?}");
    let said = finish(
        bare(directory),
        &["next", "--jsonl"],
        "{\"id\": 1, \"expr\": \"0 8 * * *\", \"tz\": \"UTC\", \"after\": \"2026-11-23T00:00:00Z\"}\n",
    )
    .await;
    assert_eq!(said.json()["next"][0], "2026-11-23T08:00:00Z");

    let said = finish(bare(directory), &["status"], "").await;
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.stderr.contains("ordinaut up"), "{said:?}");
    assert!(!directory.exists(), "looking made something");
    let mut command = bare(directory);
    command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    assert_eq!(finish(command, &["tasks"], "").await.code, 5);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_a_command_quietly() {
    let cli = CommandLine::new().await;
    let mut command = bare(&cli.directory);
    command.env("DATABASE_URL", &cli.database.url).args(["tasks", "--json"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test]
async fn claude_config_names_the_installed_program() {
    let said = finish(bare(Path::new("/tmp/ordinaut-cli-nowhere")), &["claude-config"], "").await.json();
    let entry = &said["mcpServers"]["ordinaut"];
    assert_eq!(entry["args"], json!(["stdio"]));
    assert!(Path::new(entry["command"].as_str().unwrap()).is_file());
}
