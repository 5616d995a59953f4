//! Hostile inputs: everything that a step may meet and that means harm, all at once against one small executor.
//!
//! Each run ends with the error that says what happened, the slots come back, the executor's memory stays bounded, and
//! nobody that it started is left.

mod web;

use std::{collections::BTreeMap, path::Path, process::Stdio};

use futures_util::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ordinaut_schema::run::{ErrorKind, RunState};
use serde_json::{Map, Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};

use crate::support::lab::{Lab, me, until};
use crate::support::programs;

const PERMITS: usize = 4;
/// How often each is met, all at once.
const TIMES: usize = 2;
/// The most that the executor may ever have held. What it may hold on top of itself (some 50 MB, debugged): for each of
/// 4 steps a few copies of an output (256 KiB) and of what a template makes (8 MiB), for each of 12 MCP servers a message
/// (4 MiB) and its copy. It was seen to hold 70 MB; ten gigabytes, or what a bomb makes of a page, do not fit.
const MOST_MEMORY_KB: u64 = 200 * 1024;

/// How each server of `server.sh` harms, and what a step that calls it comes to. What may have left is unknown.
const SERVERS: [(&str, Option<ErrorKind>); 12] = [
    ("mute", Some(ErrorKind::Connection)),
    ("gush", Some(ErrorKind::Connection)),
    ("chatter", Some(ErrorKind::Connection)),
    ("quits", Some(ErrorKind::Connection)),
    ("shouts", None),
    ("stubborn", Some(ErrorKind::OutcomeUnknown)),
    ("hangs", Some(ErrorKind::OutcomeUnknown)),
    ("exits", Some(ErrorKind::OutcomeUnknown)),
    ("floods", Some(ErrorKind::OutcomeUnknown)),
    ("half", Some(ErrorKind::OutcomeUnknown)),
    ("never", Some(ErrorKind::OutcomeUnknown)),
    ("big", Some(ErrorKind::OutcomeUnknown)),
];

const PAGES: [(&str, Option<ErrorKind>); 12] = [
    ("chunked", Some(ErrorKind::InvalidOutput)),
    ("length", Some(ErrorKind::InvalidOutput)),
    ("extension", Some(ErrorKind::InvalidOutput)),
    ("gzip", Some(ErrorKind::InvalidOutput)),
    ("nested", None),
    ("drip", Some(ErrorKind::Timeout)),
    ("drip-head", Some(ErrorKind::Timeout)),
    ("silent", Some(ErrorKind::Timeout)),
    ("redirect", Some(ErrorKind::ClientError)),
    ("headers", Some(ErrorKind::Connection)),
    ("header", Some(ErrorKind::Connection)),
    ("deep", None),
];

/// What only time ends.
const ENDLESS: [&str; 8] = ["drip", "drip-head", "silent", "mute", "chatter", "stubborn", "hangs", "never"];

/// What is made of 200 kB that a page gave: the rest of a step.
const BOMBS: [(&str, &str, ErrorKind); 5] = [
    (
        "replace",
        r#"uses: inbox.post, with: { text: "${replace(steps.big.body, 'x', steps.big.body)}" }"#,
        ErrorKind::Template,
    ),
    ("double", r#"uses: data.transform, with: { expr: "DOUBLED" }"#, ErrorKind::Template),
    ("repeat", r#"uses: inbox.post, with: { text: "REPEATED" }"#, ErrorKind::Template),
    ("foreach", r#"foreach: "split(steps.big.body, ',')", uses: inbox.post, with: { text: x }"#, ErrorKind::Template),
    ("parse", r#"uses: data.transform, with: { expr: "parse_json(steps.deep.body)" }"#, ErrorKind::Template),
];

/// `[shell.<id>]` tables of an operator who did not look.
const COMMANDS: &str = r#"
[shell.flood]
argv = ["/usr/bin/yes"]
[shell.stubborn]
argv = ["/bin/sh", "-c", "trap '' TERM HUP; sleep 1000 & while :; do sleep 1000; done"]
"#;

/// A definition of these steps, which any number of runs may be in.
fn definition(title: &str, steps: &str) -> String {
    format!("{{ title: {title}, schedule_kind: manual, overlap: allow, pipeline: [{steps}] }}")
}

/// What a step says beside what it does: one try, and little time where time is what ends it; enough all the same to
/// reach the other side first, which decides what may have left.
fn brief(is_endless: bool) -> &'static str {
    if is_endless { "timeout: 4s, retry: { max_attempts: 1 }" } else { "timeout: 20s, retry: { max_attempts: 1 }" }
}

/// Every hostile definition with what its runs come to.
fn cases(web: &str) -> Vec<(String, Option<ErrorKind>)> {
    let page = |verb: &str, path: &str| {
        let brief = brief(ENDLESS.contains(&path));
        let step = format!("{{ id: it, uses: http.{verb}, {brief}, with: {{ url: '{web}/{path}' }} }}");
        definition(&format!("{verb} {path}"), &step)
    };
    let mut cases: Vec<_> = PAGES.iter().map(|(path, comes_to)| (page("get", path), *comes_to)).collect();
    // What may have left is not repeated.
    for path in ["chunked", "drip", "silent"] {
        cases.push((page("post", path), Some(ErrorKind::OutcomeUnknown)));
    }
    for (how, comes_to) in SERVERS {
        let brief = brief(ENDLESS.contains(&how));
        cases.push((definition(how, &format!("{{ id: it, uses: {how}.go, {brief} }}")), comes_to));
    }
    for command in ["flood", "stubborn"] {
        let brief = brief(ENDLESS.contains(&command));
        let step = format!("{{ id: it, uses: shell.exec, {brief}, with: {{ command: {command} }} }}");
        cases.push((definition(&format!("shell {command}"), &step), Some(ErrorKind::OutcomeUnknown)));
    }
    for (title, step, comes_to) in BOMBS {
        let doubled = format!("[steps.big.body]{}", " | [@, @]".repeat(30));
        let step = step.replace("REPEATED", &"${steps.big.body}".repeat(100)).replace("DOUBLED", &doubled);
        let fetch = |id: &str| format!("{{ id: {id}, uses: http.get, with: {{ url: '{web}/{id}' }} }}");
        let steps = format!("{}, {}, {{ id: it, {step} }}", fetch("big"), fetch("deep"));
        cases.push((definition(&format!("bomb {title}"), &steps), Some(comes_to)));
    }
    cases
}

/// The bomb, packed once more.
async fn nested() -> Vec<u8> {
    let bomb = include_bytes!("../../../executor/tests/fixtures/zeros.gz");
    let mut packer = Command::new("gzip");
    let mut packer = packer.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = packer.stdin.take().unwrap();
    stdin.write_all(bomb).await.unwrap();
    drop(stdin);
    packer.wait_with_output().await.unwrap().stdout
}

fn configure(directory: &Path) {
    let script = directory.join("server.sh");
    std::fs::write(&script, include_str!("hostile/server.sh")).unwrap();
    let server = |how: &str| json!({ "command": "/bin/sh", "args": [script, how] });
    let servers: Map<String, Value> = SERVERS.iter().map(|(how, _)| ((*how).to_owned(), server(how))).collect();
    std::fs::write(directory.join("mcp-servers.json"), json!({ "mcpServers": servers }).to_string()).unwrap();
    std::fs::write(directory.join("ordinaut.toml"), COMMANDS).unwrap();
}

/// The most memory that the executor ever held.
fn peak_kb(executor: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", executor.id().expect("it runs"))).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

/// What works in the directory of the lab, as all that the executor starts does.
fn started_here(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let here = entries.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == directory));
    here.map(|entry| {
        let said = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        format!("{}: {}", entry.file_name().display(), String::from_utf8_lossy(&said).replace('\0', " "))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_means_harm_is_ended_by_its_limit_and_leaves_nothing_behind() {
    let lab = Lab::fast().await;
    let directory = lab.directory().canonicalize().unwrap();
    configure(&directory);
    let web = web::open(nested().await).await;
    let allow = format!("{},{web}", lab.sink.address);
    let settings = [
        ("ORDINAUT_HTTP_ALLOW", allow.as_str()),
        ("ORDINAUT_PERMITS", "4"),
        // Two processors for all of this: a renewal that is late is not what is looked at here.
        ("ORDINAUT_LEASE", "20s"),
    ];
    let mut executor = lab.executor_with("victim", &settings.map(|(name, value)| (name.into(), value.into())));
    lab.store
        .change_grants("local", |grants| grants.commands = vec!["flood".to_owned(), "stubborn".to_owned()])
        .await
        .unwrap();
    until("servers and commands are known", async || {
        let catalogue = lab.store.catalogue(&me()).await.unwrap();
        let named = |(how, _): &(&str, _)| {
            let is_silent = ["mute", "gush", "chatter", "quits"].contains(how);
            catalogue.tools.contains_key(&format!("{how}.go"))
                || is_silent && catalogue.unseen_servers.iter().any(|name| name == how)
        };
        (SERVERS.iter().all(named) && catalogue.offered.commands.len() == 2).then_some(())
    })
    .await;

    let keep = cases(&format!("http://{web}")).into_iter().map(async |(definition, comes_to)| {
        let title = definition.split(['{', ',']).nth(1).unwrap().trim().to_owned();
        (lab.keep(&definition).await, title, comes_to)
    });
    let kept = join_all(keep).await;
    let ask =
        kept.iter().flat_map(|task| (0..TIMES).map(move |n| (task, n))).map(async |((task, title, comes_to), n)| {
            (title, lab.run_now(*task, &format!("{title} {n}")).await, *comes_to)
        });
    let asked = join_all(ask).await;
    let mut wrong = BTreeMap::new();
    for (title, run, comes_to) in asked {
        let run = lab.end_of(run).await;
        let kind = run.error.as_ref().map(|error| error.kind);
        assert_eq!((run.attempts, run.crashes), (1, 0), "{title}");
        if kind != comes_to || (run.state == RunState::Succeeded) != comes_to.is_none() {
            wrong.insert(title.clone(), format!("{comes_to:?}, not {:?} {:?}", run.state, run.error));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // Every slot is free again: as many as there are can be in hand at once.
    let step = "{ id: it, uses: http.get, with: { url: SINK/hold/slot } }";
    let ordinary = lab.keep(&definition("ordinary", step)).await;
    let mut held = Vec::new();
    for n in 0..PERMITS {
        held.push(lab.run_now(ordinary, &format!("ordinary {n}")).await);
    }
    lab.sink.saw("slot", PERMITS).await;
    lab.sink.let_go();
    for run in held {
        assert_eq!(lab.end_of(run).await.state, RunState::Succeeded);
    }
    assert_eq!(lab.database.live_runs().await, 0);

    let floods = async || started_here(&directory).iter().all(|it| !it.contains(": tr ")).then_some(());
    until("servers that flood are ended, not read for ever", floods).await;
    assert!(lab.log("victim").len() < 1024 * 1024, "what servers send is not written down");
    let peak = peak_kb(&executor);
    eprintln!("the executor held {} MB at most", peak / 1024);
    assert!(peak < MOST_MEMORY_KB, "the executor held {peak} kB");
    assert!(!started_here(&directory).is_empty(), "servers are kept, so some must still be there");
    kill(Pid::from_raw(executor.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let status = timeout(programs::PATIENCE, executor.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    until("nobody that it started is left", async || {
        let left = started_here(&directory);
        (left.is_empty()).then_some(()).or_else(|| {
            eprintln!("still there: {left:#?}");
            None
        })
    })
    .await;
}
