//! Claims, leases, journals, recovery, crashes and failovers as a model, every state of which is looked at.
//!
//! The tests of the programs see the interleavings that come about; a model checker sees all of them, for a few
//! executors and runs. What it proves is the protocol, not the code: `world` says what each rule stands for in the code.
//! That the model has eyes is seen by taking one rule away at a time: each has its counterexample.
//!
//! What no protocol can promise is left out of the properties: a process that is stopped (SIGSTOP) between its look at
//! the lease and the call goes through with the call when it goes on, and a failover to a replica that lags repeats what
//! the replica had not heard of, under the same keys.

mod act;
mod world;

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use self::{
    act::{Action, LEASE, STEPS},
    world::{Faults, Size, World},
};

/// Where the right to write comes from, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    token: Token,
    expiry: Expiry,
    /// The lease is counted from before the claim was sent, not from its answer.
    counted_from_asking: bool,
    marks: Marks,
}

/// What is written under the lease, durably, before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    /// That it starts, every time: with it the claim is sure.
    EveryCall,
    /// The same, but for a step that an earlier attempt had marked and that may be repeated.
    FirstCalls,
    /// Nothing of a step whose repeat may do harm.
    HarmlessCalls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Random,
    /// The number of the attempt, which a claim that was lost gives a second time.
    AttemptNumber,
    Unchecked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// Seen unrenewed for a whole lease by the watcher's monotonic clock, and still so when it is taken.
    Watched,
    /// The same, and taken without another look.
    WatchedOnly,
    /// Past by the database's clock.
    DatabaseClock,
}

const OURS: Rules =
    Rules { token: Token::Random, expiry: Expiry::Watched, counted_from_asking: true, marks: Marks::EveryCall };

/// So many executors and runs, so many faults, so many claims.
#[derive(Debug, Clone)]
struct Lease {
    rules: Rules,
    size: Size,
    faults: Faults,
    claims: u8,
    /// Whether every state is asked for its end, too, which is many states more.
    to_the_end: bool,
}

const ONE_ROW: &str = "a run has at most one row in history";
const STALE: &str = "a write under a stale lease changes nothing";
const REPEATED: &str = "a journaled step is not called again while committed data survives";
const HARM: &str = "a step whose repeat may do harm is called once while committed data survives";
const ONE_RIGHT: &str = "at most one attempt has the right to go on while committed data survives";
const ENDS: &str = "whatever has happened, the run ends once faults do";

impl Model for Lease {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.size, self.faults)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.faults(self.rules, actions);
        world.steps(self.rules, world.claims < self.claims, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = *world;
        next.act(self.rules, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_ROW, |_, world: &World| world.rows().iter().all(|row| row.ended <= 1)),
            Property::always(STALE, |_, world: &World| !world.seen.stale_write),
            Property::always(REPEATED, |_, world: &World| !world.seen.repeated),
            Property::always(HARM, |_, world: &World| world.seen.harmful.iter().all(|calls| *calls <= 1)),
            Property::always(ONE_RIGHT, |_, world: &World| world.has_one_right()),
            Property::always(ENDS, |model: &Self, world| !model.to_the_end || model.ends(world)),
            Property::sometimes("a run ends", |_, world: &World| world.is_over()),
            Property::sometimes("a lease is taken", |_, world: &World| world.claims > 1),
        ]
    }
}

impl Lease {
    /// Without further faults, and with everybody taking turns, every run ends.
    fn ends(&self, world: &World) -> bool {
        let mut world = *world;
        for _ in 0..8 * (STEPS + LEASE) {
            if world.is_over() {
                return true;
            }
            let mut actions = Vec::new();
            for executor in 0..self.size.executors {
                actions.clear();
                world.steps(self.rules, true, &mut actions);
                let own = |action: &&Action| action.executor() == Some(executor);
                let Some(next) = actions.iter().rev().find(own).or_else(|| actions.iter().find(|it| it.is_plan()))
                else {
                    continue;
                };
                world.act(self.rules, *next);
            }
            world.look_and_tick(self.rules);
        }
        world.is_over()
    }

    /// Looks at every state.
    fn hold(self) {
        let checker = self.checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
    }

    /// Looks until one of these is broken.
    fn breaks(self, broken: &'static str) {
        let checker = self.checker().threads(2).finish_when(HasDiscoveries::AllOf([broken].into())).spawn_bfs().join();
        let discoveries = checker.discoveries();
        let path = discoveries.get(broken);
        assert!(path.is_some(), "the model does not see it: {broken}; it found {:?}", discoveries.keys());
    }
}

const NO_FAULTS: Faults = Faults { crashes: 0, database_crashes: 0, failovers: 0, leaps: 0 };

fn small(rules: Rules) -> Lease {
    let faults = Faults { crashes: 1, database_crashes: 1, leaps: 1, ..NO_FAULTS };
    Lease { rules, size: Size { executors: 2, runs: 1 }, faults, claims: 3, to_the_end: false }
}

#[test]
fn two_executors_keep_every_promise_through_crashes_of_theirs_and_of_the_database() {
    small(OURS).hold();
}

#[test]
fn two_executors_keep_every_promise_through_a_failover_that_loses_commits() {
    Lease { faults: Faults { failovers: 1, ..NO_FAULTS }, claims: 2, ..small(OURS) }.hold();
}

#[test]
fn three_executors_keep_every_promise_through_a_crash() {
    let size = Size { executors: 3, runs: 1 };
    Lease { size, faults: Faults { crashes: 1, ..NO_FAULTS }, claims: 2, ..small(OURS) }.hold();
}

#[test]
fn two_runs_do_not_get_in_each_others_way() {
    Lease { size: Size { executors: 2, runs: 2 }, faults: NO_FAULTS, claims: 2, ..small(OURS) }.hold();
}

#[test]
fn wherever_faults_leave_a_run_it_ends_once_they_do() {
    let faults = Faults { crashes: 1, database_crashes: 1, ..NO_FAULTS };
    Lease { faults, claims: 2, to_the_end: true, ..small(OURS) }.hold();
}

/// More of everything: minutes, and not part of the suite. `cargo test --release -p ordinaut-executor --test suite --
/// --ignored model::`
#[test]
#[ignore = "minutes"]
fn with_more_of_everything_every_promise_is_kept() {
    let faults = Faults { crashes: 2, database_crashes: 1, failovers: 1, leaps: 0 };
    Lease { faults, to_the_end: true, ..small(OURS) }.hold();
    let size = Size { executors: 3, runs: 1 };
    Lease { size, faults: Faults { crashes: 1, database_crashes: 1, ..NO_FAULTS }, ..small(OURS) }.hold();
    let size = Size { executors: 2, runs: 2 };
    Lease { size, faults: Faults { database_crashes: 1, ..NO_FAULTS }, ..small(OURS) }.hold();
}

#[test]
fn without_a_look_at_the_token_a_stale_attempt_writes() {
    small(Rules { token: Token::Unchecked, ..OURS }).breaks(STALE);
}

#[test]
fn a_number_for_a_token_is_given_twice_by_a_database_that_lost_a_claim() {
    small(Rules { token: Token::AttemptNumber, ..OURS }).breaks(STALE);
}

#[test]
fn a_leap_of_the_databases_clock_would_take_a_lease_from_an_executor_in_good_health() {
    small(Rules { expiry: Expiry::DatabaseClock, ..OURS }).breaks(ONE_RIGHT);
}

#[test]
fn a_lease_renewed_since_it_was_seen_must_not_be_taken() {
    small(Rules { expiry: Expiry::WatchedOnly, ..OURS }).breaks(ONE_RIGHT);
}

#[test]
fn a_lease_counted_from_the_answer_outlives_the_watch() {
    small(Rules { counted_from_asking: false, ..OURS }).breaks(ONE_RIGHT);
}

#[test]
fn a_harmful_step_that_is_not_marked_before_its_call_is_called_again() {
    small(Rules { marks: Marks::HarmlessCalls, ..OURS }).breaks(HARM);
}

#[test]
fn an_attempt_whose_claim_was_lost_would_call_again_what_it_finds_begun() {
    small(Rules { marks: Marks::FirstCalls, ..OURS }).breaks(REPEATED);
}
