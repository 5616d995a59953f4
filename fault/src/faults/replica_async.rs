//! PostgreSQL dies for good, and a replica that did not get its last commits is promoted and led to. What was done in
//! between is forgotten: it may be done again, under the same keys, and what was acknowledged then may be gone. All the
//! rest holds: what was replicated is there, each occurrence is in the ledger once, and no executor writes what it
//! still believes to hold.

use std::{collections::HashSet, time::Duration};

use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use ordinaut_store::testing::PrivateServers;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Outcome, Size, conclude, replica::replicate, shows};
use crate::{
    client::Client,
    clock,
    expected::{Expected, Times},
    fleet,
    histories::{Histories, Kept},
    lab::{Lab, PATIENCE, socket_of, until},
    workload::{self, Ticking},
};

/// Longer than the leases of the executors here: who has a lease of the dead server's and hears nothing has stopped by
/// then. A failover that is faster than that meets attempts that are still at their step, which is what leases are for.
const NOTICED: Duration = Duration::from_secs(3);

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let (mut lab, link) = Lab::linked().await?;
    let replica = replicate(&lab).await?;
    let _executors = fleet::start_brief(&lab, 2)?;
    let client = Client::open(&lab).await?;
    let task = workload::manual(&lab, &client, "asked").await?;
    Ticking { tasks: size.pick(8, 40), seconds: size.pick(20, 90), busy_ms: 300 }.begin(&lab, &client).await?;
    for n in 0..size.pick(5, 200) {
        client.run_now(task, &format!("before {n}")).await?;
    }
    done_by_schedule(&lab, Timestamp::UNIX_EPOCH, size.pick(3, 300)).await?;

    // The replica knows who has these: one ends on the dead server, one is still called for when that dies.
    for (path, ms) in [("lasts", 1_500), ("spans", 6_000)] {
        let lasting = client.create_task(calling(&lab, path, ms, &json!({ "schedule_kind": "manual" }))).await?;
        client.run_now(lasting, path).await?;
        is_called(&lab, path).await?;
    }
    // It never hears that this one was begun, and has it begun anew while the one that began it is still at it.
    let due = Timestamp::from_second(clock::now().as_second())? + SignedDuration::from_secs(10);
    let once = json!({ "schedule_kind": "once", "schedule_expr": due });
    let begun = client.create_task(calling(&lab, "begins", 20_000, &once)).await?;
    lab.expect(Expected { task: begun, times: Times::once(due) });
    let since = cut_off(&lab, &replica).await?;
    ensure!(clock::now() < due, "this machine cuts a replica off too slowly");
    for n in 0..size.pick(8, 200) {
        client.run_now(task, &format!("unreplicated {n}")).await?;
    }
    workload::manual(&lab, &client, "kept for nobody").await?;
    done_by_schedule(&lab, since, size.pick(2, 200)).await?;
    is_called(&lab, "begins").await?;
    drop(client);

    lab.disturb(None);
    lab.servers.postgres.process.signal(Signal::SIGKILL);
    ensure!(lab.servers.postgres.process.gone_within(PATIENCE).await, "PostgreSQL does not end");
    sleep(NOTICED).await;
    replica.client("psql", "postgres", &["-Atc", "select pg_promote()"], b"").await;
    lab.taken_over();
    link.lead_to(socket_of(&replica)?);
    link.cut_all();
    lab.promoted = Some(replica);
    lab.calm();

    lab.settle().await;
    let histories = lab.histories().await?;
    let gone = histories.doubtful.iter().filter(|kept| !histories.kept.contains(kept)).count();
    shows(gone > 0, "everything was replicated")?;
    ensure!(histories.doubtful.iter().any(|kept| matches!(kept, Kept::Task(_))), "no task was kept for nobody");
    shows(done_again(&histories) > 0, "nothing that was forgotten was done again")?;
    shows(histories.ended.iter().any(|run| run.attempts > 1), "nobody had a lease that the replica knew of")?;
    conclude(lab, Vec::new()).await
}

/// A task whose one step takes so long.
fn calling(lab: &Lab, path: &str, ms: u32, schedule: &Value) -> Value {
    let url = lab.sink.url(&format!("/busy/{path}?ms={ms}"));
    let pipeline = json!({ "pipeline": [{ "id": path, "uses": "http.put", "with": { "url": url } }] });
    workload::definition(lab, path, 0, &[schedule.clone(), pipeline])
}

async fn is_called(lab: &Lab, path: &str) -> anyhow::Result<()> {
    let path = format!("/busy/{path}");
    until("its step is called", PATIENCE, async || {
        Ok(lab.sink.calls()?.iter().any(|call| call.path == path).then_some(()))
    })
    .await
}

/// Waits until so many occurrences after `since` have run, of the tasks that make up for every one of theirs.
async fn done_by_schedule(lab: &Lab, since: Timestamp, many: i64) -> anyhow::Result<()> {
    let done = format!(
        "
        select count(*)
        from run
        join task on task.id = run.task_id
        where case when task.title like 'ticks %' then substr(task.title, 7)::integer % 4 = 0 end
          and run.state = 'succeeded'
          and run.occurrence_at > '{since}'
        "
    );
    until("occurrences have run", PATIENCE, async || Ok((lab.number(&done).await? >= many).then_some(()))).await
}

/// Lets the replica have everything up to now, and nothing from an instant on.
async fn cut_off(lab: &Lab, replica: &PrivateServers) -> anyhow::Result<Timestamp> {
    let since = clock::now();
    let position = lab.rows("select pg_current_wal_insert_lsn()::text as lsn").await?;
    let position = position[0]["lsn"].as_str().unwrap_or_default().to_owned();
    until("all that was committed so far is replicated", PATIENCE, async || {
        let behind = format!("select count(*) from pg_stat_replication where flush_lsn >= '{position}'");
        Ok((lab.number(&behind).await? == 1).then_some(()))
    })
    .await?;
    lab.cut_off(since);
    // A receiver that is only stopped gets later what its socket has meanwhile; one that has nowhere to ask gets nothing.
    for statement in ["alter system set primary_conninfo = ''", "select pg_reload_conf()"] {
        replica.client("psql", "postgres", &["-Atc", statement], b"").await;
    }
    until("the replica is cut off", PATIENCE, async || {
        Ok((lab.number("select count(*) from pg_stat_replication").await? == 0).then_some(()))
    })
    .await?;
    Ok(since)
}

/// How many keys the sink saw while nothing was replicated, and again from who took over.
fn done_again(histories: &Histories) -> usize {
    let Some(lost) = histories.unreplicated else { return 0 };
    let mut forgotten: HashSet<&str> = HashSet::new();
    let mut again: HashSet<&str> = HashSet::new();
    for call in &histories.calls {
        let Some(key) = call.key.as_deref() else { continue };
        if lost.has(call.at) {
            forgotten.insert(key);
        } else if call.at >= lost.until && forgotten.contains(key) {
            again.insert(key);
        }
    }
    again.len()
}
