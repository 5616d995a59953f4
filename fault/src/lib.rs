//! The fault lab: the real programs over private servers, disturbed on purpose, and judged by what they left behind.
//!
//! A *fault* (`faults/<name>.rs`) is a workload, a disturbance, a wait until nothing is due or in flight, and a look.
//! What is looked at are histories that the programs cannot embellish: what a sink outside saw ([`sink`]), what triggers
//! in the lab's own database saw ([`witness`]), what an MCP call answered ([`client`]), and which occurrences there had
//! to be, by arithmetic that shares nothing with the project's schedules ([`expected`]). The [`checker`] is pure: it is
//! given these histories and answers what is wrong with them, so that each of its judgements is tested on histories made
//! up to be wrong. No fault is called passed because nothing crashed.
//!
//! - [`lab`]: private servers, a database with witnesses, a directory; [`fleet`]: executors as processes
//! - [`link`]: a proxy before PostgreSQL that cuts, delays and falls silent
//! - [`workload`]: tasks that are acknowledged over MCP, and what they must lead to
//! - [`histories`]: what is judged; [`report`]: the table and the JSON lines
//! - [`faults`]: one file each; [`soak`]: many of them on one set of programs, and what may not grow meanwhile

pub mod checker;
pub mod client;
pub mod clock;
pub mod expected;
pub mod faults;
pub mod fleet;
pub mod histories;
pub mod lab;
pub mod link;
pub mod report;
pub mod sink;
pub mod soak;
pub mod witness;
pub mod workload;
