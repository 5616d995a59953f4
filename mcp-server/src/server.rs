//! The MCP server itself: the same on every transport.
//!
//! It is cheap to clone, because the SDK makes one for every session and every stateless request; what is shared
//! hangs on one `Arc`, the tool router with it (the macro's default would rebuild it on every call).

use std::{sync::Arc, time::Duration};

use axum::http::request::Parts;
use ordinaut_schema::{id::AgentId, task::ZoneSource, time::Zone};
use ordinaut_store::Store;
use rmcp::{RoleServer, handler::server::router::tool::ToolRouter, model::ProtocolVersion, service::RequestContext};
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{Backend, READY_TIMEOUT, Services},
    changes::Changes,
    error::ToolError,
    principal::{Principal, Scope},
    subscriptions::Session,
    surface::Surface,
    telemetry::Metrics,
    tools::{self, Listings, Table},
    turns::{Turn, Turns},
};

mod handler;
mod instructions;

/// How long a call waits for its turn, unless the operator says otherwise: most clients give up after a minute.
const TURN_TIMEOUT: Duration = Duration::from_secs(45);

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
    turns: Turns,
    turn_timeout: Duration,
    metrics: Metrics,
    zone: Option<String>,
    zones: Zones,
    tools: Table,
    listings: Arc<Listings>,
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
            turns: Turns::default(),
            turn_timeout: TURN_TIMEOUT,
            metrics,
            zone: zone.as_ref().map(|zone| zone.name().to_owned()),
            zones,
            tools: tools::table(Surface::default()),
            listings: Arc::default(),
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

    /// The same server, which looks at what is followed so often, whether it was told of a change or not.
    #[must_use]
    pub fn looking_every(self, interval: Duration) -> Self {
        self.shared.changes.look_every(interval);
        self
    }

    /// The same server, whose calls wait so long for their turn.
    #[must_use]
    pub fn waiting(mut self, turn_timeout: Duration) -> Self {
        Arc::make_mut(&mut self.shared).turn_timeout = turn_timeout;
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

    /// What the tools that a request's principal sees answer, as JSON Schemas.
    ///
    /// # Errors
    /// As [`OrdinautServer::principal`].
    pub(crate) fn outputs(&self, context: &RequestContext<RoleServer>) -> Result<Value, ToolError> {
        self.principal(context).map(|principal| self.shared.tools.outputs(&principal))
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.shared.changes
    }

    pub(crate) fn listings(&self) -> &Listings {
        &self.shared.listings
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

    /// The store, and who reads it for this request, if it may; while it is the caller's turn.
    ///
    /// # Errors
    /// As [`OrdinautServer::principal_with`], [`OrdinautServer::services`] and [`OrdinautServer::turn`].
    pub(crate) async fn reader(
        &self,
        context: &RequestContext<RoleServer>,
    ) -> Result<(Store, ordinaut_store::Caller, Turn), ToolError> {
        let principal = self.principal_with(context, Scope::TaskRead)?;
        let store = self.services().await?.store;
        let agent = principal.agent;
        let turn = self.turn(context, agent).await?;
        Ok((store, ordinaut_store::Caller { agent, ..ordinaut_store::Caller::local(&principal.label) }, turn))
    }

    /// The agent's turn to ask the database, waited for.
    ///
    /// # Errors
    /// It did not come in time, or the caller has given up.
    pub(crate) async fn turn(&self, context: &RequestContext<RoleServer>, agent: AgentId) -> Result<Turn, ToolError> {
        let waiting = timeout(self.shared.turn_timeout, self.shared.turns.take(agent));
        let why = match context.ct.run_until_cancelled(waiting).await {
            Some(Ok(turn)) => return Ok(turn),
            Some(Err(_elapsed)) => "too many calls were asked of this server at once; nothing was done",
            None => "the call was given up before its turn; nothing was done",
        };
        Err(ToolError::refused("busy", why, "Call again in a minute."))
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
