//! The MCP server itself: the same on every transport.
//!
//! It is cheap to clone, because the SDK makes one for every session and every stateless request; what is shared
//! hangs on one `Arc`, the tool router with it (the macro's default would rebuild it on every call).

use std::{borrow::Cow, sync::Arc};

use axum::http::request::Parts;
use ordinaut_schema::{task::ZoneSource, time::Zone};
use ordinaut_store::Store;
use ordinaut_telemetry::span;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    handler::server::{
        router::tool::ToolRouter,
        tool::{IntoCallToolResult as _, ToolCallContext},
    },
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
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, field::Empty, info_span};

use crate::{
    backend::{Backend, READY_TIMEOUT, Services},
    changes::Changes,
    error::ToolError,
    principal::{Principal, Scope},
    prompts, resources,
    subscriptions::{self, Session},
    surface::Surface,
    telemetry::Metrics,
    tools::{self, Table},
};

mod instructions;

/// Ordinaut over MCP.
#[derive(Debug, Clone)]
pub struct OrdinautServer {
    shared: Arc<Shared>,
    /// Who listens here: a session's own, never another's.
    session: Arc<Session>,
    caller: Caller,
    drain: Option<CancellationToken>,
    revisions: &'static [ProtocolVersion],
}

#[derive(Debug, Clone)]
struct Shared {
    backend: Backend,
    changes: Changes,
    metrics: Metrics,
    zone: Option<String>,
    zones: Zones,
    tools: Table,
    #[cfg(feature = "conformance")]
    fixtures: Option<crate::conformance::Fixtures>,
}

/// The zones of tasks whose definition and agent name none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    /// `ORDINAUT_TIMEZONE`.
    pub configured: Option<Zone>,
    /// This machine's, for whoever sits at it.
    pub machine: Option<Zone>,
}

impl Zones {
    /// What the operator wrote comes before what the machine happens to be set to.
    pub(crate) fn default_for(&self, local: bool) -> Option<(Zone, ZoneSource)> {
        let configured = self.configured.clone().map(|zone| (zone, ZoneSource::Configuration));
        let machine = || self.machine.clone().filter(|_| local).map(|zone| (zone, ZoneSource::Machine));
        configured.or_else(machine)
    }
}

impl From<Option<&str>> for Zones {
    /// A configured zone by its name; names are checked when the configuration is read.
    fn from(configured: Option<&str>) -> Self {
        Self { configured: configured.and_then(Zone::find), machine: None }
    }
}

/// Whom a request is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Whoever started the process: the local agent.
    Local,
    /// Whoever the guard says, in each request's extensions.
    Guarded,
}

impl OrdinautServer {
    fn new(backend: Backend, metrics: Metrics, zones: Zones, caller: Caller) -> Self {
        let zone = zones.default_for(caller == Caller::Local).map(|(zone, _)| zone);
        let changes = Changes::new(backend.clone());
        metrics.watch_followers(changes.clone());
        let shared = Shared {
            backend,
            changes,
            metrics,
            zone: zone.as_ref().map(|zone| zone.name().to_owned()),
            zones,
            tools: tools::table(Surface::default()),
            #[cfg(feature = "conformance")]
            fixtures: None,
        };
        Self {
            shared: Arc::new(shared),
            session: Arc::default(),
            caller,
            drain: None,
            revisions: ProtocolVersion::KNOWN_VERSIONS,
        }
    }

    /// For stdio: every call is the local agent's.
    pub fn local(backend: Backend, metrics: Metrics, zones: impl Into<Zones>) -> Self {
        Self::new(backend, metrics, zones.into(), Caller::Local)
    }

    /// For HTTP: a call without a principal is refused.
    pub fn guarded(backend: Backend, metrics: Metrics, zones: impl Into<Zones>) -> Self {
        Self::new(backend, metrics, zones.into(), Caller::Guarded)
    }

    /// The same server with only what the operator wants offered; before [`OrdinautServer::with_tools`].
    #[must_use]
    pub fn offering(mut self, surface: Surface) -> Self {
        Arc::make_mut(&mut self.shared).tools = tools::table(surface);
        self
    }

    /// The same server with further tools: fixtures of tests and of the conformance suite.
    #[must_use]
    pub fn with_tools(mut self, tools: ToolRouter<Self>) -> Self {
        Arc::make_mut(&mut self.shared).tools.merge(tools);
        self
    }

    /// The same server with the fixtures of the conformance suite, on Streamable HTTP.
    #[cfg(feature = "conformance")]
    #[must_use]
    pub(crate) fn with_fixtures(mut self, fixtures: crate::conformance::Fixtures) -> Self {
        Arc::make_mut(&mut self.shared).fixtures = Some(fixtures);
        self
    }

    #[cfg(feature = "conformance")]
    pub(crate) fn fixtures(&self) -> Option<&crate::conformance::Fixtures> {
        self.shared.fixtures.as_ref()
    }

    /// The same server, whose clients are told when it takes nothing more.
    #[must_use]
    pub(crate) fn drained_by(self, drain: CancellationToken) -> Self {
        Self { drain: Some(drain), ..self }
    }

    /// The same server for another session, which follows nothing yet and ends with its last clone.
    #[must_use]
    pub fn for_session(&self) -> Self {
        Self { session: Arc::default(), ..self.clone() }
    }

    /// The same server for a transport that has no revision after `newest`.
    #[must_use]
    pub(crate) fn up_to(mut self, newest: &ProtocolVersion) -> Self {
        self.revisions = ProtocolVersion::known_up_to(newest);
        self
    }

    /// Whom this request is from.
    ///
    /// # Errors
    /// A request that did not come past the guard.
    pub fn principal(&self, context: &RequestContext<RoleServer>) -> Result<Principal, ToolError> {
        match self.caller {
            Caller::Local => Ok(Principal::local()),
            Caller::Guarded => context
                .extensions
                .get::<Parts>()
                .and_then(|parts| parts.extensions.get::<Principal>())
                .cloned()
                .ok_or_else(|| ToolError::Fault("a request came past the guard without a principal".into())),
        }
    }

    /// The caller, if its token allows `scope`.
    ///
    /// # Errors
    /// As [`OrdinautServer::principal`], and the scope is missing.
    pub fn principal_with(&self, context: &RequestContext<RoleServer>, scope: Scope) -> Result<Principal, ToolError> {
        let principal = self.principal(context)?;
        if principal.may(scope) { Ok(principal) } else { Err(ToolError::scope_missing(scope)) }
    }

    /// What a client is told at first: of no tool that it is not shown.
    fn instructions(&self, principal: &Principal) -> String {
        instructions::text(self.shared.zone.as_deref(), |text| self.shared.tools.may_read(principal, text))
    }

    /// Whether the operator offers a tool.
    pub(crate) fn offers(&self, tool: &str) -> bool {
        self.shared.tools.router().has_route(tool)
    }

    /// Whether a request's principal sees a tool; without a principal none is seen.
    pub(crate) fn shows(&self, context: &RequestContext<RoleServer>, tool: &str) -> bool {
        self.principal(context).is_ok_and(|principal| self.shared.tools.sees(&principal, tool))
    }

    /// Whether a text tells a request's principal of no tool that it does not see.
    pub(crate) fn may_read(&self, context: &RequestContext<RoleServer>, text: &str) -> bool {
        self.principal(context).is_ok_and(|principal| self.shared.tools.may_read(&principal, text))
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.shared.changes
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn zones(&self) -> &Zones {
        &self.shared.zones
    }

    /// The services, if they run at this moment.
    pub(crate) fn services_now(&self) -> Option<Services> {
        self.shared.backend.now().ok()
    }

    /// The store, and who reads it for this request, if it may.
    ///
    /// # Errors
    /// As [`OrdinautServer::principal_with`] and [`OrdinautServer::services`].
    pub(crate) async fn reader(
        &self,
        context: &RequestContext<RoleServer>,
    ) -> Result<(Store, ordinaut_store::Caller), ToolError> {
        let principal = self.principal_with(context, Scope::TaskRead)?;
        let store = self.services().await?.store;
        let agent = principal.agent;
        Ok((store, ordinaut_store::Caller { agent, ..ordinaut_store::Caller::local(&principal.label) }))
    }

    /// Ends when this server takes nothing more.
    pub(crate) async fn drained(&self) {
        match &self.drain {
            Some(drain) => drain.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The services behind the tools, waited for.
    ///
    /// # Errors
    /// They are not up in time.
    pub async fn services(&self) -> Result<Services, ToolError> {
        Ok(self.shared.backend.ready(READY_TIMEOUT).await?)
    }
}

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
            return refusal.into_call_tool_result();
        }
        let known = self.shared.tools.router().has_route(&request.name);
        let name = if known { request.name.to_string() } else { "unknown".to_owned() };
        let span = call_span(&name, &context);
        let result = self
            .shared
            .tools
            .router()
            .call(ToolCallContext::new(self, request, context))
            .instrument(span.clone())
            .await;
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
        resources::list(self, request.and_then(|request| request.cursor), context).await
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
        resources::read(self, &request.uri, context).await.map(Into::into)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        subscriptions::subscribe(self, &request.uri, context).await
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
        subscriptions::listen(self, &context).await
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
