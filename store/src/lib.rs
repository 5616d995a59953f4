//! All of Ordinaut's SQL, and the only place where a lease is checked.
//!
//! [`Store`] is a pool of connections in one role, and a set of verbs on it: one module per group, which share
//! rows and never call each other except through a transaction passed in. Nothing is mocked behind it.
//!
//! - asked: [`tasks`], [`runs`], [`inbound`] (events), [`agents`], [`inbox`], [`catalog`]
//! - due: [`planning`] (occurrences become runs), [`admission`] (keys), [`claims`] (runs become attempts)
//! - done: [`journal`], [`conclusions`], [`recovery`]
//! - told: [`outbox`], [`wakeups`], `audit`
//! - kept: [`retention`], [`executors`], `restored` (rows of another cluster)
//! - served: [`embedded`], the private PostgreSQL and Redis; `testing`, fresh databases for tests

pub mod admission;
pub mod agents;
mod audit;
pub mod catalog;
pub mod claims;
pub mod conclusions;
mod connection;
pub mod embedded;
pub mod error;
pub mod executors;
mod failures;
pub mod inbound;
pub mod inbox;
pub mod journal;
pub mod outbox;
pub mod planning;
pub mod recovery;
mod requests;
mod restored;
pub mod retention;
pub mod runs;
mod skips;
pub mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wakeups;

pub use connection::{Caller, Role, Settings, Store, migrate};
pub use error::StoreError;
