//! The real programs, together: one program of tests, because each links everything anew.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that cannot go on says where, and is its own edge"
)]

mod approve;
mod claude_config;
mod commands;
mod configuration;
mod demo;
mod examples;
mod faults;
mod hostile;
mod operator;
mod pipelines;
mod races;
mod rehearse;
mod restore;
mod secrets;
mod service;
mod supervise;
mod support;
mod time;
mod token;
mod traces;
