//! Programs of an earlier version are at work when those of this one come, and migrate under them; then both work on, and
//! another of the earlier ones starts over what has been migrated. Nothing is lost, and nobody has to stop.

use std::path::Path;

use anyhow::ensure;

use super::{Outcome, Size, conclude, shows};
use crate::{
    checker::{Finding, Wrong},
    client::Client,
    clock,
    fleet::{self, Executor},
    lab::{Lab, PATIENCE, until},
    witness,
    workload::{self, Ticking},
};

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let Some(directory) = fleet::older() else {
        return Ok(Outcome::LeftOut("no programs of an earlier version are named (`--older DIRECTORY`)".to_owned()));
    };
    let (executor, mcp) = (directory.join("ordinaut-executor"), directory.join("ordinaut-mcp"));
    for program in [&executor, &mcp] {
        ensure!(program.is_file(), "{} is not there", program.display());
    }
    let lab = Lab::bare().await?;
    let mut older = vec![start_older(&lab, &executor)?];
    at_work(&lab, 1).await?;
    witness::install(&lab).await?;
    let migrated = lab.number("select count(*) from _sqlx_migrations").await?;

    let client = Client::open_program(&lab, &mcp).await?;
    let task = workload::manual(&lab, &client, "asked").await?;
    let ticking = Ticking { tasks: size.pick(6, 24), seconds: size.pick(10, 120), busy_ms: 200 };
    let end = ticking.begin(&lab, &client).await?;
    for n in 0..size.pick(5, 100) {
        client.run_now(task, &format!("before {n}")).await?;
    }
    until("something is under way", PATIENCE, async || {
        Ok((lab.number("select count(*) from run").await? > 5).then_some(()))
    })
    .await?;
    let newer = Executor::start(&lab, &fleet::brief())?;
    at_work(&lab, 2).await?;
    let since = clock::now();
    let now_migrated = lab.number("select count(*) from _sqlx_migrations").await?;
    shows(now_migrated > migrated, "the earlier version knew every migration")?;
    older.push(start_older(&lab, &executor)?);
    at_work(&lab, 3).await?;
    // Both kinds of server are asked from here on, too.
    let other = Client::open(&lab).await?;
    for n in 0.. {
        if clock::now() >= end || n >= size.pick(20, 400) {
            break;
        }
        client.run_now(task, &format!("by the earlier {n}")).await?;
        other.run_now(task, &format!("by this {n}")).await?;
    }
    drop((client, other));
    lab.settle().await;

    for executor in older.iter().chain([&newer]) {
        let claims = format!(
            "
            select count(*)
            from witness.note
            where kind = 'moved' and after = 'running' and by = '{}' and at > '{since}'
            ",
            executor.name
        );
        shows(lab.number(&claims).await? > 0, &format!("{} had no run after the migration", executor.name))?;
    }
    let mut found = Vec::new();
    for mut executor in older.into_iter().chain([newer]) {
        if executor.has_ended() {
            let what = format!("{} did not outlive the migration", executor.name);
            found.push(Finding { wrong: Wrong::Panicked, what });
        } else {
            executor.drain().await?;
        }
    }
    conclude(lab, found).await
}

fn start_older(lab: &Lab, program: &Path) -> anyhow::Result<Executor> {
    Executor::start_program(lab, program, &fleet::brief())
}

/// Waits until so many executors have said that they are at work.
async fn at_work(lab: &Lab, executors: i64) -> anyhow::Result<()> {
    until("an executor is at work", PATIENCE, async || {
        Ok((lab.number("select count(*) from executor").await? >= executors).then_some(()))
    })
    .await
}
