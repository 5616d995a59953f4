//! Ordinaut's MCP server as a library, so that tests can drive its parts.
//!
//! It reads and writes the store and never runs a pipeline. Modules import downward only:
//! `error`, `principal` ← `backend` ← `bring_up`, `tools` ← `server` ← `http`, `sse`, `stdio` ← the binary.
//!
//! - [`config`]: what the operator decides, read once, printed redacted
//! - [`principal`]: who is calling, and what they may do
//! - [`surface`]: what of the tools a server offers
//! - `turns`: whose call works next, so that one agent's crowd does not keep the others waiting
//! - [`error`]: refusals that a model can act on, and faults that it cannot
//! - [`backend`]: the services behind the server, which may still be starting
//! - [`bring_up`]: how they come up
//! - [`server`]: the MCP server itself, the same on every transport
//! - `guide`: how tasks are written, told to models; `hints`: texts that name tools, without those that are hidden
//! - `tools`: what an assistant can ask for; `resources`, `prompts`: what it can read, and how a person may begin
//! - `changes`: what changes, from the event stream and PostgreSQL; `subscriptions`: who asked to be told
//! - `approvals`: the page behind an approval's link
//! - [`auth`], [`guard`]: what an HTTP request must show before it reaches a transport
//! - `request_id`: what a request is called by, in logs, the audit log and internal errors
//! - [`quota`]: how many sessions there may be, and how fast they may be opened
//! - [`streamable`], [`sse`], [`stdio`]: the transports
//! - [`http`]: the HTTP application, and its orderly end
//! - `conformance`, in builds with that feature: fixtures of the official conformance suite
//! - [`telemetry`]: metrics for Prometheus; logs and traces are `ordinaut_telemetry`'s

mod approvals;
pub mod auth;
pub mod backend;
pub mod bring_up;
mod changes;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
pub mod guard;
mod guide;
mod hints;
pub mod http;
pub mod principal;
mod prompts;
pub mod quota;
mod request_id;
mod resources;
pub mod server;
pub mod sse;
pub mod stdio;
pub mod streamable;
mod subscriptions;
pub mod surface;
pub mod telemetry;
mod tools;
mod turns;
