//! Runs: started, listed, read, retried, stopped.

mod ask;
mod read;
mod wait;

use rmcp::handler::server::router::tool::ToolRouter;

use crate::server::OrdinautServer;

use super::add_tool;

pub(super) use self::read::run_by_id;

pub(super) fn add(router: &mut ToolRouter<OrdinautServer>) {
    add_tool(router, ask::run_now_spec(), ask::run_now);
    add_tool(router, ask::retry_spec(), ask::retry_run);
    add_tool(router, ask::cancel_spec(), ask::cancel_run);
    add_tool(router, read::list_spec(), read::list_runs);
    add_tool(router, read::get_spec(), read::get_run);
}
