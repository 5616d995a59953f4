//! The tools, driven by the SDK's client against the real server over a database of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so, in its fixtures too")]

mod approvals;
mod create;
mod isolation;
mod matrix;
mod outcome;
mod policy;
mod push;
mod reading;
mod rehearse;
mod rest;
mod runs;
mod standing;
mod support;
mod surface;
