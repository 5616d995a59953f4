//! kill -9 of executors. Others are there to take over, and a new one comes for each that went.
//!
//! Half of the victims are drawn blindly, half have a run in hand right now.

use std::time::Duration;

use anyhow::Context as _;
use rand::RngExt as _;
use tokio::time::sleep;

use super::{Outcome, Size, conclude, shows, stop::holder};
use crate::{
    client::Client,
    clock,
    fleet::{self, Executor},
    lab::{Lab, PATIENCE, until},
    workload::Ticking,
};

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let mut executors = fleet::start_brief(&lab, 3)?;
    let client = Client::open(&lab).await?;
    let ticking = Ticking { tasks: size.pick(8, 40), seconds: size.pick(6, 120), busy_ms: 500 };
    let end = ticking.begin(&lab, &client).await?;
    let mut blindly = false;
    while clock::now() < end {
        let drawn = rand::rng().random_range(0..executors.len());
        let at = if blindly {
            sleep(Duration::from_millis(rand::rng().random_range(100..1500))).await;
            Some(drawn)
        } else {
            until("a run in somebody's hands", PATIENCE, async || {
                let found = holder(&lab, &executors).await?.map(|found| found.name.clone());
                let at = executors.iter().position(|executor| Some(&executor.name) == found.as_ref());
                Ok((at.is_some() || clock::now() >= end).then_some(at))
            })
            .await?
        };
        blindly = !blindly;
        let Some(at) = at else { break };
        let victim = executors.swap_remove(at);
        victim.kill(&lab).await.context("kill an executor")?;
        executors.push(Executor::start(&lab, &fleet::brief())?);
    }
    drop(client);
    lab.settle().await;
    // Those that nobody took over are still where they were.
    let met = "
        select (select count(*) from run where crashes > 0) + (select count(*) from due_work where state = 'running')
    ";
    shows(lab.number(met).await? > 0, "no victim had a run")?;
    conclude(lab, Vec::new()).await
}
