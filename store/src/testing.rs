//! Fixtures for the tests of every crate: a database, and a Redis database, of a test's own.
//!
//! nextest runs each test in its own process, and starting servers for each would cost a second. So the first test
//! process of a target directory starts one pair, detached, and the others find it. Every process leaves its number
//! in `leases/`; a small watcher ends the servers and removes their files half a minute after the last one ended in
//! whatever way. `ORDINAUT_TEST_DATABASE_URL` and `ORDINAUT_TEST_REDIS_URL` name servers to use instead.
//!
//! The shared pair is fast and forgets everything in a crash. A test that kills its servers, or that is about
//! durability, takes [`PrivateServers`].

#![expect(
    clippy::disallowed_methods,
    reason = "fixtures are the edge of a test program: they read its environment and wait in threads"
)]

mod clock;
mod database;
mod fixture;
mod private;
mod servers;

pub use clock::ServerClock;
pub use database::{Cursor, Database, EndedRun, database};
pub use fixture::*;
pub use private::PrivateServers;
pub use servers::Servers;

/// Gives the calling test a Redis of its own, empty: a numbered database of the shared server.
pub async fn redis_url() -> String {
    Servers::shared().await.fresh_redis_url().await
}
