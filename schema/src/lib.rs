//! Ordinaut's pure core: no I/O, no clock, no async.
//!
//! Everything that can be decided without looking at the world is decided here; `store`, `executor`,
//! `mcp-server` and `cli` act on what this crate returns. Modules import downward only:
//!
//! - [`id`], [`time`], [`fault`], [`limits`], [`visible`]: the words everything else is written in
//! - [`schedule`]: what a schedule yields, as `next_after`, normalised form and plain English
//! - [`secret`]: what secrets may be called, where they may go, and how their values are taken out of answers
//! - [`budget`]: what a task or an agent may use, and what is left of it
//! - [`template`], [`condition`]: `${…}` and `if`
//! - [`action`]: what a step may `use`, described
//! - [`operator`]: what the operator configures for steps to name
//! - [`pipeline`], [`retry`]: steps, parsed and checked
//! - [`task`]: a whole definition, from untrusted text to [`task::TaskSpec`]
//! - [`rehearsal`]: what the steps of a task would do, shown without doing it
//! - [`planning`]: what becomes of a task's occurrences up to now
//! - [`run`], [`event`]: states, verdicts, and what is told about them

pub mod action;
pub mod budget;
pub mod condition;
pub mod event;
pub mod fault;
mod fields;
pub mod id;
mod json_schema;
pub mod limits;
pub mod operator;
pub mod pipeline;
pub mod planning;
pub mod rehearsal;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod task;
pub mod template;
pub mod time;
pub mod visible;
