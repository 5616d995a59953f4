//! A thousand clients at once against the program as it is, and an ordinary one beside them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ordinaut_store::{Caller, tasks::TaskFilter};
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    served::Served,
    wire::{Client, DEADLINE},
};

const CLIENTS: usize = 1000;
/// Of each hundred clients so many are stateless, so many more have a session; the rest speak HTTP+SSE.
const STATELESS: usize = 50;
const WITH_SESSION: usize = 30;
/// Whose the clients are.
const AGENTS: usize = 8;

/// The most that the program may have held, built for debugging. It was seen to hold 168 MB, with everybody there on
/// 1,550 connections.
const MOST_MEMORY_KB: u64 = 256 * 1024;

/// Limits that a crowd of few agents does not reach, and patience for a machine that is slow.
const SETTINGS: &str = "
turn_timeout = \"2m\"
initialize_timeout = \"2m\"
header_timeout = \"2m\"
body_timeout = \"2m\"
write_timeout = \"2m\"
sessions = 2000
sessions_per_agent = 2000
sessions_opened_per_minute = 100000
calls_per_minute = 1000000
calls_burst = 100000
";

fn task(title: &str) -> Value {
    json!({
        "title": title,
        "schedule_kind": "cron",
        "schedule_expr": "30 8 * * MON-FRI",
        "pipeline": [{ "id": "tell", "uses": "inbox.post", "with": { "text": "Good morning" } }],
        "request_id": format!("request of {title}"),
    })
}

/// One of the crowd, from its first word to its last.
async fn one(address: SocketAddr, token: String, number: usize, together: Arc<Barrier>) {
    let mut client = match number % 100 {
        n if n < STATELESS => Client::stateless(address, &token).await,
        n if n < STATELESS + WITH_SESSION => Client::session(address, &token).await,
        _ => Client::pair(address, &token).await,
    };
    // Everybody is there, and was counted.
    together.wait().await;
    together.wait().await;
    client.call("list_tasks", json!({})).await;
    let created = client.call("create_task", task(&format!("Task {number}"))).await;
    assert_eq!(created["outcome"], "created");
    together.wait().await;
    client.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_at_once_are_answered_and_an_ordinary_one_beside_them_too() {
    let served = Served::start(SETTINGS).await;
    // This end needs as many descriptors; the program was started with few, and has to see to itself.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let (mut agents, mut tokens) = (Vec::new(), Vec::new());
    for number in 0..AGENTS {
        let (agent, token) = served.agent(&format!("crowd {number}")).await;
        agents.push(agent);
        tokens.push(token);
    }
    let (_calm, token) = served.agent("calm").await;
    let mut ordinary = Client::session(served.address, &token).await;

    let together = Arc::new(Barrier::new(CLIENTS + 1));
    let mut crowd = JoinSet::new();
    for number in 0..CLIENTS {
        crowd.spawn(one(served.address, tokens[number % AGENTS].clone(), number, together.clone()));
    }
    arrived(&together, &mut crowd).await;
    let with_session = CLIENTS * (100 - STATELESS) / 100;
    assert_eq!(served.metric("ordinaut_mcp_sessions").await, with_session as u64 + 1);
    arrived(&together, &mut crowd).await;

    let is_over = Arc::new(AtomicBool::new(false));
    let beside = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            let mut calls = 0;
            while !is_over.load(Ordering::Relaxed) {
                ordinary.call("list_tasks", json!({})).await;
                ordinary.call("create_task", task(&format!("Ordinary {calls}"))).await;
                calls += 1;
            }
            ordinary.leave().await;
            calls
        }
    });
    arrived(&together, &mut crowd).await;
    is_over.store(true, Ordering::Relaxed);
    let calls = tokio::time::timeout(DEADLINE, beside).await.unwrap().unwrap();
    assert!(calls > 0);
    while let Some(left) = crowd.join_next().await {
        left.unwrap();
    }
    served.until_metric("ordinaut_mcp_sessions", 0).await;

    let mut kept = 0;
    for agent in agents {
        let caller = Caller { agent, ..Caller::local("test") };
        let tasks = served.store.mcp.list_tasks(&caller, &TaskFilter::default(), None, 1000).await;
        kept += tasks.unwrap().len();
    }
    assert_eq!(kept, CLIENTS);
    let peak = served.peak_kb();
    assert!(peak < MOST_MEMORY_KB, "{peak} kB");
}

/// Waits for everybody, or for the first who cannot go on.
async fn arrived(together: &Barrier, crowd: &mut JoinSet<()>) {
    let all = async {
        tokio::select! {
            _ = together.wait() => {}
            Some(Err(failed)) = crowd.join_next() => panic!("one of the crowd cannot go on: {failed}"),
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("everybody arrives");
}
