//! Runs that wait: for an instant, a person, another run. The whole daemon, against PostgreSQL and Redis.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on says so; definitions read better where they stand"
)]

#[expect(unreachable_pub, dead_code, reason = "fixtures: a test that cannot go on says so")]
#[path = "daemon/support.rs"]
mod support;

#[path = "parking/approvals.rs"]
mod approvals;
#[path = "parking/sub_runs.rs"]
mod sub_runs;
#[path = "parking/waits.rs"]
mod waits;
