//! What there is: a database and what would be left of it, executors, and what was seen to happen.

use super::{
    Expiry, Rules,
    act::{Action, LEASE},
};

/// The most executors and runs of a world.
const EXECUTORS: usize = 3;
pub const RUNS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    pub executors: usize,
    pub runs: usize,
}

/// A run as the database has it: in `due_work` until it has ended, then in history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Row {
    pub state: RowState,
    pub attempt: u8,
    pub token: u8,
    /// Which claim holds it, of all that were ever made: what the token stands for.
    pub claim: u8,
    pub journal: Journal,
    /// Its lease is past by the database's clock.
    pub past: bool,
    /// Rows in history.
    pub ended: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RowState {
    /// Its occurrence is due and the cursor has not passed it.
    #[default]
    Unplanned,
    Pending,
    Running,
    Over,
}

/// So many steps are marked as started, and of so many there is a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    pub started: u8,
    pub ended: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Executor {
    pub attempt: Option<Attempt>,
    /// One a run.
    pub watches: [Option<Watch>; RUNS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub run: usize,
    pub token: u8,
    pub claim: u8,
    /// What is left of the lease by this executor's monotonic clock.
    pub left: u8,
    pub phase: Phase,
    /// As it knows it.
    pub journal: Journal,
    /// The database has taken a write of it and committed durably.
    pub confirmed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The claim is made; its answer is on the way.
    Claimed,
    /// Between steps.
    Ready,
    /// What it has done and starts next is on its way to the journal.
    Writing,
    /// The journal has the start of the next step.
    Started,
    /// The call is under way.
    Calling,
    /// The verdict is on its way.
    Concluding,
}

/// A lease that somebody watches. A watch of one that is no more is none: the next look begins anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Watch {
    /// By the watcher's monotonic clock.
    pub age: u8,
    /// It was renewed since it was seen; only where the rules forget that.
    pub renewed: bool,
}

/// How many may still happen. Stalls need no number: whoever is not chosen stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    pub crashes: u8,
    pub database_crashes: u8,
    pub failovers: u8,
    pub leaps: u8,
}

/// What an onlooker saw who is subject to none of the faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub stale_write: bool,
    pub repeated: bool,
    /// Committed data was lost: what was seen before counts no more.
    pub failed_over: bool,
    /// Of each run: steps with a committed result, and calls of the step whose repeat may do harm.
    pub journaled: [u8; RUNS],
    pub harmful: [u8; RUNS],
}

/// Nothing in it is on the heap: the checker copies it at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub database: [Row; RUNS],
    /// What a crash of the database leaves: all but claims that nothing was committed after.
    pub durable: [Row; RUNS],
    /// What a failover leaves.
    pub replica: [Row; RUNS],
    pub executors: [Executor; EXECUTORS],
    /// So many of these there are.
    pub size: Size,
    pub left: Faults,
    /// Claims ever made.
    pub claims: u8,
    pub seen: Seen,
}

impl World {
    pub fn new(size: Size, left: Faults) -> Self {
        Self {
            database: Default::default(),
            durable: Default::default(),
            replica: Default::default(),
            executors: Default::default(),
            size,
            left,
            claims: 0,
            seen: Seen::default(),
        }
    }

    pub fn rows(&self) -> &[Row] {
        &self.database[..self.size.runs]
    }

    pub fn executors(&self) -> &[Executor] {
        &self.executors[..self.size.executors]
    }

    pub fn is_over(&self) -> bool {
        self.rows().iter().all(|row| row.state == RowState::Over)
    }

    /// Of the attempts at one run, at most one whose lease is left and whose claim is sure.
    pub fn has_one_right(&self) -> bool {
        let rights = |run: usize| {
            let attempts = self.executors().iter().filter_map(|executor| executor.attempt);
            attempts.filter(|it| it.run == run && it.left > 0 && it.confirmed).count()
        };
        self.seen.failed_over || (0..self.size.runs).all(|run| rights(run) <= 1)
    }

    /// What may go wrong.
    pub fn faults(&self, rules: Rules, actions: &mut Vec<Action>) {
        if self.left.crashes > 0 {
            actions.extend((0..self.size.executors).map(Action::Crash));
        }
        if self.left.database_crashes > 0 && self.database != self.durable {
            actions.push(Action::DatabaseCrash);
        }
        if self.left.failovers > 0 {
            if self.replica != self.durable {
                actions.push(Action::Replicate);
            }
            actions.push(Action::Failover);
        }
        // Nothing else asks that clock.
        if self.left.leaps > 0 && rules.expiry == Expiry::DatabaseClock {
            actions.push(Action::Leap);
        }
    }

    /// What the programs may do, and time.
    pub fn steps(&self, rules: Rules, may_claim: bool, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        for (run, row) in self.rows().iter().enumerate() {
            if row.state == RowState::Unplanned {
                actions.push(Action::Plan(run));
            }
        }
        for (n, executor) in self.executors().iter().enumerate() {
            for (run, row) in self.rows().iter().enumerate() {
                // Of its own attempt it knows more.
                if executor.attempt.is_none_or(|it| it.run != run) {
                    actions.push(Action::Look(n, run));
                }
                if Self::may_take(rules, executor.watches[run], *row) {
                    actions.push(Action::Recover(n, run));
                }
                if may_claim && executor.attempt.is_none() && row.state == RowState::Pending {
                    actions.push(Action::Claim(n, run));
                }
            }
            if let Some(attempt) = executor.attempt {
                attempt.steps(n, rules, actions);
            }
        }
    }

    fn may_take(rules: Rules, watch: Option<Watch>, row: Row) -> bool {
        row.state == RowState::Running
            && match rules.expiry {
                Expiry::Watched | Expiry::WatchedOnly => watch.is_some_and(|it| it.age >= LEASE),
                Expiry::DatabaseClock => row.past,
            }
    }
}
