//! A run that kills every executor which touches it: after three of them it is put away, and the others go on.

use super::{Outcome, Size, conclude};
use crate::{
    checker::{Finding, Wrong},
    client::Client,
    fleet::{self, Executor},
    lab::{Lab, PATIENCE, until},
    workload::{self, Ticking},
};
use serde_json::json;

/// As an executor is set up by default.
const DEATHS: usize = 3;

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let client = Client::open(&lab).await?;
    let step = json!([{ "id": "bite", "uses": "http.put", "with": { "url": lab.sink.url("/hang/poison") } }]);
    let definition = workload::definition(&lab, "poison", 0, &[json!({ "schedule_kind": "manual", "pipeline": step })]);
    let task = client.create_task(definition).await?;
    let run = client.run_now(task, "poison").await?;
    // The last victims' other runs meet three deaths, too, when they are as unlucky; so few of them are about.
    Ticking { tasks: 2, seconds: size.pick(4, 60), busy_ms: 10 }.begin(&lab, &client).await?;
    let mut executors = fleet::start_brief(&lab, 2)?;
    for death in 1..=DEATHS {
        let query = format!(
            "select by from witness.note where run = '{run}' and kind = 'moved' and after = 'running' order by seq"
        );
        let who = until("it bites", PATIENCE, async || {
            let claims = lab.rows(&query).await?;
            let bitten = lab.sink.calls()?.iter().filter(|call| call.path == "/hang/poison").count();
            let last = claims.last().and_then(|row| row["by"].as_str().map(str::to_owned));
            Ok(last.filter(|_| claims.len() == death && bitten == death))
        })
        .await?;
        let at = executors.iter().position(|executor| executor.name == who);
        let at = at.ok_or_else(|| anyhow::anyhow!("{who} is none of the living"))?;
        executors.swap_remove(at).kill(&lab).await?;
        executors.push(Executor::start(&lab, &fleet::brief())?);
    }
    drop(client);
    lab.settle().await;
    let mut found = Vec::new();
    let put_away =
        format!("select count(*) from run where id = '{run}' and state = 'quarantined' and crashes = {DEATHS}");
    if lab.number(&put_away).await? != 1 {
        let what = format!("run {run} killed {DEATHS} executors and is not quarantined with as many crashes");
        found.push(Finding { wrong: Wrong::Stuck, what });
    }
    conclude(lab, found).await
}
