//! The same event and the same request, by many at once and again after their runs ended: each causes one run.
//!
//! Their runs are of two tasks each, and the second time comes when history has the first: the guard is then not a row
//! that happens to be in the way.

use futures_util::future::try_join_all;

use super::{Outcome, Size, conclude};
use crate::{
    checker::{Finding, Wrong},
    client::Client,
    fleet,
    lab::Lab,
    workload,
};

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let executors = fleet::start(&lab, 2)?;
    let clients = try_join_all((0..4).map(|_| Client::open(&lab))).await?;
    let manual = workload::manual(&lab, &clients[0], "asked").await?;
    for title in ["hears", "hears too"] {
        workload::listening(&lab, &clients[0], title, "ping").await?;
    }
    let many: usize = size.pick(10, 400);
    for _ in 0..2 {
        for n in 0..many {
            let request = format!("request-{n}");
            try_join_all(clients.iter().map(|client| client.run_now(manual, &request))).await?;
            let event = format!("event-{n}");
            try_join_all(clients.iter().map(|client| client.publish("ping", &event))).await?;
        }
        lab.settle().await;
    }
    drop(clients);
    let runs = lab.number("select count(*) from run").await?;
    let wanted = i64::try_from(many * 3)?;
    let mut found = Vec::new();
    if runs != wanted {
        let what = format!("{many} requests and {many} events that two tasks hear led to {runs} runs, not {wanted}");
        found.push(Finding { wrong: if runs > wanted { Wrong::Doubled } else { Wrong::Lost }, what });
    }
    drop(executors);
    conclude(lab, found).await
}
