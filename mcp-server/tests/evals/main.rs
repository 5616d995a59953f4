//! The evaluation set: requests as people type them, played against the real server and judged by Postgres.
//!
//! What a case says is described in mcp-server/evals/README.md. `case` reads it, `site` sets it up, `play` plays its
//! transcript, `mending` judges what a call after a refusal was made of, `outputs` what is answered; `drive` has a model's
//! program answer instead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod case;
mod drive;
mod mending;
#[path = "../tools/outputs.rs"]
mod outputs;
mod play;
mod site;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use self::{
    case::{Call, Case, set, shipped},
    site::{PATIENCE, Site, tools},
};

/// Why a case is not answered; what it says is for whoever wrote the case.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("what is to be there cannot be set up: {0}")]
    Given(String),
    #[error("a name cannot be said: {0}")]
    Name(String),
    #[error("a call went wrong: {0}")]
    Call(String),
    #[error("a refusal is another: {0}")]
    Refusal(String),
    #[error("a call is not mended by the refusal's words alone: {0}")]
    Mending(String),
    #[error("the answer lacks a fact: {0}")]
    Answer(String),
    #[error("Postgres says otherwise: {0}")]
    Verdict(String),
    #[error("the command failed: {0}")]
    Command(String),
}

/// Each case has processes and a database of its own; more at once wait for each other.
const AT_ONCE: usize = 4;

type Played = (Case, Duration, Result<(), Failed>);

/// Plays cases, or has a command answer them one by one.
async fn run(cases: Vec<Case>, drive: Option<&(String, Duration)>) -> Vec<Played> {
    let playing = stream::iter(cases).map(async |case| {
        let began_at = Instant::now();
        let ended = match drive {
            Some((command, patience)) => drive::drive(&case, command, *patience).await,
            None => play::play(&case).await,
        };
        (case, began_at.elapsed(), ended)
    });
    let mut played: Vec<_> = playing.buffer_unordered(if drive.is_some() { 1 } else { AT_ONCE }).collect().await;
    played.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    played
}

/// A line for each case, and what went wrong below.
fn table(played: &[Played]) -> String {
    let width = played.iter().map(|(case, ..)| case.id.len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut add = |line: String| writeln!(text, "{line}").expect("a text takes any line");
    for (case, took, ended) in played {
        let verdict = if ended.is_ok() { "answered" } else { "FAILED" };
        let slip = if case.transcript[0].refused.is_some() { "slip" } else { "" };
        let request: String = case.request.split_whitespace().collect::<Vec<_>>().join(" ");
        let request: String = request.chars().take(70).collect();
        add(format!("{:width$}  {verdict:8}  {slip:4}  {:>5} ms  {request}", case.id, took.as_millis()));
    }
    let answered = played.iter().filter(|(.., ended)| ended.is_ok()).count();
    let slips = played.iter().filter(|(case, ..)| case.transcript[0].refused.is_some()).count();
    add(format!("{answered} of {} requests answered; {slips} begin with a refused call", played.len()));
    for (case, _, ended) in played {
        if let Err(why) = ended {
            add(format!("\n{}: {why}", case.id));
        }
    }
    text
}

fn one(id: &str) -> Case {
    let cases = Case::read_set(&shipped()).unwrap();
    cases.into_iter().find(|case| case.id == id).unwrap()
}

#[expect(clippy::print_stdout, reason = "a test program's table, on no server's stdout")]
fn print(text: &str) {
    println!("{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_set_is_answered() {
    let played = run(Case::read_set(&shipped()).unwrap(), None).await;
    let table = table(&played);
    print(&table);
    assert!(played.iter().all(|(.., ended)| ended.is_ok()), "see the table");
}

#[tokio::test]
async fn the_set_has_forty_requests_over_every_tool_and_fifteen_that_begin_with_a_slip() {
    let cases = Case::read_set(&shipped()).unwrap();
    let slips = cases.iter().filter(|case| case.transcript[0].refused.is_some()).count();
    assert!(cases.len() >= 40 && slips >= 15, "{} requests, {slips} slips", cases.len());
    let called: BTreeSet<&str> = cases.iter().flat_map(|case| &case.transcript).map(|call| &*call.tool).collect();
    let (_site, client) = Site::set_up(&cases[0]).await.unwrap();
    let tools = tools(&client).await;
    let missed: Vec<_> = tools.iter().filter(|tool| !called.contains(&*tool.name)).map(|tool| &tool.name).collect();
    assert!(missed.is_empty(), "no request calls {missed:?}");
}

/// A case of the set, spoiled; and what must then go wrong.
type Spoiled = (&'static str, fn(&mut Case), fn(&Failed) -> bool);

fn change(call: &mut Call, pointer: &str, value: Value) {
    let mut arguments = Value::Object(std::mem::take(&mut call.with));
    set(&mut arguments, pointer, value).unwrap();
    call.with = serde_json::from_value(arguments).unwrap();
}

/// Each kind of check, seen to fail.
#[tokio::test]
async fn a_case_that_is_spoiled_fails_where_it_is_spoiled() {
    let spoiled: [Spoiled; 11] = [
        // Every call goes well, and Postgres holds something else than what was asked for.
        ("last-friday", |case| change(&mut case.transcript[0], "/schedule_expr", json!("0 17 * * FRI#1")), is_verdict),
        ("last-friday", |case| case.judge[0].is = json!(false), is_verdict),
        ("pause-for-two-weeks", |case| drop(case.transcript.pop()), is_verdict),
        // The model asks for what is not there, or makes an id up.
        ("pause-for-two-weeks", |case| change(&mut case.transcript[1], "/task", json!("Thunder")), is_call),
        ("stop-that-export", |case| drop(case.transcript.remove(0)), is_call),
        // The slip is none, or is another one.
        ("seconds-cron", |case| change(&mut case.transcript[0], "/schedule_expr", json!("0 7 * * *")), is_refusal),
        ("seconds-cron", |case| change(&mut case.transcript[0], "/priority", json!(77)), is_refusal),
        // Mended with what the refusal does not say, or with more than what it was to be mended from.
        ("seconds-cron", |case| change(&mut case.transcript[1], "/schedule_expr", json!("5 9 * * *")), is_mending),
        ("seconds-cron", |case| change(&mut case.transcript[1], "/title", json!("Other")), is_mending),
        ("city-for-a-zone", |case| mend_from(case, "Europe/Bucharest"), is_mending),
        // The facts are not in the answer.
        ("why-not-on-monday", |case| case.answer.push("a full moon".to_owned()), is_answer),
    ];
    for (id, spoil, expected) in spoiled {
        let mut case = one(id);
        spoil(&mut case);
        let why = play::play(&case).await.expect_err(id);
        assert!(expected(&why), "{id}: {why}");
    }
}

fn mend_from(case: &mut Case, words: &str) {
    case.transcript[0].refused.as_mut().unwrap().mend_from = vec![words.to_owned()];
}

fn is_verdict(why: &Failed) -> bool {
    matches!(why, Failed::Verdict(_))
}

fn is_call(why: &Failed) -> bool {
    matches!(why, Failed::Call(_))
}

fn is_refusal(why: &Failed) -> bool {
    matches!(why, Failed::Refusal(_))
}

fn is_mending(why: &Failed) -> bool {
    matches!(why, Failed::Mending(_))
}

fn is_answer(why: &Failed) -> bool {
    matches!(why, Failed::Answer(_))
}

/// What a model's program would do, done by a shell: it reads the request, and calls the server that it is told of.
const PROGRAM: &str = r#"
    request=$(cat)
    test -n "$ORDINAUT_EVAL_URL" && test -n "$ORDINAUT_EVAL_TOKEN" && grep -q mcpServers "$ORDINAUT_EVAL_CONFIG"
    pipes=$(mktemp -d)
    trap 'rm -r "$pipes"' EXIT
    mkfifo "$pipes/in" "$pipes/out"
    "$ORDINAUT_EVAL_SERVER" stdio <"$pipes/in" >"$pipes/out" 2>/dev/null &
    exec 3>"$pipes/in" 4<"$pipes/out"
    say() { printf '{"jsonrpc":"2.0",%s}\n' "$1" >&3; }
    say '"id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"sh","version":"1"}}'
    read -r answer <&4
    say '"method":"notifications/initialized"'
    say '"id":2,"method":"tools/call","params":{"name":"pause","arguments":{"task":"Morning weather","until":"+14d"}}'
    read -r answer <&4
    exec 3>&-
    echo "$request: done"
"#;

#[tokio::test]
async fn a_command_that_answers_a_request_is_judged_by_what_it_left_behind() {
    let case = one("pause-for-two-weeks");
    let program = format!("set -eu\n{PROGRAM}");
    drive::drive(&case, &program, PATIENCE).await.unwrap();
    let idle = drive::drive(&case, "cat", PATIENCE).await.unwrap_err();
    assert!(is_verdict(&idle), "{idle}");
    let failing = drive::drive(&case, "exit 3", PATIENCE).await.unwrap_err();
    assert!(failing.to_string().contains("it ended with exit status: 3"), "{failing}");
    let hanging = drive::drive(&case, "exec sleep 600", Duration::from_secs(1)).await.unwrap_err();
    assert!(hanging.to_string().contains("not done after 1 s"), "{hanging}");
    let fact = Case { answer: vec!["done".to_owned()], ..case };
    drive::drive(&fact, &program, PATIENCE).await.unwrap();
}

/// Not part of the suite: the set, and the command, are those that `scripts/evals` was given.
#[tokio::test]
#[ignore = "scripts/evals runs it"]
#[expect(clippy::disallowed_methods, reason = "what a person asked for comes by the environment")]
async fn the_set_that_is_asked_for_is_answered() {
    let asked = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let directory = asked("ORDINAUT_EVALS_SET").map_or_else(shipped, Into::into);
    let mut cases = Case::read_set(&directory).unwrap_or_else(|wrong| panic!("{wrong}"));
    if let Some(id) = asked("ORDINAUT_EVALS_CASE") {
        cases.retain(|case| case.id == id);
    }
    let patience = asked("ORDINAUT_EVALS_PATIENCE").map_or(300, |seconds| seconds.parse().expect("whole seconds"));
    let drive = asked("ORDINAUT_EVALS_DRIVE").map(|command| (command, Duration::from_secs(patience)));
    let played = run(cases, drive.as_ref()).await;
    print(&table(&played));
    let failed = played.iter().filter(|(.., ended)| ended.is_err()).count();
    assert!(failed == 0 && !played.is_empty(), "{failed} of {} requests are not answered", played.len());
}

#[test]
fn a_file_that_says_something_else_is_refused_with_what_it_is() {
    let wrong = |text: &str| Case::parse("x", text).unwrap_err();
    assert!(wrong("request: hi\ntranscript: []\njudge: []").contains("judged by one query at least"));
    assert!(wrong("request: hi\ntranscripts: []").contains("transcripts"));
    assert!(wrong("id: y\nrequest: hi\ntranscript: []\njudge: []").contains("its file's name says `x`"));
    assert!(
        wrong("request: hi\ntranscript: [{ again: { /a: 1 } }]\njudge: [{ sql: select 1, is: 1 }]").contains("first")
    );
}

#[test]
fn the_example_of_the_readme_is_a_request() {
    let readme = include_str!("../../evals/README.md");
    let example = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    Case::parse("example", example).unwrap();
}
