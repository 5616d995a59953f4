//! The network before PostgreSQL: cut right around a COMMIT, slow, half open.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use super::{Outcome, Size, judge};
use crate::{
    client::Client,
    clock, fleet,
    lab::{Lab, PATIENCE, until},
    link::{Cut, Weather},
    workload::{self, Ticking},
};

/// Commits are cut while tasks tick and an assistant asks: who asked is told what is true, or nothing.
pub(super) async fn commit(size: Size) -> anyhow::Result<Outcome> {
    let (lab, link) = Lab::linked().await?;
    let _executors = fleet::start_brief(&lab, 2)?;
    let client = Client::open(&lab).await?;
    let ticking = Ticking { tasks: size.pick(8, 40), seconds: size.pick(6, 120), busy_ms: 50 };
    let task = workload::manual(&lab, &client, "asked").await?;
    let end = ticking.begin(&lab, &client).await?;
    let mut asked = 0;
    while clock::now() < end {
        let before = link.commits_cut();
        lab.disturb(None);
        link.cut_commit(if asked % 2 == 0 { Cut::After } else { Cut::Before });
        asked += 1;
        // It may be this call that is cut, or an executor: either way it is told so or acknowledged.
        let _ = match asked % 3 {
            0 => client.run_now(task, &format!("request-{asked}")).await.map(drop),
            1 => client.publish("ping", &format!("event-{asked}")).await.map(drop),
            _ => workload::manual(&lab, &client, &format!("kept {asked}")).await.map(drop),
        };
        until("a commit was cut", PATIENCE, async || Ok((link.commits_cut() > before).then_some(()))).await?;
        lab.calm();
        sleep(Duration::from_millis(rand::rng().random_range(20..300))).await;
    }
    drop(client);
    judge(lab).await
}

/// Every connection is delayed, then half open for longer than a lease, then cut.
pub(super) async fn silent(size: Size) -> anyhow::Result<Outcome> {
    let (lab, link) = Lab::linked().await?;
    let _executors = fleet::start_brief(&lab, 2)?;
    let client = Client::open(&lab).await?;
    let ticking = Ticking { tasks: size.pick(6, 24), seconds: size.pick(7, 150), busy_ms: 50 };
    let end = ticking.begin(&lab, &client).await?;
    drop(client);
    let mut round = 0;
    while clock::now() < end {
        round += 1;
        lab.disturb(None);
        link.set(Weather::Slow(Duration::from_millis(40)));
        sleep(Duration::from_millis(1_500)).await;
        link.set(Weather::Silent);
        sleep(Duration::from_millis(size.pick(3_000, rand::rng().random_range(500..12_000)))).await;
        if round % 2 == 1 {
            link.cut_all();
        }
        link.set(Weather::Fair);
        lab.calm();
        sleep(Duration::from_millis(rand::rng().random_range(500..2_000))).await;
    }
    judge(lab).await
}
