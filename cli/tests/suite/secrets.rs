//! Secrets, with the real programs: one goes out with a call, and is found nowhere afterwards.

mod elsewhere;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::any,
};
use base64::{Engine as _, engine::general_purpose};
use futures_util::StreamExt as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ordinaut_schema::{id::RunId, run::RunState};
use ordinaut_store::embedded::PostgresBinaries;
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use crate::support::chat::{call, chat};
use crate::support::lab;
use crate::support::lab::{Lab, me};
use crate::support::programs::{CommandLine, PATIENCE, bare, finish, path};

const CANARY: &str = "c4nary/+s3cr3t \"v\\lue~1";
const KEY: &str = "a2V5IG9mIHRoZSB0ZXN0cywgd2l0aCAzMiBieXRlcyE=";

fn percent(text: &str, keep: &str, space: &str) -> String {
    let encode = |c: char| match c {
        ' ' => space.to_owned(),
        c if c.is_ascii_alphanumeric() || keep.contains(c) => c.to_string(),
        c => format!("%{:02X}", u32::from(c)),
    };
    text.chars().map(encode).collect()
}

/// Every way in which the value is said back, and is looked for.
fn forms(value: &str) -> Vec<String> {
    let standard = general_purpose::STANDARD.encode(value);
    let url_safe = general_purpose::URL_SAFE.encode(value);
    let json = json!(value).to_string();
    vec![
        value.to_owned(),
        json[1..json.len() - 1].to_owned(),
        standard.trim_end_matches('=').to_owned(),
        standard,
        url_safe.trim_end_matches('=').to_owned(),
        url_safe,
        percent(value, "*-._", "+"),
        percent(value, "-._~", "%20"),
        percent(value, "-._~", "%20").to_lowercase(),
    ]
}

/// What no kept text may contain: the forms, and the inner part of the value in base64 of something longer.
fn needles() -> Vec<String> {
    let mut needles = forms(CANARY);
    // What is cut off is a secret still.
    needles.extend([CANARY[..6].to_owned(), general_purpose::STANDARD.encode(CANARY)[..8].to_owned()]);
    for before in ["", "x", "xx"] {
        let standard = general_purpose::STANDARD_NO_PAD.encode(format!("{before}{CANARY}"));
        let inner = &standard[4..standard.len() - 4];
        needles.push(inner.to_owned());
        needles.push(inner.replace('+', "-").replace('/', "_"));
    }
    needles
}

/// Says back what it was sent, in every form, in headers, keys and body.
#[derive(Clone)]
struct Mirror {
    address: SocketAddr,
    /// What came: header, query, body.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mirror = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let router = Router::new().fallback(any(reflect)).with_state(mirror.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        mirror
    }
}

async fn reflect(State(mirror): State<Mirror>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let header = |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (mut key, basic) = (header("x-key"), header("authorization"));
    if key.is_empty() {
        key = header("x-api-key") + basic.strip_prefix("Bearer ").unwrap_or_default();
    }
    mirror.seen.lock().unwrap().extend([key.clone(), basic.clone(), parts.uri.to_string(), body.clone()]);
    let mut headers = HeaderMap::new();
    let mut said = forms(&key);
    said.extend([basic, parts.uri.to_string(), body]);
    for text in &said {
        headers.append("x-echo", text.parse().unwrap());
    }
    match parts.uri.path() {
        "/text" => (headers, said.join("\n")).into_response(),
        path if path.starts_with("/fail") => {
            (StatusCode::INTERNAL_SERVER_ERROR, headers, said.join(" ")).into_response()
        }
        "/hang" => {
            let begun = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(said.join(" "))]);
            (headers, Body::from_stream(begun.chain(futures_util::stream::pending()))).into_response()
        }
        "/v1/chat/completions" => {
            let message =
                json!({ "role": "assistant", "content": json!({ "said": said, key.clone(): 1 }).to_string() });
            Json(json!({ "model": key, "choices": [{ "message": message }] })).into_response()
        }
        _ => (headers, Json(json!({ "list": said, "keys": { key.clone(): { "deep": format!("<{key}>") } } })))
            .into_response(),
    }
}

fn definition(title: &str, mirror: SocketAddr, path: &str) -> Value {
    json!({
        "title": title,
        "schedule_kind": "manual",
        "retry": { "max_attempts": 1 },
        "pipeline": [
            {
                "id": "ask",
                "uses": "http.post",
                "with": {
                    "url": format!("http://{mirror}{path}"),
                    "headers": { "X-Key": "${secrets.CANARY}", "Authorization": "${basic_auth('me', secrets.CANARY)}" },
                    "query": { "key": "${secrets.CANARY}" },
                    "json": { "a": "${secrets.CANARY}", "b": "key is ${secrets.CANARY}!" },
                },
            },
            { "id": "keep", "uses": "event.publish", "with": { "topic": "canary.seen", "payload": "${steps.ask}" } },
            { "id": "tell", "uses": "inbox.post", "with": { "text": "${to_json(steps.ask)}" } },
        ],
        "on_failure": [{ "uses": "inbox.post", "with": { "text": "failed: ${error.message}" } }],
    })
}

async fn dump(lab: &Lab) -> String {
    let found = PostgresBinaries::find(Some(&path()), Path::new("/nowhere")).unwrap();
    // libpq takes no parameter that is the driver's own.
    let (address, parameters) = lab.database.url.split_once('?').unwrap_or((&lab.database.url, ""));
    let known = parameters
        .split('&')
        .filter(|it| ["host=", "port=", "user=", "dbname="].iter().any(|name| it.starts_with(name)));
    let url = format!("{address}?{}", known.collect::<Vec<_>>().join("&"));
    let output = Command::new(found.postgres.with_file_name("pg_dump")).arg(url).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_canary_goes_out_with_the_call_and_is_found_nowhere_afterwards() {
    let (lab, mirror) = (Lab::open().await, Mirror::open().await);
    let mut set = bare(lab.directory());
    set.env("DATABASE_URL", &lab.database.url).env("ORDINAUT_SECRET_KEY", KEY);
    let host = mirror.address.to_string();
    let set = finish(set, &["secret", "set", "CANARY", "--host", &host], &format!("{CANARY}\n")).await;
    assert_eq!(set.code, 0, "{set:?}");
    assert!(set.stderr.contains("newline") && !format!("{set:?}").contains("c4nary"), "{set:?}");

    let environment = [
        ("ORDINAUT_LOG".into(), "trace".into()),
        ("ORDINAUT_SECRET_KEY".into(), KEY.into()),
        ("ORDINAUT_HTTP_ALLOW".into(), mirror.address.to_string().into()),
    ];
    let mut executor = lab.executor_with("executor", &environment);
    let chat_log = lab.directory().join("chat.log");
    let chat = chat(&lab, &chat_log, &[]).await;
    let mut haystacks = Vec::new();
    for (title, path, expected) in [
        ("json", "/json", RunState::Succeeded),
        ("text", "/text", RunState::Succeeded),
        ("fail", "/fail", RunState::Failed),
    ] {
        let created = call(&chat, "create_task", definition(title, mirror.address, path)).await;
        assert_ne!(created["isError"], json!(true), "{created}");
        let started = call(&chat, "run_now", json!({ "task": title })).await;
        let run: RunId = serde_json::from_value(started["structuredContent"]["run"]["id"].clone()).unwrap();
        let ended = lab.end_of(run).await;
        assert_eq!(ended.state, expected, "{:?}", ended.error);
        let shown = call(&chat, "get_run", json!({ "run": run })).await;
        assert!(shown.to_string().contains("[secret CANARY]"), "{shown}");
        assert!(shown.to_string().contains("basic_auth(me, [secret CANARY])"), "{shown}");
        haystacks.extend([("create_task", created.to_string()), ("get_run", shown.to_string())]);
        haystacks.push(("find_run", format!("{ended:?}")));
        haystacks.push(("runs", finish_runs(&lab, &run.to_string()).await));
    }
    for tool in ["list_tasks", "list_runs", "check_inbox", "list_actions"] {
        haystacks.push((tool, call(&chat, tool, json!({})).await.to_string()));
    }
    lab::until("the events in Redis", async || {
        lab.redis(&["XRANGE", "ordinaut:events", "-", "+"]).await.contains("run.failed").then_some(())
    })
    .await;
    chat.cancel().await.unwrap();
    kill(Pid::from_raw(executor.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
    timeout(PATIENCE, executor.wait()).await.expect("the executor drains").unwrap();

    haystacks.push(("redis", lab.redis(&["--raw", "XRANGE", "ordinaut:events", "-", "+"]).await));
    haystacks.push(("database", dump(&lab).await));
    haystacks.push(("executor.log", std::fs::read_to_string(lab.directory().join("executor.log")).unwrap()));
    haystacks.push(("chat.log", std::fs::read_to_string(&chat_log).unwrap()));

    let seen = mirror.seen.lock().unwrap().join("\n");
    for sent in [CANARY, &percent(CANARY, "*-._", "+"), &general_purpose::STANDARD.encode(format!("me:{CANARY}"))] {
        assert!(seen.contains(sent), "the call did not carry {sent}: {seen}");
    }
    let found = |name: &str| &haystacks.iter().find(|(known, _)| *known == name).unwrap().1;
    assert!(found("database").contains("[secret CANARY]") && found("database").contains("canary.seen"));
    assert!(found("executor.log").contains("TRACE") && found("chat.log").contains("TRACE"));
    assert!(found("check_inbox").contains("[secret CANARY]"));
    nowhere(&haystacks);
}

/// The canary is in none of these, in no form.
fn nowhere(haystacks: &[(&'static str, String)]) {
    let mut found = std::collections::BTreeMap::new();
    for (name, haystack) in haystacks {
        for needle in needles() {
            if let Some(at) = haystack.find(&needle) {
                let before: Vec<char> = haystack[..at].chars().rev().take(200).collect();
                found.entry((*name, needle)).or_insert_with(|| before.into_iter().rev().collect::<String>());
            }
        }
    }
    assert!(found.is_empty(), "what holds which form, after what: {found:#?}");
}

async fn finish_runs(lab: &Lab, run: &str) -> String {
    let mut runs = bare(lab.directory());
    runs.env("DATABASE_URL", &lab.database.url);
    let runs = finish(runs, &["runs", run, "--json"], "").await;
    assert_eq!(runs.code, 0, "{runs:?}");
    runs.stdout
}

#[tokio::test]
async fn a_step_is_denied_when_its_secret_is_gone_or_the_key_is_another() {
    let (lab, mirror) = (Lab::open().await, Mirror::open().await);
    let set = async |key: &str| {
        let mut set = bare(lab.directory());
        set.env("DATABASE_URL", &lab.database.url).env("ORDINAUT_SECRET_KEY", key);
        let host = mirror.address.to_string();
        assert_eq!(finish(set, &["secret", "set", "CANARY", "--host", &host], CANARY).await.code, 0);
    };
    set("YW5vdGhlciBrZXkgb2YgMzIgYnl0ZXMsIGluIGJhc2U=").await;
    let environment =
        [("ORDINAUT_SECRET_KEY".into(), KEY.into()), ("ORDINAUT_HTTP_ALLOW".into(), mirror.address.to_string().into())];
    let _executor = lab.executor_with("executor", &environment);
    let task = lab.keep(&definition("denied", mirror.address, "/json").to_string()).await;

    let other_key = lab.end_of(lab.run_now(task, "1").await).await.error.unwrap().message;
    assert!(other_key.contains("`CANARY` was encrypted with the key"), "{other_key}");
    set(KEY).await;
    assert_eq!(lab.end_of(lab.run_now(task, "2").await).await.state, RunState::Succeeded);
    lab.store.delete_secret("CANARY").await.unwrap();
    let gone = lab.end_of(lab.run_now(task, "3").await).await.error.unwrap();
    assert!(gone.message.contains("`CANARY` does not exist"), "{gone}");
    assert_eq!(lab.store.list_agents().await.unwrap()[0].id, me().agent);
}

#[tokio::test]
async fn the_command_line_keeps_lists_and_forgets_secrets_and_never_says_a_value() {
    let cli = CommandLine::new().await;
    let run = async |arguments: &[&str], input: &str| {
        let mut command = bare(&cli.directory);
        command.env("DATABASE_URL", &cli.database.url).env("ORDINAUT_SECRET_KEY", KEY);
        finish(command, arguments, input).await
    };
    for (arguments, input, says) in [
        (&["secret", "set", "A", "--host", "a.example"][..], "1234567", "fewer than 8 characters"),
        (&["secret", "set", "A"], "long enough", "--host"),
        (&["secret", "set", "a-b", "--host", "a.example"], "long enough", "name of a secret"),
        (&["secret", "set", "A", "--host", "https://a.example/"], "long enough", "without https://"),
    ] {
        let refused = run(arguments, input).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    let no_key = cli.run_with(&["secret", "set", "A", "--host", "a.example"], "long enough").await;
    assert!(no_key.code == 3 && no_key.stderr.contains("ORDINAUT_SECRET_KEY"), "{no_key:?}");

    let set = ["secret", "set", "API_KEY", "--host", "A.example", "--channel", "team", "--json"];
    assert_eq!(run(&set, CANARY).await.json()["hosts"], json!(["a.example"]));
    let listed = run(&["secret", "list", "--json"], "").await;
    assert_eq!((&listed.json()[0]["name"], &listed.json()[0]["channels"]), (&json!("API_KEY"), &json!(["team"])));
    assert!(!listed.stdout.contains("c4nary"));
    assert!(run(&["secret", "list"], "").await.stdout.contains("API_KEY"));
    let granted = run(&["agent", "add", "phone", "--secret", "API_KEY", "--json"], "").await;
    assert_eq!(granted.code, 0, "{granted:?}");
    assert!(run(&["agent", "list"], "").await.stdout.contains("secret:API_KEY"));

    assert_eq!(run(&["secret", "delete", "API_KEY"], "").await.code, 0);
    let gone = run(&["secret", "delete", "API_KEY"], "").await;
    assert!(gone.code == 4 && gone.stderr.contains("does not exist"), "{gone:?}");
}
