//! The executor: plans what is due, claims it, runs pipelines, relays events.
//!
//! Modules import downward only:
//!
//! - [`actions`]: what a step may do to the world, one file each

pub mod actions;
