//! What the lab's own database saw, by triggers that no program knows of; and everything else that is read from it.
//!
//! Installed in the lab's database only. It reads the tables as their owner and past the store's verbs, on purpose: what
//! judges the verbs must not be made of them. Large tables are read in slices.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context as _, anyhow};
use ordinaut_schema::id::{EventId, RunId};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    histories::{Histories, Kept},
    lab::Lab,
};

/// How many executors a lab may start.
pub const NAMES: usize = 400;
const SLICE: usize = 20_000;

/// Makes a name for each executor that the lab will start, so that a session says whose it is.
pub async fn name_executors(lab: &Lab) -> anyhow::Result<()> {
    let statement = format!(
        "
        do $$
        begin
            for n in 1..{NAMES} loop
                execute format('create role executor_%s superuser login', n);
            end loop;
        end $$;
        "
    );
    lab.database.run_sql(&statement).await.map_err(|why| anyhow!("name the executors: {why}"))
}

/// Puts the witnesses in place, once there are tables.
pub async fn install(lab: &Lab) -> anyhow::Result<()> {
    lab.database.run_sql(include_str!("witness.sql")).await.map_err(|why| anyhow!("install the witnesses: {why}"))
}

/// Reads everything that the database knows into `histories`.
pub async fn read(lab: &Lab, histories: &mut Histories) -> anyhow::Result<()> {
    histories.live =
        slices(lab, "select run_id as id, task_id as task, state, trigger, occurrence_at from due_work", "id").await?;
    histories.notes = slices(lab, "select seq as place, * from witness.note", "place").await?;
    histories.ended = slices(
        lab,
        "
        select id, task_id as task, state, trigger, occurrence_key as key, occurrence_at, stretch_to, stretch_count,
               attempts, failures, crashes,
               coalesce((
                   select json_agg(json_build_object('step', step ->> 'step', 'call', step #> '{output,body,call}'))
                   from jsonb_array_elements(steps) as step
                   where jsonb_typeof(step #> '{output,body,call}') = 'number'
               ), '[]') as answers
        from run
        ",
        "id",
    )
    .await?;
    // What ended between the two looks has ended: where all is quiet there is nothing of the kind.
    let ended: HashSet<RunId> = histories.ended.iter().map(|run| run.id).collect();
    histories.live.retain(|run| !ended.contains(&run.id));
    histories.stretches = all(
        lab,
        "
        select id as task, stretch_from as \"from\", stretch_to as \"to\", stretch_count as count
        from task
        where stretch_reason is not null
        ",
    )
    .await?;
    histories.outbox = ids(lab).await?.into_iter().collect();
    histories.kept = kept(lab, histories).await?;
    Ok(())
}

/// Event ids of the outbox, in order.
pub async fn ids(lab: &Lab) -> anyhow::Result<Vec<EventId>> {
    #[derive(serde::Deserialize)]
    struct Row {
        event: EventId,
    }
    let rows: Vec<Row> = slices(lab, "select event_id as event from outbox", "event").await?;
    Ok(rows.into_iter().map(|row| row.event).collect())
}

async fn kept(lab: &Lab, histories: &Histories) -> anyhow::Result<BTreeSet<Kept>> {
    #[derive(serde::Deserialize)]
    struct Row {
        task: ordinaut_schema::id::TaskId,
    }
    #[derive(serde::Deserialize)]
    struct Received {
        key: String,
    }
    let tasks: Vec<Row> = slices(lab, "select id as task from task", "task").await?;
    let received: Vec<Received> = slices(lab, "select key from received where key like 'e:%'", "key").await?;
    let runs = histories.ended.iter().map(|run| run.id).chain(histories.live.iter().map(|run| run.id));
    Ok(tasks
        .into_iter()
        .map(|row| Kept::Task(row.task))
        .chain(runs.map(Kept::Run))
        .chain(received.into_iter().map(|row| Kept::Event(row.key[2..].to_owned())))
        .collect())
}

/// Every row of a query, read in slices in the order of one of its columns.
async fn slices<T: DeserializeOwned>(lab: &Lab, query: &str, order: &str) -> anyhow::Result<Vec<T>> {
    let mut rows = Vec::new();
    loop {
        let from = rows.len();
        let slice = format!("select * from ({query}) as everything order by {order} limit {SLICE} offset {from}");
        let slice: Vec<T> = all(lab, &slice).await?;
        let is_last = slice.len() < SLICE;
        rows.extend(slice);
        if is_last {
            return Ok(rows);
        }
    }
}

async fn all<T: DeserializeOwned>(lab: &Lab, query: &str) -> anyhow::Result<Vec<T>> {
    let rows = lab.rows(query).await?;
    serde_json::from_value(Value::Array(rows)).with_context(|| format!("read the rows of: {query}"))
}
