//! What clients say, and who answers: every method of the protocol that this server has.

use std::borrow::Cow;

use ordinaut_telemetry::span;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    handler::server::tool::ToolCallContext,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, DiscoverResult, GetPromptRequestParams, GetPromptResponse,
        Implementation, InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult,
        ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
        ReadResourceResponse, ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter, Tool,
        UnsubscribeRequestParams,
    },
    service::{RequestContext, SubscriptionContext},
};
use tokio::time::Instant;
use tracing::{Instrument as _, Span, field::Empty, info_span};

use crate::{
    principal::Principal,
    prompts,
    request_id::{RequestId, answering},
    resources, subscriptions, tools,
};

use super::OrdinautServer;

impl ServerHandler for OrdinautServer {
    fn get_info(&self) -> ServerConfig {
        let mut can = ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build();
        let resources = can.resources.get_or_insert_default();
        resources.subscribe = Some(true);
        resources.list_changed = Some(true);
        ServerConfig::new(can)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
            .with_server_info(Implementation::new("ordinaut", env!("CARGO_PKG_VERSION")).with_title("Ordinaut"))
            .with_instructions(self.instructions(&Principal::with_every_scope()))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(self.revisions)
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut result = self.negotiate_initialize(&request)?;
        if let Ok(principal) = self.principal(&context) {
            result.instructions = Some(self.instructions(&principal));
        }
        // Older revisions ask nobody whether they want to hear of lists: each open chat would keep the reader busy.
        if let Some(resources) = &mut result.capabilities.resources {
            resources.list_changed = None;
        }
        Ok(result)
    }

    async fn discover(&self, context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let mut about = self.get_info();
        if let Ok(principal) = self.principal(&context) {
            about.instructions = Some(self.instructions(&principal));
        }
        Ok(DiscoverResult::from_server_info(self.supported_protocol_versions().into_owned(), about))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let principal = self.principal(&context).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let mut result = ListToolsResult::with_all_items(self.shared.tools.seen_by(&principal));
        if context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28) {
            result.ttl_ms = Some(0);
            // A token's scopes decide what is listed.
            result.cache_scope = Some(CacheScope::Private);
        }
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let started_at = Instant::now();
        if let Some(refusal) = self.shared.tools.withheld(&request.name) {
            return Ok(tools::refused(self, refusal).into());
        }
        let known = self.shared.tools.router().has_route(&request.name);
        let name = if known { request.name.to_string() } else { "unknown".to_owned() };
        let span = call_span(&name, &context);
        let id = RequestId::of(&context);
        let calling = self.shared.tools.router().call(ToolCallContext::new(self, request, context));
        let result = answering(id, Box::pin(calling.instrument(span.clone()))).await;
        let outcome = outcome(&result);
        span.record("outcome", outcome);
        self.shared.metrics.called(&name, outcome, started_at.elapsed());
        result
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        answering(RequestId::of(&context), Box::pin(resources::list(self, cursor, context))).await
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates(self, &context)))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        answering(RequestId::of(&context), Box::pin(resources::read(self, &request.uri, context))).await.map(Into::into)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        answering(RequestId::of(&context), Box::pin(subscriptions::subscribe(self, &request.uri, context))).await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.session.unsubscribe(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(subscriptions::accepted(requested))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        answering(RequestId::of(context.request_context()), Box::pin(subscriptions::listen(self, &context))).await
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompts::all(|text| self.may_read(&context, text))))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let may_read = |text: &str| self.may_read(&context, text);
        prompts::get(&request.name, request.arguments.unwrap_or_default(), may_read).map(Into::into)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.tools.router().get(name).cloned()
    }
}

/// A call's span: part of the client's trace, where the client says which.
fn call_span(tool: &str, context: &RequestContext<RoleServer>) -> Span {
    let span = info_span!(
        target: span::TARGET,
        "tools/call",
        otel.name = format!("tools/call {tool}"),
        otel.kind = "server",
        tool,
        outcome = Empty,
    );
    if let Some(traceparent) = context.meta.get_traceparent() {
        span::follow(&span, traceparent);
    }
    span
}

fn outcome(result: &Result<CallToolResponse, ErrorData>) -> &'static str {
    match result {
        Ok(CallToolResponse::Complete(result)) if result.is_error == Some(true) => "refused",
        Ok(_) => "answered",
        Err(_) => "error",
    }
}
