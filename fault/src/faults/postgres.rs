//! PostgreSQL is killed with -9, or stopped at once, and started again, while tasks tick and an assistant asks for runs.
//! Whatever a call acknowledged must be there afterwards.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::RngExt as _;
use tokio::time::sleep;

use super::{Outcome, Size, judge};
use crate::{
    client::Client,
    clock, fleet,
    lab::{Lab, PATIENCE},
    workload::{self, Ticking},
};

pub(super) async fn kill(size: Size) -> anyhow::Result<Outcome> {
    let mut lab = Lab::open().await?;
    let _executors = fleet::start_brief(&lab, 2)?;
    let end = {
        let client = Client::open(&lab).await?;
        Ticking { tasks: size.pick(8, 40), seconds: size.pick(7, 240), busy_ms: 50 }.begin(&lab, &client).await?
    };
    let mut round = 0;
    while clock::now() < end {
        let asking = ask(&lab, round);
        let pause = Duration::from_millis(rand::rng().random_range(size.pick(1_000..2_500, 5_000..40_000)));
        tokio::select! {
            asked = asking => asked?,
            () = sleep(pause) => {}
        }
        round += 1;
        lab.disturb(None);
        let signal = if round % 2 == 1 { Signal::SIGKILL } else { Signal::SIGQUIT };
        lab.servers.postgres.process.signal(signal);
        anyhow::ensure!(lab.servers.postgres.process.gone_within(PATIENCE).await, "PostgreSQL does not end");
        lab.servers.restart().await;
        lab.calm();
    }
    judge(lab).await
}

/// Asks for runs until it is cut off; what is not answered is not acknowledged.
async fn ask(lab: &Lab, round: u32) -> anyhow::Result<()> {
    let client = Client::open(lab).await?;
    let task = workload::manual(lab, &client, &format!("asked {round}")).await?;
    for n in 0.. {
        client.run_now(task, &format!("{round}-{n}")).await?;
    }
    Ok(())
}
