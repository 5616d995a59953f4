//! The synchronous standby dies, so that every commit hangs: nothing that hangs is taken for done or for lost. It comes
//! back, or the operator does without it, and everything goes on.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{
    Outcome, Size, judge,
    replica::{replicate, wait_for_it},
    shows,
};
use crate::{
    client::Client,
    clock, fleet,
    lab::{Lab, PATIENCE, until},
    workload::{self, Ticking},
};

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let mut standby = replicate(&lab).await?;
    let mut brief = fleet::brief().to_vec();
    // What is not answered is asked again, by key; the default would make an assistant of this fault wait for long.
    brief.push(("ORDINAUT_DATABASE_TIMEOUT".into(), "2s".into()));
    let _executors = (0..2).map(|_| fleet::Executor::start(&lab, &brief)).collect::<anyhow::Result<Vec<_>>>()?;
    let client = Client::open(&lab).await?;
    let task = workload::manual(&lab, &client, "asked").await?;
    let ticking = Ticking { tasks: size.pick(8, 40), seconds: size.pick(9, 120), busy_ms: 50 };
    let end = ticking.begin(&lab, &client).await?;
    let (mut round, mut hung) = (0, 0);
    while clock::now() < end {
        wait_for_it(&lab).await?;
        client.run_now(task, &format!("before {round}")).await?;
        lab.disturb(None);
        standby.postgres.process.signal(Signal::SIGKILL);
        ensure!(standby.postgres.process.gone_within(PATIENCE).await, "the standby does not end");
        until("a commit that waits for the standby", PATIENCE, async || {
            let waiting = lab.number("select count(*) from pg_stat_activity where wait_event = 'SyncRep'").await?;
            Ok((waiting > 0 || clock::now() >= end).then_some(()))
        })
        .await?;
        hung += lab.number("select count(*) from pg_stat_activity where wait_event = 'SyncRep'").await?;
        // Longer than a lease, and than the patience of whoever asks.
        sleep(Duration::from_secs(size.pick(4, 15))).await;
        // Once it comes back, once somebody does without it.
        if round % 2 == 1 {
            for statement in ["alter system set synchronous_standby_names = ''", "select pg_reload_conf()"] {
                lab.database.run_sql(statement).await.map_err(|why| anyhow!("do without a standby: {why}"))?;
            }
        }
        if round % 2 == 0 || clock::now() < end {
            standby.restart().await;
        }
        until("writes are answered", PATIENCE, async || {
            lab.database.run_sql("comment on schema witness is 'answered'").await.map_err(|why| anyhow!(why))?;
            Ok(Some(()))
        })
        .await?;
        lab.calm();
        round += 1;
    }
    shows(hung > 0, "no commit waited for the standby")?;
    drop(client);
    judge(lab).await
}
