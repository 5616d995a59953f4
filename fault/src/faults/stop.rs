//! An executor is taken off the processor for longer than its lease; others take its runs over and end them; then it
//! goes on where it stood, with results in hand that are nobody's any more.

use std::time::Duration;

use tokio::time::sleep;

use super::{Outcome, Size, conclude, shows};
use crate::{
    client::Client,
    clock,
    fleet::{self, Executor},
    lab::{Lab, PATIENCE, until},
    workload::Ticking,
};

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let executors = fleet::start_brief(&lab, 3)?;
    let client = Client::open(&lab).await?;
    let ticking = Ticking { tasks: size.pick(6, 24), seconds: size.pick(5, 90), busy_ms: 1_200 };
    let end = ticking.begin(&lab, &client).await?;
    let mut taken_over = 0;
    while taken_over < size.pick(2, u32::MAX) {
        let victim = until("a run in somebody's hands", PATIENCE, async || {
            let found = holder(&lab, &executors).await?;
            Ok((found.is_some() || clock::now() >= end).then_some(found))
        });
        let Some(victim) = victim.await?.filter(|_| clock::now() < end) else { break };
        victim.stop(&lab)?;
        // What was on its way to the database when it was stopped may have ended its last run.
        let has_any = held(&lab, &victim.name).await? > 0;
        // Until the others have all that it held: its lease is over, whatever it believes.
        let taken = until("its runs are taken over", PATIENCE, async || {
            Ok((held(&lab, &victim.name).await? == 0).then_some(()))
        })
        .await;
        // Half of the time right then, half of the time when what it held is over.
        if taken_over % 2 == 1 {
            sleep(Duration::from_secs(1)).await;
        }
        taken_over += u32::from(has_any);
        lab.calm();
        victim.go_on()?;
        taken?;
    }
    drop(client);
    lab.settle().await;
    shows(lab.number("select count(*) from run where attempts > 1").await? > 0, "nothing was taken over")?;
    conclude(lab, Vec::new()).await
}

/// One that has a run in hand.
pub(super) async fn holder<'a>(lab: &Lab, executors: &'a [Executor]) -> anyhow::Result<Option<&'a Executor>> {
    for executor in executors {
        if held(lab, &executor.name).await? > 0 {
            return Ok(Some(executor));
        }
    }
    Ok(None)
}

/// How many runs an executor claimed last and has not ended, by the witnesses.
async fn held(lab: &Lab, name: &str) -> anyhow::Result<i64> {
    let query = format!(
        "
        select count(*)
        from due_work
        where state = 'running'
          and (
              select by
              from witness.note
              where run = due_work.run_id and kind = 'moved' and after = 'running'
              order by seq desc
              limit 1
          ) = '{name}'
        "
    );
    lab.number(&query).await
}
