//! Pure: histories in, what is wrong with them out. Each judgement has a history planted to be found by it.

mod journal;
mod leases;
mod ledger;
#[cfg(test)]
mod planted;
mod promises;
mod turns;

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::histories::Histories;

/// In which way a promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// An occurrence that nothing covers.
    Lost,
    /// An occurrence, event or request that is covered twice.
    Doubled,
    /// An occurrence that no schedule named.
    MadeUp,
    /// A run that ended twice, or came back after its end.
    SecondEnd,
    /// A write by an attempt whose lease another had, or a result of before the lease.
    StaleWrite,
    /// A step that was called again after its result was kept, or although it must not be repeated.
    StepRepeated,
    /// A key that the sink saw again although nothing had happened to its run.
    KeyRepeated,
    /// A key of a run that is in no ledger.
    StrangeKey,
    /// What a call acknowledged and the database does not have.
    Forgotten,
    /// A run that is not over, or an occurrence that nobody decided.
    Stuck,
    /// An event of the outbox that the stream never got.
    Untold,
    /// A run that was taken from an executor to which nothing had been done.
    TakenAway,
    /// A program that panicked.
    Panicked,
    /// A program that took more memory than what it may be given needs.
    Swollen,
    /// More inside of a concurrency key than it lets in.
    Crowded,
}

impl Wrong {
    /// The invariant, as `docs/guarantees.md` numbers them.
    pub const fn invariant(self) -> &'static str {
        match self {
            Self::Lost | Self::Doubled | Self::MadeUp => "I1",
            Self::SecondEnd | Self::StaleWrite => "I2",
            Self::StepRepeated => "I3",
            Self::KeyRepeated | Self::StrangeKey => "I4",
            Self::Forgotten => "I5",
            Self::Stuck | Self::TakenAway | Self::Panicked | Self::Swollen => "I6",
            Self::Untold => "I7",
            Self::Crowded => "I8",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub wrong: Wrong,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.wrong.invariant(), self.wrong, self.what)
    }
}

/// What the histories of one fault say.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Runs that are over, skipped ones too.
    pub runs: usize,
    /// Of these, runs that were claimed more than once.
    pub attempted_again: usize,
    /// How often something was done to an executor, to PostgreSQL or to the link before it.
    pub disturbances: usize,
    pub findings: Vec<Finding>,
    /// From a disturbance to the end of each run that it met in flight.
    pub recoveries: Vec<Duration>,
}

impl Verdict {
    pub fn count(&self, wrong: Wrong) -> usize {
        self.findings.iter().filter(|finding| finding.wrong == wrong).count()
    }
}

/// Judges.
pub fn check(histories: &Histories) -> Verdict {
    let mut findings = Vec::new();
    ledger::check(histories, &mut findings);
    leases::check(histories, &mut findings);
    journal::check(histories, &mut findings);
    promises::check(histories, &mut findings);
    turns::check(histories, &mut findings);
    Verdict {
        runs: histories.ended.len(),
        attempted_again: histories.ended.iter().filter(|run| run.attempts > 1).count(),
        disturbances: histories.disturbances.len(),
        findings,
        recoveries: leases::recoveries(histories),
    }
}
