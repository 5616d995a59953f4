//! Named crash points: where a test ends the process, as `kill -9` would, to see what the next one makes of it.
//!
//! Only in a build with the feature `faults`; in any other, [`reached`] is nothing. The crate `fail` reads which points
//! strike from the environment variable `FAILPOINTS`: `after-claim=2*off->return` at the third pass.

/// Every point, in the order in which a run comes by them.
pub const POINTS: [&str; 11] = [
    "before-plan-commit",
    "after-plan-commit",
    "after-claim",
    "before-journal",
    "after-journal",
    "before-call",
    "after-call",
    "before-conclude",
    "after-conclude",
    "before-relay",
    "after-xadd",
];

/// Ends the process here, where a test has said so.
#[cfg(feature = "faults")]
pub fn reached(point: &'static str) {
    debug_assert!(POINTS.contains(&point), "`{point}` is not in the list");
    fail::eval(point, |_| {
        // The signal comes before the call returns; should it not, nothing is to happen after this point all the same.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("a process may kill itself");
    });
}

#[cfg(not(feature = "faults"))]
#[inline]
pub const fn reached(_point: &'static str) {}

/// Reads which points strike. For `main`, once.
#[cfg(feature = "faults")]
pub fn set_up() {
    // For the life of the process: nobody takes the points down again.
    std::mem::forget(fail::FailScenario::setup());
}

#[cfg(not(feature = "faults"))]
pub const fn set_up() {}
