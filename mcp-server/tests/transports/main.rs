//! The transports with real clients: what they let in, how they speak, how they end.

mod drain;
mod guard;
mod sse;
mod stdio;
mod streamable;
mod support;
