//! Many runs of one concurrency key are due in one instant, again and again, and several executors want them: one is
//! inside at a time, and each gets its turn.

use anyhow::ensure;
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Outcome, Size, conclude, did_not_succeed, shows};
use crate::{
    client::Client,
    clock,
    expected::{Expected, Times},
    fleet,
    lab::Lab,
    workload,
};

/// What they are inside of, for so many milliseconds.
const DOOR: &str = "/busy/door";
const INSIDE_MS: u32 = 20;

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    lab.take_turns(DOOR, 1);
    let _executors = fleet::start(&lab, size.pick(2, 4))?;
    let clients = try_join_all((0..2).map(|_| Client::open(&lab))).await?;
    let url = lab.sink.url(&format!("{DOOR}?ms={INSIDE_MS}"));
    let through = json!({
        "overlap": "allow", "concurrency_key": "door", "concurrency_limit": 1,
        "pipeline": [{ "id": "inside", "uses": "http.put", "with": { "url": url } }],
    });
    let manual = json!({ "schedule_kind": "manual" });
    let definition = workload::definition(&lab, "asked", 0, &[through.clone(), manual]);
    let asked = clients[0].create_task(definition).await?;

    let (tasks, seconds) = size.pick((5, 4), (16, 60));
    let first = Timestamp::from_second(clock::now().as_second())? + SignedDuration::from_secs(size.pick(10, 30));
    let end = first + SignedDuration::from_secs(seconds);
    for n in 0..tasks {
        let ticks = json!({
            "schedule_kind": "interval", "schedule_expr": "1s", "starts_at": first, "ends_at": end,
            "misfire": "run_all", "misfire_limit": 10_000,
        });
        let definition = workload::definition(&lab, &format!("ticks {n}"), 0, &[through.clone(), ticks]);
        let task = clients[0].create_task(definition).await?;
        lab.expect(Expected { task, times: Times::every(1, first, end) });
    }
    ensure!(clock::now() < first, "this machine kept {tasks} tasks too slowly");
    // Two ask at once beside those that are due at once.
    for n in 0.. {
        if clock::now() >= end || n >= size.pick(12, 600) {
            break;
        }
        let requests = [format!("one {n}"), format!("other {n}")];
        try_join_all(clients.iter().zip(&requests).map(|(client, request)| client.run_now(asked, request))).await?;
    }
    drop(clients);
    lab.settle().await;

    let moved = "select count(*) from witness.note where before = 'blocked' and after = 'pending'";
    shows(lab.number(moved).await? > tasks.into(), "hardly any run had to wait for its turn")?;
    let claimants = "select count(distinct by) from witness.note where kind = 'moved' and after = 'running'";
    shows(lab.number(claimants).await? > 1, "one executor had all of the runs")?;
    let found = did_not_succeed(&lab).await?;
    conclude(lab, found).await
}
