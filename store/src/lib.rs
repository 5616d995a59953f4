//! All of Ordinaut's SQL, and the only place where a lease is checked.
//!
//! [`Store`] is a pool of connections in one role, and a set of verbs on it: one module per group, which share
//! rows and never call each other except through a transaction passed in. What only reads is a verb on a [`View`].
//! Nothing is mocked behind it.
//!
//! - asked: [`tasks`], [`runs`], [`inbound`] (events), [`agents`], [`inbox`], [`catalog`], [`approvals`],
//!   `operator` (what it offers)
//! - kept for calls: [`secrets`]
//! - due: [`planning`] (occurrences become runs), [`admission`] (keys), `duplicates`, [`budgets`],
//!   [`claims`] (runs become attempts)
//! - done: [`journal`], [`conclusions`], [`recovery`], `waking` (parked runs)
//! - told: [`outbox`], [`wakeups`], [`escalations`], [`versions`], `audit`; `afterwards`, what is left to do after a commit
//! - unanswered: `unanswered`, limits and what becomes of the connections
//! - kept: [`retention`], [`executors`], `migrations`, `restored` (rows of another cluster)
//! - served: [`embedded`], the private PostgreSQL and Redis; `testing`, fresh databases for tests;
//!   [`faults`], where tests end a process

pub mod admission;
mod afterwards;
pub mod agents;
pub mod approvals;
mod audit;
pub mod budgets;
pub mod catalog;
pub mod claims;
pub mod conclusions;
mod connection;
#[cfg(test)]
mod cut_off;
mod duplicates;
pub mod embedded;
pub mod error;
pub mod escalations;
pub mod executors;
mod failures;
pub mod faults;
pub mod inbound;
pub mod inbox;
pub mod journal;
mod migrations;
mod operator;
pub mod outbox;
pub mod planning;
pub mod recovery;
pub mod requests;
mod restored;
pub mod retention;
pub mod runs;
pub mod secrets;
mod skips;
pub mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
mod unanswered;
pub mod versions;
mod view;
pub mod wakeups;
mod waking;

pub use connection::{Caller, Role, Settings, Store};
pub use error::StoreError;
pub use migrations::{Compared, compare_migrations, migrate};
pub use view::View;
