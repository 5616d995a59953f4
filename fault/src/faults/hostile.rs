//! Steps call what hangs, never ends, is broken, or always fails: each of these runs ends by its limits, with an error of
//! the right kind, and the tasks beside them tick on.

use serde_json::json;

use super::{Outcome, Size, conclude};
use crate::{
    checker::{Finding, Wrong},
    client::Client,
    fleet,
    lab::Lab,
    workload::{self, Ticking},
};

/// What is called, and the error it ends with. What only says that it is JSON is kept as the text that it is.
const CALLED: [(&str, Option<&str>); 4] =
    [("hang", Some("timeout")), ("endless", Some("invalid_output")), ("garbage", None), ("fail", Some("server_error"))];

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let executors = fleet::start(&lab, 2)?;
    let client = Client::open(&lab).await?;
    Ticking { tasks: 6, seconds: size.pick(4, 60), busy_ms: 10 }.begin(&lab, &client).await?;
    let mut runs = Vec::new();
    for (called, error) in CALLED {
        let step = json!([{
            "id": "call", "uses": "http.put", "with": { "url": lab.sink.url(&format!("/{called}")) }, "timeout": "2s",
            "retry": { "max_attempts": 1 },
        }]);
        let more = json!({ "schedule_kind": "manual", "overlap": "allow", "pipeline": step });
        let task = client.create_task(workload::definition(&lab, called, 0, &[more])).await?;
        for n in 0..size.pick(3, 100) {
            runs.push((client.run_now(task, &format!("{called} {n}")).await?, called, error));
        }
    }
    drop(client);
    lab.settle().await;
    let mut found = Vec::new();
    for executor in &executors {
        found.extend(executor.swollen()?);
    }
    for (run, called, error) in runs {
        let rows = lab.rows(&format!("select state, error ->> 'kind' as kind from run where id = '{run}'")).await?;
        let row = rows.first().cloned().unwrap_or_default();
        if row["state"] != error.map_or("succeeded", |_| "failed") || row["kind"].as_str() != error {
            let what = format!("run {run} called what does {called}, and is {row}; its error should be {error:?}");
            found.push(Finding { wrong: Wrong::Stuck, what });
        }
    }
    conclude(lab, found).await
}
