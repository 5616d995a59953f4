//! Very many runs that are due in one instant, and executors that race for them: each runs once.
//!
//! The tasks are copies of one that was kept over MCP, made by the owner of the database: asking for a hundred thousand
//! would measure the asking.

use anyhow::{Context as _, anyhow};
use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::id::TaskId;
use serde_json::{Value, json};

use super::{Outcome, Size, conclude, did_not_succeed};
use crate::{
    client::Client,
    clock,
    expected::{Expected, Times},
    fleet::{self, Executor},
    lab::Lab,
    workload,
};

const MANY: i64 = 100_000;

pub(super) async fn two(size: Size) -> anyhow::Result<Outcome> {
    race(size, 2).await
}

pub(super) async fn four(size: Size) -> anyhow::Result<Outcome> {
    race(size, 4).await
}

pub(super) async fn eight(size: Size) -> anyhow::Result<Outcome> {
    race(size, 8).await
}

/// Each run calls the sink, so that one which ran twice is seen from outside.
async fn race(size: Size, executors: usize) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let step = json!([{ "id": "first", "uses": "http.post", "with": { "url": lab.sink.url("/hit/first") } }]);
    // Eight with the dozen connections of the default are more than the embedded PostgreSQL lets in.
    let few = [("ORDINAUT_DATABASE_CONNECTIONS".into(), "8".into())];
    let _executors = (0..executors).map(|_| Executor::start(&lab, &few)).collect::<anyhow::Result<Vec<Executor>>>()?;
    crowd(&lab, size.pick(400, MANY), &step, SignedDuration::from_secs(size.pick(3, 45))).await?;
    settle_and_count(lab).await
}

/// Nobody is there when they are due; then two executors come.
pub(super) async fn burst(size: Size) -> anyhow::Result<Outcome> {
    let lab = Lab::open().await?;
    let step = json!([{ "id": "first", "uses": "data.transform", "with": { "expr": "`1`" } }]);
    crowd(&lab, size.pick(1_000, MANY), &step, SignedDuration::from_secs(2)).await?;
    let _executors = fleet::start(&lab, 2)?;
    settle_and_count(lab).await
}

/// Has so many tasks due at one instant.
async fn crowd(lab: &Lab, many: i64, pipeline: &Value, lead: SignedDuration) -> anyhow::Result<()> {
    let client = Client::open(lab).await?;
    let at = Timestamp::from_second(clock::now().as_second())? + lead;
    let more = json!({ "schedule_kind": "once", "schedule_expr": at, "pipeline": pipeline });
    let task = client.create_task(workload::definition(lab, "one of many", 0, &[more])).await?;
    let copy = format!(
        "
        create table witness.copy as
        select gen_random_uuid() as id, 'copy ' || n as title from generate_series(2, {many}) as n;

        insert into task
        select made.*
        from task
        cross join witness.copy
        cross join lateral jsonb_populate_record(
            task, jsonb_build_object('id', copy.id, 'title', copy.title, 'title_key', copy.title)
        ) as made
        where task.id = '{task}';

        insert into task_revision
        select made.*
        from task_revision
        cross join witness.copy
        cross join lateral jsonb_populate_record(task_revision, jsonb_build_object('task_id', copy.id)) as made
        where task_revision.task_id = '{task}';

        analyze task;
        analyze task_revision;
        "
    );
    lab.database.run_sql(&copy).await.map_err(|why| anyhow!("copy a task: {why}"))?;
    let times = Times::once(at);
    lab.expect(Expected { task, times });
    for row in lab.rows("select id from witness.copy").await? {
        let task: TaskId = row["id"].as_str().and_then(|id| id.parse().ok()).context("read a copy's id")?;
        lab.expect(Expected { task, times });
    }
    Ok(())
}

async fn settle_and_count(lab: Lab) -> anyhow::Result<Outcome> {
    lab.settle().await;
    let found = did_not_succeed(&lab).await?;
    conclude(lab, found).await
}
