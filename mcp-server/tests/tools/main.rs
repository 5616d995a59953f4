//! The tools, driven by the SDK's client against the real server over a database of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so, in its fixtures too")]

mod approvals;
mod beside;
mod contract;
mod create;
mod isolation;
mod listing;
mod matrix;
mod outcome;
mod outputs;
mod person;
mod policy;
mod push;
mod quoted;
mod reading;
mod rehearse;
mod rest;
mod revoked;
mod round_trips;
mod runs;
mod standing;
mod support;
mod surface;
mod woken;
mod zones;
