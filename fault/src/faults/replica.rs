//! PostgreSQL dies for good, and its synchronous replica is promoted and led to: nothing that was committed is missing.

use std::{os::unix::fs::MetadataExt as _, time::Duration};

use anyhow::{Context as _, anyhow, ensure};
use nix::sys::signal::Signal;
use ordinaut_store::{embedded::Durability, testing::PrivateServers};
use tokio::{process::Command, time::sleep};

use super::{Outcome, Size, judge};
use crate::{
    client::Client,
    clock, fleet,
    lab::{Lab, PATIENCE, socket_of, until},
    workload::{self, Ticking},
};

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    let (mut lab, link) = Lab::linked().await?;
    let replica = replicate(&lab).await?;
    wait_for_it(&lab).await?;
    let _executors = fleet::start_brief(&lab, 2)?;
    let client = Client::open(&lab).await?;
    let task = workload::manual(&lab, &client, "asked").await?;
    let ticking = Ticking { tasks: size.pick(8, 40), seconds: size.pick(8, 60), busy_ms: 50 };
    let end = ticking.begin(&lab, &client).await?;
    let half = clock::now() + end.duration_since(clock::now()) / 2;
    for n in 0.. {
        if clock::now() >= half {
            break;
        }
        client.run_now(task, &format!("before {n}")).await?;
    }
    drop(client);
    lab.disturb(None);
    lab.servers.postgres.process.signal(Signal::SIGKILL);
    ensure!(lab.servers.postgres.process.gone_within(PATIENCE).await, "PostgreSQL does not end");
    // For as long as nobody has noticed.
    sleep(Duration::from_secs(1)).await;
    replica.client("psql", "postgres", &["-Atc", "select pg_promote()"], b"").await;
    link.lead_to(socket_of(&replica)?);
    link.cut_all();
    lab.promoted = Some(replica);
    lab.calm();
    judge(lab).await
}

/// Makes a second server that follows the lab's.
pub(super) async fn replicate(lab: &Lab) -> anyhow::Result<PrivateServers> {
    let access = lab.servers.site.layout.data_dir.join("conf/pg_hba.conf");
    let text = std::fs::read_to_string(&access)? + "local replication all trust\n";
    std::fs::write(&access, text).context("let a replica in")?;
    lab.servers.postgres.process.signal(Signal::SIGHUP);

    let mut replica = PrivateServers::start(Durability::Durable).await;
    replica.postgres.stop().await?;
    let data = replica.site.layout.data_dir.join("postgres");
    let owner = std::fs::metadata(&data)?;
    std::fs::remove_dir_all(&data)?;
    let socket = lab.socket()?;
    let socket = socket.parent().context("a socket lies in a directory")?;
    until("a copy of the data", PATIENCE, async || {
        let status = Command::new("pg_basebackup")
            .args(["-U", "ordinaut", "-X", "stream", "-R", "-c", "fast", "-h"])
            .arg(socket)
            .arg("-D")
            .arg(&data)
            .stderr(std::process::Stdio::null())
            .status()
            .await?;
        Ok(status.success().then_some(()))
    })
    .await?;
    let owner = format!("{}:{}", owner.uid(), owner.gid());
    ensure!(Command::new("chown").arg("-R").arg(owner).arg(&data).status().await?.success(), "chown failed");
    replica.restart().await;
    until("a replica that follows", PATIENCE, async || {
        let following = lab.number("select count(*) from pg_stat_replication where state = 'streaming'").await?;
        Ok((following == 1).then_some(()))
    })
    .await?;
    Ok(replica)
}

/// From now on no commit is acknowledged before the replica has it.
pub(super) async fn wait_for_it(lab: &Lab) -> anyhow::Result<()> {
    for statement in ["alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"] {
        lab.database.run_sql(statement).await.map_err(|why| anyhow!("replicate synchronously: {why}"))?;
    }
    until("a synchronous replica", PATIENCE, async || {
        let synchronous = lab.number("select count(*) from pg_stat_replication where sync_state = 'sync'").await?;
        Ok((synchronous == 1).then_some(()))
    })
    .await
}
