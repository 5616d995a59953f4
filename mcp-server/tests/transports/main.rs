//! The transports with real clients: what they let in, how they speak, how they end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so, in its fixtures too")]

mod crowd;
mod drain;
mod exposure;
mod guard;
mod hostile;
mod idle;
mod leaving;
mod pace;
mod request_ids;
mod served;
mod slow;
mod sse;
mod stdio;
mod streamable;
mod support;
mod tls;
mod wire;
