//! Dry runs at the command line: each call is shown, none is made, nothing is kept, no secret is opened.

use ordinaut_schema::run::RunState;
use serde_json::{Value, json};

use crate::support::lab::Lab;
use crate::support::programs::{Answer, CommandLine, bare, finish};

const KEY: &str = "a2V5IG9mIHRoZSB0ZXN0cywgd2l0aCAzMiBieXRlcyE=";
const CANARY: &str = "c4nary-s3cr3t-value";

const BRIEFING: &str = "\
title: Briefing
schedule_kind: manual
params: { city: Chisinau }
pipeline:
  - id: ask
    uses: http.post
    with:
      url: SINK/hit/ask
      headers: { X-Key: '${secrets.CANARY}' }
      json: { city: '${params.city}' }
  - id: tell
    if: steps.ask.status == 200
    uses: inbox.post
    with: { text: 'Said ${steps.ask.body}' }
";

async fn ordinaut(lab: &Lab, arguments: &[&str], input: &str) -> Answer {
    let mut command = bare(lab.directory());
    // The key is at hand, and not used.
    command.env("DATABASE_URL", &lab.database.url).env("ORDINAUT_SECRET_KEY", KEY);
    finish(command, arguments, input).await
}

#[tokio::test]
async fn a_dry_run_shows_each_call_with_the_outputs_of_the_last_run_and_makes_none() {
    let lab = Lab::fast().await;
    let host = lab.sink.address.to_string();
    assert_eq!(ordinaut(&lab, &["secret", "set", "CANARY", "--host", &host], CANARY).await.code, 0);
    let task = lab.keep(BRIEFING).await;

    let before = lab.database.every_row().await;
    let first = ordinaut(&lab, &["run", "briefing", "--dry-run", "--json"], "").await;
    let calls = &first.json()["calls"];
    assert_eq!(calls[0]["call"], format!("POST http://{host}/hit/ask"));
    assert_eq!(calls[0]["input"]["headers"]["X-Key"], "[secret CANARY]");
    assert_eq!(
        (&calls[1]["verdict"], &calls[1]["input"]["text"]),
        (&json!("depends"), &json!("Said ${steps.ask.body}"))
    );
    assert_eq!(lab.database.every_row().await, before, "a dry run left something behind");
    assert_eq!(lab.sink.calls("ask"), []);

    let executor = lab.executor_with("executor", &[("ORDINAUT_SECRET_KEY".into(), KEY.into())]);
    assert_eq!(lab.end_of(lab.run_now(task, "1").await).await.state, RunState::Succeeded);
    assert_eq!(lab.sink.calls("ask").len(), 1);
    drop(executor);
    lab.idle().await;

    let rehearsed = ordinaut(&lab, &["run", "briefing", "--dry-run", "--param", "city=Rome", "--json"], "").await;
    let said = rehearsed.json();
    assert_eq!((&said["dry_run"], &said["task_id"]), (&json!(true), &json!(task)));
    assert_eq!(said["calls"][0]["input"]["json"], json!({ "city": "Rome" }));
    assert_eq!(said["calls"][0]["sample"], "last_run");
    assert_eq!((&said["calls"][1]["from"], &said["calls"][1]["input"]["text"]), (&json!("sample"), &json!("Said ask")));
    let table = ordinaut(&lab, &["run", "briefing", "--dry-run"], "").await;
    assert_eq!(table.code, 0, "{table:?}");
    for part in [
        "would be called",
        "POST http://",
        "[secret CANARY]",
        "depends on `steps.ask.status == 200`",
        "nothing was started",
    ] {
        assert!(table.stdout.contains(part), "{part} is not in\n{}", table.stdout);
    }
    assert_eq!(lab.sink.calls("ask").len(), 1, "a dry run called");
    for answer in [&first, &rehearsed, &table] {
        assert!(!format!("{answer:?}").contains(CANARY), "{answer:?}");
    }
    assert_eq!(lab.runs(task).await.len(), 1, "a dry run started a run");
}

#[tokio::test]
async fn a_dry_run_that_is_sure_to_fail_exits_1_and_says_where() {
    let cli = CommandLine::new().await;
    let definition = "\
title: Wait
schedule_kind: manual
params: { wait: 2h }
pipeline:
  - { id: later, uses: wait.for, with: { duration: '${params.wait}' } }
";
    cli.run_with(&["apply", "-f", "-", "--json"], definition).await.json();
    let good = cli.run(&["run", "wait", "--dry-run"]).await;
    assert!(good.code == 0 && good.stdout.contains("waits 2h: until "), "{good:?}");
    let bad = cli.run(&["run", "wait", "--dry-run", "--param", "wait=soon"]).await;
    assert!(bad.code == 1 && bad.stdout.contains("the run would fail at `later`"), "{bad:?}");
    let bad = cli.run(&["run", "wait", "--dry-run", "--param", "wait=soon", "--json"]).await;
    assert_eq!((bad.code, &bad.parsed()["fails_at"]), (1, &json!("later")));
    assert_eq!(cli.run(&["run", "wait", "--dry-run", "--wait"]).await.code, 2);
    assert_eq!(cli.run(&["runs", "--json"]).await.json(), json!([]));
}

#[tokio::test]
async fn applying_dry_shows_the_calls_of_what_would_change() {
    let cli = CommandLine::new().await;
    let definition = "\
title: Note
schedule_kind: manual
pipeline:
  - { id: note, uses: inbox.post, with: { text: Hello } }
";
    let file = cli.file("note.yaml", definition);
    let said = cli.run(&["apply", "-f", &file, "--dry-run", "--json"]).await.json();
    assert_eq!((&said[0]["outcome"], &said[0]["calls"][0]["input"]["text"]), (&json!("created"), &json!("Hello")));
    let table = cli.run(&["apply", "-f", &file, "--dry-run"]).await;
    assert!(table.stdout.contains("Note:") && table.stdout.contains("leaves a message in the inbox"), "{table:?}");
    assert_eq!(cli.run(&["tasks", "--json"]).await.json(), json!([]));
    cli.run(&["apply", "-f", &file, "--json"]).await.json();
    let unchanged = cli.run(&["apply", "-f", &file, "--dry-run", "--json"]).await.json();
    assert_eq!((&unchanged[0]["outcome"], &unchanged[0]["calls"]), (&json!("unchanged"), &Value::Null));
}
