//! The disk that PostgreSQL's data lies on is full for a while. It may refuse, crash, and not come up again until there
//! is room; what it had committed is there, and everything goes on.
//!
//! The disk is a small file system in memory, mounted over the data directory; which takes root.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{Outcome, Size, judge, shows};
use crate::{
    client::Client,
    clock, fleet,
    lab::{Lab, PATIENCE, until},
    workload::Ticking,
};

/// Taken away at the end, whatever came of it.
struct Disk(Option<PathBuf>);

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            // The server that used it is gone; what cannot be unmounted is empty by then.
            let _ = run("umount", &["-l"], place);
            let _ = place.ancestors().nth(2).map(std::fs::remove_dir_all);
        }
    }
}

pub(super) async fn act(size: Size) -> anyhow::Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::LeftOut("mounting a small disk takes root".to_owned()));
    }
    // Dropped after the lab.
    let mut disk = Disk(None);
    let mut lab = Lab::open().await?;
    lab.servers.postgres.stop().await?;
    let data = lab.servers.site.layout.data_dir.join("postgres");
    let aside = data.with_file_name("aside");
    std::fs::rename(&data, &aside)?;
    std::fs::create_dir(&data)?;
    if run("mount", &["-t", "tmpfs", "-o", "size=256m", "tmpfs"], &data).is_err() {
        return Ok(Outcome::LeftOut("a small disk cannot be mounted here".to_owned()));
    }
    disk.0 = Some(data.clone());
    ensure!(
        Command::new("sh")
            .arg("-c")
            .arg("cp -a \"$0\"/. \"$1\"/ && rm -r \"$0\"")
            .args([&aside, &data])
            .status()?
            .success(),
        "the data cannot be moved to the small disk"
    );
    lab.servers.restart().await;
    let _executors = fleet::start_brief(&lab, 2)?;
    let end = {
        let client = Client::open(&lab).await?;
        Ticking { tasks: 8, seconds: size.pick(8, 120), busy_ms: 20 }.begin(&lab, &client).await?
    };
    let mut refused = 0;
    while clock::now() < end {
        sleep(Duration::from_secs(2)).await;
        lab.disturb(None);
        // As much as there is; then a switch of the log needs what is not there.
        let filler = data.join("filler");
        let _ = run("dd", &["if=/dev/zero", "bs=64k", "status=none"], Path::new(&format!("of={}", filler.display())));
        for _ in 0..20 {
            if lab.database.run_sql("select pg_switch_wal()").await.is_err() {
                refused += 1;
                break;
            }
        }
        sleep(Duration::from_secs(size.pick(2, 10))).await;
        std::fs::remove_file(&filler).context("make room again")?;
        // Where it gave up, somebody starts it again, as a service manager would.
        if !lab.servers.postgres.is_healthy().await {
            lab.servers.postgres.process.signal(Signal::SIGQUIT);
            ensure!(lab.servers.postgres.process.gone_within(PATIENCE).await, "PostgreSQL does not end");
            lab.servers.restart().await;
        }
        until("PostgreSQL takes writes", PATIENCE, async || {
            lab.number("select count(*) from task").await.map(|_| Some(()))
        })
        .await?;
        lab.calm();
    }
    shows(refused > 0, "PostgreSQL never ran out of room")?;
    judge(lab).await
}

fn run(program: &str, arguments: &[&str], place: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).arg(place).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("run {program}"))?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}
