//! Runs: started, listed, read, retried, stopped.

mod ask;
mod read;
mod wait;

use super::{Adding, add_tool};

pub(super) use self::read::run_by_id;

pub(super) fn add(group: &mut Adding<'_>) {
    add_tool(group, ask::run_now_spec(), ask::run_now);
    add_tool(group, ask::retry_spec(), ask::retry_run);
    add_tool(group, ask::cancel_spec(), ask::cancel_run);
    add_tool(group, read::list_spec(), read::list_runs);
    add_tool(group, read::get_spec(), read::get_run);
}
