//! The tools, driven by the SDK's client against the real server over a database of the test's own.

mod create;
mod isolation;
mod policy;
mod rest;
mod runs;
mod standing;
mod support;
