//! The executor: plans what is due, claims it, runs pipelines, relays events.
//!
//! Modules import downward only:
//!
//! - [`config`]; [`clock`], [`metrics`], `traces`, [`progress`]: the database's clock, what is counted, what is traced,
//!   what is told as it happens
//! - [`operator`]: what the operator configured, read again when it changes
//! - [`actions`]: what a step may do to the world, one file each
//! - [`pipeline`]: the engine: walks a pipeline from its journal
//! - `revisions`: definitions that were read before
//! - [`worker`]: claims runs and carries each through one attempt
//! - its siblings: [`scheduler`] and [`hints`] (what is due, and when to look), [`recovery`] (of executors that are
//!   gone), [`escalation`] (of messages nobody reads), [`events`] (to and from Redis), [`tools`] (what MCP servers offer), [`telemetry`], [`health`]
//! - [`daemon`]: brings all of them up and takes them down

pub mod actions;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod escalation;
pub mod events;
pub mod health;
pub mod hints;
pub mod metrics;
pub mod operator;
pub mod pipeline;
pub mod progress;
pub mod recovery;
mod revisions;
pub mod scheduler;
pub mod telemetry;
pub mod tools;
mod traces;
pub mod worker;
