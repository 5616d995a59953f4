//! Redis is killed, emptied, full, or has lost what a consumer was at. Nothing but latency may come of it: every run ends
//! on time, and every event is in the stream at the end.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{Outcome, Size, conclude, judge};
use crate::{
    checker::{Finding, Wrong},
    client::Client,
    clock, fleet,
    lab::{Lab, PATIENCE, until},
    workload::{self, Ticking},
};

const TICKING: Ticking = Ticking { tasks: 6, seconds: 5, busy_ms: 20 };

fn ticking(size: Size) -> Ticking {
    Ticking { seconds: size.pick(TICKING.seconds, 60), ..TICKING }
}

pub(super) async fn kill(size: Size) -> anyhow::Result<Outcome> {
    let mut lab = Lab::open().await?;
    let _executors = fleet::start(&lab, 2)?;
    let end = {
        let client = Client::open(&lab).await?;
        ticking(size).begin(&lab, &client).await?
    };
    while clock::now() < end {
        sleep(Duration::from_millis(700)).await;
        lab.servers.redis.process.signal(Signal::SIGKILL);
        anyhow::ensure!(lab.servers.redis.process.gone_within(PATIENCE).await, "Redis does not end");
        sleep(Duration::from_millis(700)).await;
        lab.servers.restart().await;
    }
    judge(lab).await
}

pub(super) async fn flush(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let _executors = fleet::start(&lab, 2)?;
    let client = Client::open(&lab).await?;
    let end = ticking(size).begin(&lab, &client).await?;
    drop(client);
    while clock::now() < end {
        sleep(Duration::from_millis(900)).await;
        lab.redis(&["flushall"]).await?;
    }
    judge(lab).await
}

pub(super) async fn full(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let _executors = fleet::start(&lab, 2)?;
    let client = Client::open(&lab).await?;
    let end = ticking(size).begin(&lab, &client).await?;
    drop(client);
    while clock::now() < end {
        lab.redis(&["config", "set", "maxmemory", "1"]).await?;
        sleep(Duration::from_millis(1_500)).await;
        lab.redis(&["config", "set", "maxmemory", "0"]).await?;
        sleep(Duration::from_millis(500)).await;
    }
    judge(lab).await
}

/// Entries that a consumer which is gone had in hand, some of them trimmed since: what is left of them is done, what is
/// not is let go, and what comes later is not held up.
pub(super) async fn trim(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let client = Client::open(&lab).await?;
    workload::listening(&lab, &client, "hears", "ping").await?;
    drop(client);
    lab.redis(&["xgroup", "create", "ordinaut:inbound", "ordinaut", "0", "mkstream"]).await?;
    let many = size.pick(20, 500);
    for n in 0..many {
        add(&lab, &format!("in-hand-{n}")).await?;
    }
    let count = many.to_string();
    let read = ["xreadgroup", "group", "ordinaut", "ghost", "count", &count, "streams", "ordinaut:inbound", ">"];
    lab.redis(&read).await?;
    // The older half is gone for good: whoever adds to the stream trims it, and nobody promised to keep it.
    let left = (many / 2).to_string();
    lab.redis(&["xtrim", "ordinaut:inbound", "maxlen", &left]).await?;
    let _executors = fleet::start(&lab, 2)?;
    for n in 0..many {
        add(&lab, &format!("later-{n}")).await?;
    }
    // An entry counts as abandoned after a minute.
    let all = until("what is left is done and nothing is pending", PATIENCE, async || {
        let events = lab.number("select count(*) from received where key like 'e:%'").await?;
        let pending = lab.redis(&["xpending", "ordinaut:inbound", "ordinaut"]).await?;
        Ok((events == many / 2 + many && pending.lines().next() == Some("0")).then_some(()))
    })
    .await;
    lab.settle().await;
    let mut found = Vec::new();
    if let Err(error) = all {
        found.push(Finding { wrong: Wrong::Stuck, what: format!("{error:#}") });
    }
    let runs = lab.number("select count(*) from run").await?;
    if runs != many / 2 + many {
        let what = format!("{runs} runs of {} events", many / 2 + many);
        found.push(Finding { wrong: if runs < many / 2 + many { Wrong::Lost } else { Wrong::Doubled }, what });
    }
    conclude(lab, found).await
}

async fn add(lab: &Lab, id: &str) -> anyhow::Result<()> {
    lab.redis(&["xadd", "ordinaut:inbound", "*", "topic", "ping", "data", "{}", "id", id]).await.map(drop)
}
