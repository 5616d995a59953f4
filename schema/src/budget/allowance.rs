//! What is left of a budget: asked before a run is planned, taken when it is.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

use super::{Cost, Day, Owner};
use crate::time::{Zone, with_offset};

/// One budget as it stands, under the lock that keeps others from taking of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    pub owner: Owner,
    /// Whose days are counted.
    pub zone: Zone,
    pub runs: Option<RunsOfDays>,
    pub money: Option<Money>,
}

/// Runs by the local day of the occurrence they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsOfDays {
    pub most: u32,
    pub planned: BTreeMap<Day, u32>,
}

/// What the present month has cost, and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    pub most: Cost,
    pub spent: Cost,
    /// Set aside for runs that are not over.
    pub reserved: Cost,
    pub resets_at: Timestamp,
}

/// Which budget is used up, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    pub owner: Owner,
    pub zone: Zone,
    pub resets_at: Timestamp,
    pub of: Spent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    Runs { most: u32 },
    Money { most: Cost, spent: Cost, reserved: Cost, needed: Cost },
}

impl Allowance {
    /// Whether one more run fits: one for the occurrence `at`, unless it is a retry and counts as none, which sets
    /// `needed` aside.
    ///
    /// # Errors
    /// What is used up.
    pub fn allows(&self, at: Option<Timestamp>, needed: Cost) -> Result<(), Exhausted> {
        let exhausted = |resets_at, of| Exhausted { owner: self.owner, zone: self.zone.clone(), resets_at, of };
        if let (Some(runs), Some(at)) = (&self.runs, at) {
            let day = Day::of(at, &self.zone);
            if runs.planned.get(&day).copied().unwrap_or_default() >= runs.most {
                return Err(exhausted(day.bounds(&self.zone).1, Spent::Runs { most: runs.most }));
            }
        }
        if let Some(Money { most, spent, reserved, resets_at }) = self.money
            && spent.plus(reserved).plus(needed) > most
        {
            return Err(exhausted(resets_at, Spent::Money { most, spent, reserved, needed }));
        }
        Ok(())
    }

    /// Takes what [`Allowance::allows`] was asked for.
    pub fn take(&mut self, at: Option<Timestamp>, needed: Cost) {
        if let (Some(runs), Some(at)) = (&mut self.runs, at) {
            *runs.planned.entry(Day::of(at, &self.zone)).or_default() += 1;
        }
        if let Some(money) = &mut self.money {
            money.reserved = money.reserved.plus(needed);
        }
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = self.owner.whose();
        match self.of {
            Spent::Runs { most } => write!(f, "{whose} `max_runs_per_day` of {most} is reached")?,
            Spent::Money { most, spent, reserved, needed } => write!(
                f,
                "{whose} `max_cost_per_month` of {most} would be passed: {spent} is spent, {reserved} set aside for runs \
                 that are not over, and {needed} is needed"
            )?,
        }
        write!(f, "; it begins anew at {}", with_offset(self.resets_at, &self.zone))
    }
}
