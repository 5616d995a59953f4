//! `ordinaut-executor` against real servers: one program, because each links everything anew.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    unreachable_pub,
    reason = "a test that cannot go on says where, and is its own edge"
)]

mod daemon;
mod faults;
mod http_action;
mod mcp_action;
mod model;
mod operator;
mod parking;
mod poison;
mod relay;
mod secrets;
mod support;
mod unanswered;
