//! `ordinaut-store` against real servers: one program, because each links everything anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where, and is its own edge")]

mod admission;
mod agents;
mod approvals;
mod budgets;
mod catalog;
mod claims;
mod deadlocks;
mod duplicates;
mod edits;
mod embedded;
mod inbound;
mod inbox;
mod migrations;
mod operator;
mod outbox;
mod plain_ends;
mod planning;
mod plans;
mod policies;
mod renewals;
mod requests;
mod retention;
mod row_security;
mod runs;
mod secrets;
mod sub_runs;
mod tasks;
mod views;
mod wakeups;
