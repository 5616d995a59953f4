//! The faults, one file each: a workload, a disturbance, a wait until nothing is due or in flight, and a look.

mod again;
mod clocks;
mod crowd;
mod disk_full;
mod hostile;
mod hostile_mcp;
mod kill;
mod link;
mod older;
mod one_key;
mod pinned;
mod poison;
mod postgres;
mod redis;
mod refused_row;
mod replica;
mod replica_async;
mod standby;
mod stop;

use std::{
    fmt,
    pin::Pin,
    time::{Duration, Instant},
};

use crate::{
    checker::{self, Finding, Verdict, Wrong},
    lab::Lab,
};

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Some ten seconds, as part of the tests.
    Short,
    Full,
}

impl Size {
    /// One of two.
    pub fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

type Doing = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>>>>;

/// One way to disturb the programs.
pub struct Fault {
    pub name: &'static str,
    /// What it does, in a sentence.
    pub does: &'static str,
    act: fn(Size) -> Doing,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    Judged(Verdict),
    /// It cannot be done here.
    LeftOut(String),
    /// The lab itself did not get to its end.
    Failed(String),
}

impl Outcome {
    /// Nothing was found wrong, and something was looked at; what was left out says nothing.
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Judged(verdict) => verdict.findings.is_empty(),
            Self::LeftOut(_) => true,
            Self::Failed(_) => false,
        }
    }
}

/// One fault, done once.
#[derive(Debug)]
pub struct Report {
    pub fault: &'static str,
    pub outcome: Outcome,
    pub took: Duration,
}

macro_rules! faults {
    ($($name:literal, $act:path, $does:literal;)*) => {
        /// All of them.
        pub const FAULTS: [Fault; [$($name),*].len()] =
            [$(Fault { name: $name, does: $does, act: |size| Box::pin($act(size)) }),*];
    };
}

faults! {
    "kill", kill::act, "executors are killed with -9, at random and in the middle of steps";
    "stop", stop::act, "an executor is stopped for longer than its lease while others take over, then goes on";
    "postgres-kill", postgres::kill, "PostgreSQL is killed with -9, or stopped at once, again and again";
    "again", again::act, "the same events and the same requests come again, at once and after their runs ended";
    "refused-row", refused_row::act, "PostgreSQL refuses one row inside a gathered batch";
    "link-commit", link::commit, "the link to PostgreSQL is cut right before and right after a COMMIT was sent";
    "link-silent", link::silent, "the link to PostgreSQL is slow, then half open, then cut";
    "redis-kill", redis::kill, "Redis is killed with -9 and started again";
    "redis-flush", redis::flush, "Redis is emptied by FLUSHALL";
    "redis-full", redis::full, "Redis has no memory left for a while";
    "redis-trim", redis::trim, "entries of the inbound stream are trimmed while a consumer that is gone has them";
    "clock-executor", clocks::executors, "executors whose clocks are an hour ahead and three days behind";
    "clock-slow", clocks::slow, "an executor whose monotonic clock is ten times too slow holds its leases for too long";
    "clock-postgres", clocks::postgres, "PostgreSQL's clock leaps an hour ahead, half an hour back, a day ahead";
    "poison", poison::act, "a task whose run kills every executor that touches it";
    "hostile", hostile::act, "steps call what hangs, never ends, is broken, or always fails";
    "hostile-mcp", hostile_mcp::act, "steps call MCP servers that hang, flood, exit, or send half a frame, beside ordinary work";
    "pinned", pinned::act, "somebody's transaction pins a snapshot while executors work";
    "race-2", crowd::two, "two executors race over runs that are all due at once";
    "race-4", crowd::four, "four executors race over runs that are all due at once";
    "race-8", crowd::eight, "eight executors race over runs that are all due at once";
    "one-key", one_key::act, "many runs of one concurrency key are due in one instant, again and again";
    "burst", crowd::burst, "a hundred thousand occurrences are due in one second, and nobody is there for them yet";
    "disk-full", disk_full::act, "the disk of PostgreSQL is full for a while";
    "replica", replica::act, "PostgreSQL dies for good and its synchronous replica is promoted";
    "older-beside", older::act, "this version comes beside an earlier one, and migrates under it (--older DIRECTORY)";
    "replica-async", replica_async::act, "PostgreSQL dies for good and a replica without its last commits is promoted";
    "standby-dead", standby::act, "the synchronous standby dies and every commit hangs until it is back or done without";
}

/// The fault of that name.
pub fn named(name: &str) -> Option<&'static Fault> {
    const ALL: &[Fault] = &FAULTS;
    ALL.iter().find(|fault| fault.name == name)
}

impl Fault {
    /// Does it once.
    pub async fn run(&self, size: Size) -> Report {
        let begun = Instant::now();
        let outcome = (self.act)(size).await.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        Report { fault: self.name, outcome, took: begun.elapsed() }
    }
}

/// Waits until all is quiet, and judges what is there.
async fn judge(lab: Lab) -> anyhow::Result<Outcome> {
    lab.settle().await;
    conclude(lab, Vec::new()).await
}

/// A fault that did not come about shows nothing, and must not look as if it did.
fn shows(came_about: bool, otherwise: &str) -> anyhow::Result<()> {
    anyhow::ensure!(came_about, "{otherwise}, so nothing was shown");
    Ok(())
}

/// Where nothing is done to anybody and no step can fail, every run succeeds.
async fn did_not_succeed(lab: &Lab) -> anyhow::Result<Vec<Finding>> {
    let odd = lab.number("select count(*) from run where state <> 'succeeded'").await?;
    let what = format!("{odd} runs did not succeed");
    Ok((odd > 0).then_some(Finding { wrong: Wrong::Stuck, what }).into_iter().collect())
}

/// Judges what is there, with what a fault found by looks of its own.
pub(crate) async fn conclude(lab: Lab, found: Vec<Finding>) -> anyhow::Result<Outcome> {
    let histories = lab.histories().await?;
    let mut verdict = checker::check(&histories);
    verdict.findings.extend(found);
    let panics = lab.panics()?;
    verdict.findings.extend(panics.into_iter().map(|what| Finding { wrong: Wrong::Panicked, what }));
    shows(verdict.runs > 0, "nothing ran")?;
    if verdict.findings.is_empty() {
        lab.tidy();
    }
    Ok(Outcome::Judged(verdict))
}
