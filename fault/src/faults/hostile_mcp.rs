//! Steps call MCP servers that hang, flood, exit in the call, send half a frame or what nobody can read, while ordinary
//! tasks tick: each of these runs ends by its limits and is not repeated, and the ordinary ones do not notice.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use super::{Outcome, Size, conclude, shows};
use crate::{
    checker::{Finding, Wrong},
    client::Client,
    fleet::{self, Executor},
    lab::{Lab, PATIENCE, until},
    workload::{self, Ticking},
};

/// How each server of `server.sh` harms, and how long a step waits for it. What may have left is not repeated.
const SERVERS: [(&str, &str); 6] =
    [("hangs", "2s"), ("never", "2s"), ("floods", "30s"), ("exits", "30s"), ("half", "30s"), ("big", "30s")];
/// Those that are gone after a call. One that goes again and again is not started for a while, and calls of it are not made.
const ENDS: [&str; 4] = ["floods", "exits", "half", "big"];

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    configure(&lab)?;
    let executors = fleet::start(&lab, 2)?;
    let client = Client::open(&lab).await?;
    let known = "select count(*) from action_catalog where tool = 'go'";
    until("every server's tool is known", PATIENCE, async || {
        Ok((lab.number(known).await? == i64::try_from(SERVERS.len())?).then_some(()))
    })
    .await?;
    let mut tasks = Vec::new();
    for (how, timeout) in SERVERS {
        let step = json!([{
            "id": "call", "uses": format!("{how}.go"), "timeout": timeout, "retry": { "max_attempts": 1 },
        }]);
        let more = json!({ "schedule_kind": "manual", "overlap": "allow", "pipeline": step });
        tasks.push((how, client.create_task(workload::definition(&lab, how, 0, &[more])).await?));
    }
    Ticking { tasks: 6, seconds: size.pick(5, 60), busy_ms: 10 }.begin(&lab, &client).await?;
    let mut runs = Vec::new();
    for n in 0..size.pick(2, 40) {
        let requests: Vec<String> = tasks.iter().map(|(how, _)| format!("{how} {n}")).collect();
        let asking = tasks.iter().zip(&requests).map(|((_, task), request)| client.run_now(*task, request));
        runs.extend(tasks.iter().map(|(how, _)| *how).zip(try_join_all(asking).await?));
    }
    drop(client);
    lab.settle().await;

    let mut found = Vec::new();
    for executor in &executors {
        found.extend(executor.swollen()?);
    }
    let mut called = BTreeSet::new();
    for (how, run) in &runs {
        let query = format!("select state, attempts, error ->> 'kind' as kind from run where id = '{run}'");
        let row = lab.rows(&query).await?.first().cloned().unwrap_or_default();
        let is = |kind: &str| row == json!({ "state": "failed", "attempts": 1, "kind": kind });
        if is("outcome_unknown") {
            called.insert(*how);
        } else if !(ENDS.contains(how) && is("connection")) {
            found.push(Finding { wrong: Wrong::Stuck, what: format!("run {run} called what {how}, and is {row}") });
        }
    }
    shows(called.len() == SERVERS.len(), &format!("only {called:?} were called"))?;
    let odd = "
        select run.id
        from run
        join task on task.id = run.task_id
        where task.title like 'ticks %'
          and (run.state not in ('succeeded', 'skipped') or run.attempts > 1)
    ";
    for row in lab.rows(odd).await? {
        found.push(Finding { wrong: Wrong::TakenAway, what: format!("run {} was in nobody's way", row["id"]) });
    }
    shows(lab.number(&ended_beside()).await? > 0, "no ordinary run ended while a server did harm")?;
    // In order, so that they take their servers along.
    try_join_all(executors.into_iter().map(Executor::drain)).await?;
    conclude(lab, found).await
}

fn configure(lab: &Lab) -> anyhow::Result<()> {
    let script = lab.directory.join("server.sh");
    std::fs::write(&script, include_str!("../../../cli/tests/suite/hostile/server.sh"))?;
    let server = |how: &str| json!({ "command": "/bin/sh", "args": [script, how] });
    let servers: Map<String, Value> = SERVERS.iter().map(|(how, _)| ((*how).to_owned(), server(how))).collect();
    std::fs::write(lab.directory.join("mcp-servers.json"), json!({ "mcpServers": servers }).to_string())?;
    Ok(())
}

/// How many ordinary runs ended between the claim and the end of a hostile one.
fn ended_beside() -> String {
    let notes = |titles: &str| {
        format!(
            "
            select note.run, min(note.at) filter (where note.after = 'running') as claimed_at,
                   max(note.at) filter (where note.kind = 'ended') as ended_at
            from witness.note
            join run on run.id = note.run
            join task on task.id = run.task_id
            where {titles}
            group by note.run
            "
        )
    };
    let named: Vec<String> = SERVERS.iter().map(|(how, _)| format!("'{how}'")).collect();
    format!(
        "
        select count(*)
        from ({}) as ordinary
        where exists (
            select
            from ({}) as hostile
            where ordinary.ended_at between hostile.claimed_at and hostile.ended_at
        )
        ",
        notes("task.title like 'ticks %'"),
        notes(&format!("task.title in ({})", named.join(", ")))
    )
}
