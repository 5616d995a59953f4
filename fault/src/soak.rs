//! A soak: one lab whose tasks tick on and whose programs stay, disturbed by whatever is drawn next, for as long as one
//! likes. At the end it is judged as every fault is; and what must not grow has not grown.
//!
//! One executor and one `ordinaut-mcp` are there from the first to the last minute, and theirs is the memory that is
//! looked at; the others are killed and stopped beside them.

mod growth;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use nix::sys::signal::Signal;
use rand::{RngExt as _, seq::IndexedRandom as _};
use tokio::time::sleep;

pub use self::growth::Growth;
use crate::{
    client::Client,
    clock,
    faults::{Outcome, Report, conclude},
    fleet::Executor,
    lab::{Lab, PATIENCE, until},
    link::{Cut, Link, Weather},
    workload::{self, Ticking},
};

/// Long enough that a machine with much else to do takes no run from an executor to which nothing was done.
const LEASE: &str = "6s";
const STOPPED: Duration = Duration::from_secs(9);
const TICKING: Ticking = Ticking { tasks: 12, seconds: 0, busy_ms: 300 };
/// Requests between two disturbances.
const ASKED: u32 = 3;

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Disturbance {
    KillExecutor,
    StopExecutor,
    KillPostgres,
    StopPostgres,
    CutCommits,
    SlowLink,
    SilentLink,
    KillRedis,
    FlushRedis,
    FullRedis,
    PinSnapshot,
}

const ALL: [Disturbance; 11] = [
    Disturbance::KillExecutor,
    Disturbance::StopExecutor,
    Disturbance::KillPostgres,
    Disturbance::StopPostgres,
    Disturbance::CutCommits,
    Disturbance::SlowLink,
    Disturbance::SilentLink,
    Disturbance::KillRedis,
    Disturbance::FlushRedis,
    Disturbance::FullRedis,
    Disturbance::PinSnapshot,
];

/// What came of it.
#[derive(Debug)]
pub struct Soaked {
    pub report: Report,
    pub growth: Growth,
    /// How often each disturbance was drawn.
    pub disturbed: BTreeMap<String, u32>,
}

/// Does it for so many minutes.
pub async fn soak(minutes: u32) -> Soaked {
    let begun = Instant::now();
    let (mut growth, mut disturbed) = (Growth::default(), BTreeMap::new());
    let outcome = act(minutes, &mut growth, &mut disturbed).await;
    let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
    let disturbed = disturbed.into_iter().map(|(what, times)| (format!("{what:?}"), times)).collect();
    Soaked { report: Report { fault: "soak", outcome, took: begun.elapsed() }, growth, disturbed }
}

async fn act(minutes: u32, growth: &mut Growth, disturbed: &mut BTreeMap<Disturbance, u32>) -> anyhow::Result<Outcome> {
    let (mut lab, link) = Lab::linked().await?;
    let steady = start(&lab)?;
    let mut victims = vec![start(&lab)?, start(&lab)?];
    let client = Client::open(&lab).await?;
    let task = workload::manual(&lab, &client, "asked").await?;
    let ticking = Ticking { seconds: minutes.checked_mul(60).context("so many minutes")?, ..TICKING };
    let end = ticking.begin(&lab, &client).await?;
    let mut asked = 0;
    while clock::now() < end {
        let drawn = *ALL.choose(&mut rand::rng()).context("a disturbance")?;
        disturb(drawn, &mut lab, &link, &mut victims).await.with_context(|| format!("{drawn:?}"))?;
        *disturbed.entry(drawn).or_default() += 1;
        for _ in 0..ASKED {
            asked += 1;
            // Who is not answered does not know, and is owed nothing.
            let _ = client.run_now(task, &format!("asked {asked}")).await;
        }
        sleep(Duration::from_millis(rand::rng().random_range(500..6_000))).await;
        growth.look(&lab, [("ordinaut-executor", steady.id()?), ("ordinaut-mcp", client.server)]).await?;
    }
    drop(client);
    lab.settle().await;
    let found = growth.findings();
    conclude(lab, found).await
}

fn start(lab: &Lab) -> anyhow::Result<Executor> {
    Executor::start(lab, &[("ORDINAUT_LEASE".into(), LEASE.into())])
}

async fn disturb(drawn: Disturbance, lab: &mut Lab, link: &Link, victims: &mut Vec<Executor>) -> anyhow::Result<()> {
    match drawn {
        Disturbance::KillExecutor => {
            let at = rand::rng().random_range(0..victims.len());
            victims.swap_remove(at).kill(lab).await?;
            victims.push(start(lab)?);
        }
        Disturbance::StopExecutor => {
            let victim = victims.choose(&mut rand::rng()).context("an executor")?;
            victim.stop(lab)?;
            sleep(STOPPED).await;
            lab.calm();
            victim.go_on()?;
        }
        Disturbance::KillPostgres => end_postgres(lab, Signal::SIGKILL).await?,
        Disturbance::StopPostgres => end_postgres(lab, Signal::SIGQUIT).await?,
        Disturbance::CutCommits => {
            lab.disturb(None);
            for cut in [Cut::Before, Cut::After] {
                let before = link.commits_cut();
                link.cut_commit(cut);
                until("a commit was cut", PATIENCE, async || Ok((link.commits_cut() > before).then_some(()))).await?;
            }
            lab.calm();
        }
        Disturbance::SlowLink => weather(lab, link, Weather::Slow(Duration::from_millis(40))).await,
        Disturbance::SilentLink => {
            weather(lab, link, Weather::Silent).await;
            link.cut_all();
        }
        Disturbance::KillRedis => {
            lab.servers.redis.process.signal(Signal::SIGKILL);
            ensure!(lab.servers.redis.process.gone_within(PATIENCE).await, "Redis does not end");
            sleep(Duration::from_secs(1)).await;
            lab.servers.restart().await;
        }
        Disturbance::FlushRedis => drop(lab.redis(&["flushall"]).await?),
        Disturbance::FullRedis => {
            lab.redis(&["config", "set", "maxmemory", "1"]).await?;
            sleep(Duration::from_secs(2)).await;
            lab.redis(&["config", "set", "maxmemory", "0"]).await?;
        }
        Disturbance::PinSnapshot => {
            let pin = "begin isolation level repeatable read; select pg_current_xact_id(); select pg_sleep(8); commit;";
            lab.database.run_sql(pin).await.map_err(|why| anyhow!("pin a snapshot: {why}"))?;
        }
    }
    Ok(())
}

async fn end_postgres(lab: &mut Lab, signal: Signal) -> anyhow::Result<()> {
    lab.disturb(None);
    lab.servers.postgres.process.signal(signal);
    ensure!(lab.servers.postgres.process.gone_within(PATIENCE).await, "PostgreSQL does not end");
    lab.servers.restart().await;
    lab.calm();
    Ok(())
}

async fn weather(lab: &Lab, link: &Link, weather: Weather) {
    lab.disturb(None);
    link.set(weather);
    sleep(Duration::from_secs(5)).await;
    link.set(Weather::Fair);
    lab.calm();
}
