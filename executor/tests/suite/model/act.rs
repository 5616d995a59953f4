//! What happens, and what comes of it.

use super::{
    Expiry, Marks, Rules, Token,
    world::{Attempt, Executor, Journal, Phase, RUNS, Row, RowState, Seen, Watch, World},
};

/// How long a lease lasts, in ticks.
pub const LEASE: u8 = 2;
/// The first may be repeated under its key; the second may do harm.
pub const STEPS: u8 = 2;
const HARMFUL: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `store::planning`: the row and the cursor, in one transaction.
    Plan(usize),
    /// `claim_runs.sql`, which commits asynchronously.
    Claim(usize, usize),
    /// The claim's answer reaches the executor, or it looks into the journal.
    Answer(usize),
    /// It sends what it has to say: a page of the journal, or its verdict.
    Send(usize),
    /// What was sent reaches the database, however late, and is answered.
    Arrive(usize),
    /// The same, and the answer is lost: it is sent again.
    ArriveUnanswered(usize),
    Call(usize),
    Return(usize),
    Renew(usize),
    /// Its lease is over by its own clock: it goes silent.
    Stop(usize),
    /// `recovery::Watch::observe`.
    Look(usize, usize),
    /// `store::recovery`.
    Recover(usize, usize),
    Tick,
    Crash(usize),
    DatabaseCrash,
    Replicate,
    Failover,
    Leap,
}

impl Action {
    /// Whose step it is, apart from looking on.
    pub const fn executor(self) -> Option<usize> {
        match self {
            Self::Claim(n, _)
            | Self::Answer(n)
            | Self::Send(n)
            | Self::Arrive(n)
            | Self::Call(n)
            | Self::Return(n)
            | Self::Stop(n)
            | Self::Recover(n, _) => Some(n),
            _ => None,
        }
    }

    pub const fn is_plan(self) -> bool {
        matches!(self, Self::Plan(_))
    }
}

impl Attempt {
    /// What it may do next. What was sent arrives whether the lease is over or not.
    pub fn steps(self, n: usize, rules: Rules, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Writing | Phase::Concluding) {
            actions.extend([Action::ArriveUnanswered(n), Action::Arrive(n)]);
        }
        if self.left == 0 {
            actions.push(Action::Stop(n));
        }
        if self.phase == Phase::Claimed {
            actions.push(Action::Answer(n));
            return;
        }
        if self.left == 0 {
            return;
        }
        actions.push(Action::Renew(n));
        match self.phase {
            Phase::Ready if self.calls_without_a_word(rules) => actions.push(Action::Call(n)),
            Phase::Ready => actions.push(Action::Send(n)),
            Phase::Started => actions.push(Action::Call(n)),
            Phase::Calling => actions.push(Action::Return(n)),
            Phase::Claimed | Phase::Writing | Phase::Concluding => {}
        }
    }

    const fn calls_without_a_word(self, rules: Rules) -> bool {
        let next = self.journal.ended;
        let was_marked = self.journal.started > next;
        next < STEPS
            && match rules.marks {
                Marks::EveryCall => false,
                Marks::FirstCalls => was_marked && next != HARMFUL,
                Marks::HarmlessCalls => next == HARMFUL,
            }
    }

    /// Nothing is left to call, or nobody knows what became of a harmful call.
    const fn has_a_verdict(self) -> bool {
        let next = self.journal.ended;
        next == STEPS || next == HARMFUL && self.journal.started > next
    }
}

impl World {
    pub fn act(&mut self, rules: Rules, action: Action) {
        match action {
            Action::Plan(run) => {
                self.database[run].state = RowState::Pending;
                self.commit();
            }
            Action::Claim(n, run) => self.claim(rules, n, run),
            Action::Answer(n) => self.answer(rules, n),
            Action::Send(n) => self.of(n, |attempt| {
                attempt.phase = if attempt.has_a_verdict() { Phase::Concluding } else { Phase::Writing };
            }),
            Action::Arrive(n) => self.arrive(rules, n, true),
            Action::ArriveUnanswered(n) => self.arrive(rules, n, false),
            Action::Call(n) => self.call(n),
            Action::Return(n) => self.of(n, |attempt| {
                attempt.journal.ended += 1;
                attempt.journal.started = attempt.journal.started.max(attempt.journal.ended);
                attempt.phase = Phase::Ready;
            }),
            Action::Renew(n) => self.renew(rules, n),
            Action::Stop(n) => self.executors[n].attempt = None,
            Action::Look(n, run) => self.look(n, run),
            Action::Recover(_, run) => {
                let row = &mut self.database[run];
                (row.state, row.token, row.claim, row.past) = (RowState::Pending, 0, 0, false);
                self.forget(run);
                self.commit();
            }
            Action::Tick => self.tick(),
            Action::Crash(n) => {
                self.executors[n] = Executor::default();
                self.left.crashes -= 1;
            }
            Action::DatabaseCrash => {
                self.become_again(self.durable);
                self.left.database_crashes -= 1;
            }
            Action::Replicate => self.replica = self.durable,
            Action::Failover => {
                if self.replica != self.database {
                    // What was seen before counts no more.
                    self.seen = Seen { failed_over: true, stale_write: self.seen.stale_write, ..Seen::default() };
                }
                self.become_again(self.replica);
                self.durable = self.replica;
                self.left.failovers -= 1;
            }
            Action::Leap => {
                self.database.iter_mut().for_each(|row| row.past = row.state == RowState::Running);
                self.left.leaps -= 1;
            }
        }
        if self.left.failovers == 0 {
            // Nobody will ask for it.
            self.replica = Default::default();
        }
    }

    /// A synchronous commit takes with it whatever was committed before.
    fn commit(&mut self) {
        self.durable = self.database;
    }

    fn become_again(&mut self, rows: [Row; RUNS]) {
        let before = std::mem::replace(&mut self.database, rows);
        for (run, (before, after)) in before.iter().zip(&rows).enumerate() {
            if before != after {
                self.forget(run);
            }
        }
    }

    /// The lease that is watched is no more as it was seen.
    fn forget(&mut self, run: usize) {
        self.executors.iter_mut().for_each(|executor| executor.watches[run] = None);
    }

    fn of(&mut self, n: usize, change: impl FnOnce(&mut Attempt)) {
        change(self.executors[n].attempt.as_mut().expect("only attempts do this"));
    }

    fn claim(&mut self, rules: Rules, n: usize, run: usize) {
        self.claims += 1;
        let row = &mut self.database[run];
        row.state = RowState::Running;
        row.claim = self.claims;
        row.token = self.claims;
        if rules.token == Token::AttemptNumber {
            row.attempt += 1;
            row.token = row.attempt;
        }
        self.executors[n].attempt = Some(Attempt {
            run,
            token: row.token,
            claim: row.claim,
            left: LEASE,
            phase: Phase::Claimed,
            journal: Journal::default(),
            confirmed: false,
        });
    }

    fn answer(&mut self, rules: Rules, n: usize) {
        let rows = self.database;
        self.of(n, |attempt| {
            attempt.phase = Phase::Ready;
            attempt.journal = rows[attempt.run].journal;
            if !rules.counted_from_asking {
                attempt.left = LEASE;
            }
        });
    }

    /// Whether a write of this attempt finds its row.
    fn takes(&self, rules: Rules, attempt: Attempt) -> bool {
        let row = self.database[attempt.run];
        row.state == RowState::Running && (rules.token == Token::Unchecked || row.token == attempt.token)
    }

    fn arrive(&mut self, rules: Rules, n: usize, answered: bool) {
        let attempt = self.executors[n].attempt.expect("only attempts send");
        if !self.takes(rules, attempt) {
            if answered {
                self.executors[n].attempt = None;
            }
            return;
        }
        let row = &mut self.database[attempt.run];
        self.seen.stale_write |= row.claim != attempt.claim;
        if attempt.phase == Phase::Concluding {
            *row = Row { state: RowState::Over, ended: row.ended + 1, ..Row::default() };
            self.forget(attempt.run);
        } else {
            row.journal = Journal { started: attempt.journal.ended + 1, ended: attempt.journal.ended };
            if !self.seen.failed_over {
                let journaled = &mut self.seen.journaled[attempt.run];
                *journaled = (*journaled).max(attempt.journal.ended);
            }
        }
        self.commit();
        if !answered {
            self.of(n, |attempt| attempt.confirmed = true);
        } else if attempt.phase == Phase::Concluding {
            self.executors[n].attempt = None;
        } else {
            self.of(n, |attempt| {
                attempt.journal.started = attempt.journal.ended + 1;
                attempt.phase = Phase::Started;
                attempt.confirmed = true;
            });
        }
    }

    fn call(&mut self, n: usize) {
        self.of(n, |attempt| attempt.phase = Phase::Calling);
        let attempt = self.executors[n].attempt.expect("only attempts call");
        if self.seen.failed_over {
            return;
        }
        self.seen.repeated |= attempt.journal.ended < self.seen.journaled[attempt.run];
        if attempt.journal.ended == HARMFUL {
            let calls = &mut self.seen.harmful[attempt.run];
            *calls = (*calls + 1).min(2);
        }
    }

    fn renew(&mut self, rules: Rules, n: usize) {
        let attempt = self.executors[n].attempt.expect("only attempts renew");
        if !self.takes(rules, attempt) {
            self.executors[n].attempt = None;
            return;
        }
        self.database[attempt.run].past = false;
        self.commit();
        if rules.expiry == Expiry::WatchedOnly {
            for executor in &mut self.executors {
                if let Some(watch) = &mut executor.watches[attempt.run] {
                    watch.renewed = true;
                }
            }
        } else {
            self.forget(attempt.run);
        }
        self.of(n, |attempt| {
            attempt.left = LEASE;
            attempt.confirmed = true;
        });
    }

    fn look(&mut self, n: usize, run: usize) {
        let watch = &mut self.executors[n].watches[run];
        if self.database[run].state == RowState::Running && watch.is_none_or(|it| it.renewed) {
            *watch = Some(Watch::default());
        }
    }

    fn tick(&mut self) {
        for executor in &mut self.executors {
            if let Some(attempt) = &mut executor.attempt {
                attempt.left = attempt.left.saturating_sub(1);
            }
            for watch in executor.watches.iter_mut().flatten() {
                watch.age = (watch.age + 1).min(LEASE);
            }
        }
    }

    /// What everybody does besides, in a world without faults.
    pub fn look_and_tick(&mut self, rules: Rules) {
        for n in 0..self.size.executors {
            for run in 0..self.size.runs {
                self.look(n, run);
            }
            if self.executors[n].attempt.is_some_and(|it| it.left > 0 && it.phase != Phase::Claimed) {
                self.renew(rules, n);
            }
        }
        self.tick();
    }
}
