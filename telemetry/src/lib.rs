//! How Ordinaut's programs tell of themselves: logs on stderr, and traces by OTLP where an operator wants them.
//!
//! Metrics are each daemon's own; what is here must be the same in all of them: how a log line looks, and how a trace
//! is carried from one to the next. Nothing here knows of tasks, and nothing but names and ids belongs in a span:
//! no payload, no secret, no text that came from a step.
//!
//! - [`logs`]: the form of logs, colours only for people
//! - [`start`]: logs and traces begun, and [`Telemetry`], which ends them
//! - [`span`]: spans and what carries them between processes
//! - `client`: the way to the collector

mod client;
pub mod logs;
pub mod span;
mod start;

pub use logs::{LogFormat, colours};
pub use start::{Settings, Telemetry, TelemetryError, Traces, start};
