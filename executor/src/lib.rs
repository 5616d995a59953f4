//! The executor: plans what is due, claims it, runs pipelines, relays events.
//!
//! Modules import downward only:
//!
//! - [`clock`], [`metrics`], [`progress`]: the database's clock, what is counted, what is told as it happens
//! - [`actions`]: what a step may do to the world, one file each
//! - [`pipeline`]: the engine: walks a pipeline from its journal
//! - [`worker`]: claims runs and carries each through one attempt

pub mod actions;
pub mod clock;
pub mod metrics;
pub mod pipeline;
pub mod progress;
pub mod worker;
