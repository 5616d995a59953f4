//! stub
use crate::server::OrdinautServer;
use rmcp::handler::server::router::tool::ToolRouter;
pub(super) fn add(_router: &mut ToolRouter<OrdinautServer>) {}
