//! Wall clocks that are wrong. An executor's own means nothing, so nothing changes. PostgreSQL's is the clock, and may
//! still leap: what it leaps over is decided late, what it repeats is not decided twice, and no lease ends by it.

use anyhow::anyhow;
use jiff::SignedDuration;
use ordinaut_store::testing::{PrivateServers, ServerClock};
use serde_json::json;
use tokio::time::sleep;

use super::{Outcome, Size, conclude, judge, shows};
use crate::{
    client::Client,
    clock,
    expected::{Expected, Times},
    fleet::{self, Executor},
    lab::Lab,
    workload::{self, Ticking},
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MISSING: &str = "libfaketime is not installed (`scripts/system-packages faketime`)";

pub(super) async fn executors(size: Size) -> anyhow::Result<Outcome> {
    let Some(library) = ServerClock::library() else { return Ok(Outcome::LeftOut(MISSING.to_owned())) };
    let lab = Lab::open().await?;
    let mut executors = fleet::start(&lab, 1)?;
    for off in [HOUR, -HOUR * 72] {
        executors.push(Executor::start(&lab, &ServerClock::off_by(&library, off))?);
    }
    let client = Client::open(&lab).await?;
    Ticking { tasks: 8, seconds: size.pick(4, 60), busy_ms: 50 }.begin(&lab, &client).await?;
    drop(client);
    judge(lab).await
}

/// Two executors whose time passes ten times too slowly believe in leases that are long over, and one that is right takes
/// their runs. Nothing of their own holds them back: only the database can refuse what they write.
pub(super) async fn slow(size: Size) -> anyhow::Result<Outcome> {
    let Some(library) = ServerClock::library() else { return Ok(Outcome::LeftOut(MISSING.to_owned())) };
    let lab = Lab::open().await?;
    let mut slow = vec![("LD_PRELOAD".into(), library.into_os_string()), ("FAKETIME".into(), "+0 x0.1".into())];
    slow.extend(fleet::brief());
    let mut executors = fleet::start_brief(&lab, 1)?;
    for _ in 0..2 {
        executors.push(Executor::start(&lab, &slow)?);
    }
    let client = Client::open(&lab).await?;
    lab.disturb(None);
    Ticking { tasks: size.pick(8, 24), seconds: size.pick(5, 60), busy_ms: 2_800 }.begin(&lab, &client).await?;
    drop(client);
    lab.settle().await;
    lab.calm();
    shows(lab.number("select count(*) from run where crashes > 0").await? > 0, "nobody took a slow one's run")?;
    conclude(lab, Vec::new()).await
}

pub(super) async fn postgres(size: Size) -> anyhow::Result<Outcome> {
    let Some(library) = ServerClock::library() else { return Ok(Outcome::LeftOut(MISSING.to_owned())) };
    let lab = Lab::over(PrivateServers::start_at(clock::now(), &library).await).await?;
    let _executors = fleet::start(&lab, 2)?;
    let client = Client::open(&lab).await?;
    let first = jiff::Timestamp::from_second(clock::now().as_second())? + SignedDuration::from_secs(5);
    let end = first + HOUR * 6;
    for (n, misfire) in ["run_latest", "skip", "run_all"].into_iter().enumerate() {
        for overlap in ["skip", "allow"] {
            let every = size.pick(60, 10);
            let more = json!({
                "schedule_kind": "interval", "schedule_expr": format!("{every}s"), "starts_at": first, "ends_at": end,
                "misfire": misfire, "misfire_limit": 10_000, "overlap": overlap,
            });
            let definition = workload::definition(&lab, &format!("{n} {overlap}"), 0, &[more]);
            let task = client.create_task(definition).await?;
            lab.expect(Expected { task, times: Times::every(every, first, end) });
        }
    }
    drop(client);
    let leaps = [HOUR, -HOUR / 2, HOUR * 24];
    for leap in leaps {
        sleep(size.pick(std::time::Duration::from_secs(3), std::time::Duration::from_secs(20))).await;
        let clock = lab.servers.clock.as_ref().ok_or_else(|| anyhow!("this PostgreSQL has no clock of its own"))?;
        clock.leap(leap);
    }
    judge(lab).await
}
