//! Runs that wait: for an instant, a person, another run. The whole daemon, against PostgreSQL and Redis.

mod approvals;
mod sub_runs;
mod waits;
