//! A transaction of somebody's stays open and pins a snapshot while executors work: dead rows pile up before the queue's
//! head, and the relay must not pass what it cannot see. Runs go on; events follow when it ends.

use super::{Outcome, Size, judge};
use crate::{client::Client, fleet, lab::Lab, workload::Ticking};

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let _executors = fleet::start(&lab, 2)?;
    let client = Client::open(&lab).await?;
    Ticking { tasks: size.pick(8, 60), seconds: size.pick(4, 60), busy_ms: 10 }.begin(&lab, &client).await?;
    drop(client);
    // With an id of its own, so that it is the oldest of all transactions.
    let pin = format!(
        "begin isolation level repeatable read; select pg_current_xact_id(); select pg_sleep({}); commit;",
        size.pick(6, 62)
    );
    lab.database.run_sql(&pin).await.map_err(|why| anyhow::anyhow!("pin a snapshot: {why}"))?;
    judge(lab).await
}
