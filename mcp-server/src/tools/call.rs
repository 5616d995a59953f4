//! One call of a tool: who asks, with what, and the services it is answered by.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use ordinaut_schema::{
    action::Catalogue,
    limits::Limits,
    task::{Acceptance, ZoneSource},
    time::{Zone, with_offset},
};
use ordinaut_store::{Caller, Store, View};
use rmcp::{
    RoleServer,
    model::{InputResponses, JsonObject},
    service::RequestContext,
};

use crate::{
    backend::{Embedded, Services},
    changes::Following,
    error::ToolError,
    principal::{Principal, Scope},
    request_id::RequestId,
    server::{OrdinautServer, Zones},
    turns::Turn,
};

use super::{Listings, arguments::Arguments, refusals::refuse};

const ONLY_WHILE_UP: &str = "Tasks run only while Ordinaut is up on this machine, and nothing starts it again after a \
                             restart; a person makes that permanent with `ordinaut service install`.";

/// A call before its services are there.
pub(super) struct Call {
    server: OrdinautServer,
    pub(super) context: RequestContext<RoleServer>,
    pub(super) arguments: Arguments,
    /// What a person filled in, where an earlier answer to this call asked for it.
    pub(super) input_responses: Option<InputResponses>,
    principal: Option<Principal>,
    clock: Clock,
    /// Held from the first question to the database, but for rests.
    turn: Mutex<Option<Turn>>,
}

/// A call with its services: the caller's view of the store.
pub(super) struct Desk {
    pub(super) store: Store,
    pub(super) caller: Caller,
    /// The database's clock.
    pub(super) now: Timestamp,
    /// The zone of tasks that name none, and why that one.
    pub(super) default_zone: Option<(Zone, ZoneSource)>,
    embedded: Option<Arc<Embedded>>,
}

/// The present as an answer says it.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    pub(super) zone: Zone,
}

impl Moment {
    /// RFC 3339 with offset, whole seconds.
    pub(super) fn text(&self) -> String {
        with_offset(whole_second(self.now), &self.zone)
    }
}

/// What a call learns of the present, for whoever answers it.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    told: Arc<OnceLock<Moment>>,
    zones: Zones,
}

impl Clock {
    pub(super) fn of(server: &OrdinautServer) -> Self {
        Self { told: Arc::new(OnceLock::new()), zones: server.zones().clone() }
    }

    /// The database's clock where the call got so far, else this machine's.
    pub(super) fn moment(&self) -> Moment {
        self.told.get().cloned().unwrap_or_else(|| {
            let zone = self.zones.default_for(true).map_or_else(Zone::utc, |(zone, _)| zone);
            Moment { now: machine_now(), zone }
        })
    }
}

/// Cut to the whole second.
pub(super) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[expect(clippy::disallowed_methods, reason = "answers that need no database are given while there is none")]
fn machine_now() -> Timestamp {
    Timestamp::now()
}

impl Call {
    pub(super) fn new(
        server: OrdinautServer,
        context: RequestContext<RoleServer>,
        arguments: Option<JsonObject>,
    ) -> Self {
        let clock = Clock::of(&server);
        let arguments = Arguments::new(arguments.unwrap_or_default().into_iter().collect());
        Self { server, context, arguments, input_responses: None, principal: None, clock, turn: Mutex::default() }
    }

    pub(super) fn from(mut self, principal: Principal) -> Self {
        self.principal = Some(principal);
        self
    }

    pub(super) fn answering(mut self, responses: Option<InputResponses>) -> Self {
        self.input_responses = responses;
        self
    }

    /// Whether the caller's token has a scope.
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.principal.as_ref().is_some_and(|principal| principal.may(scope))
    }

    /// Whether a text names no tool that the caller does not see.
    pub(super) fn may_read(&self, text: &str) -> bool {
        self.server.may_read(&self.context, text)
    }

    /// What was worked out of definitions before.
    pub(super) fn listings(&self) -> &Listings {
        self.server.listings()
    }

    /// The caller as people are told of it: its agent, and through what it came.
    pub(super) fn who(&self) -> String {
        self.principal.as_ref().map_or_else(String::new, |it| format!("{}/{}", it.name, it.label))
    }

    /// A follower of what changes, who sees what the caller sees; none where there are too many.
    pub(super) fn follow(&self, desk: &Desk) -> Option<Following> {
        self.server.changes().follow(desk.caller.agent).ok()
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The services, waited for, and then the caller's turn to ask them.
    pub(super) async fn desk(&self) -> Result<Desk, ToolError> {
        Ok(self.desk_of(self.server.services().await?).await?.0)
    }

    /// The services and what the caller sees of what is stored, for calls that only read: the question that every call
    /// begins with is not asked for itself.
    pub(super) async fn reading(&self) -> Result<(Desk, View), ToolError> {
        self.desk_of(self.server.services().await?).await
    }

    /// Waits for something that is not the database, and lets others have the turn meanwhile.
    pub(super) async fn rest<T>(&self, something: impl Future<Output = T>) -> T {
        drop(self.turn.lock().unwrap_or_else(PoisonError::into_inner).take());
        let come = something.await;
        // What was done before the rest is to be answered: out of turn, where the turn does not come.
        let _ = self.take_turn().await;
        come
    }

    async fn take_turn(&self) -> Result<(), ToolError> {
        if self.turn.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let agent = self.principal.as_ref().expect("a call is made on somebody's behalf").agent;
        let turn = self.server.turn(&self.context, agent).await?;
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
        Ok(())
    }

    /// The services if they are up, without waiting.
    pub(super) async fn desk_if_up(&self) -> Option<Desk> {
        match self.server.services_now() {
            Some(services) => self.desk_of(services).await.ok().map(|(desk, _view)| desk),
            None => None,
        }
    }

    /// The zone to use where a call names none and no service is needed.
    pub(super) fn machine_zone(&self) -> Option<(Zone, ZoneSource)> {
        let local = self.principal.as_ref().is_some_and(|principal| principal.agent == Caller::LOCAL_AGENT);
        self.server.zones().default_for(local)
    }

    /// The services, waited for as for a [`desk`](Self::desk), and on whose behalf they are asked.
    pub(super) async fn services(&self) -> Result<(Services, Caller), ToolError> {
        let services = self.server.services().await?;
        self.take_turn().await?;
        Ok((services, self.caller()))
    }

    fn caller(&self) -> Caller {
        let principal = self.principal.clone().expect("a call is made on somebody's behalf");
        let client = self.context.client_info().map(|client| client.name);
        let traceparent = ordinaut_telemetry::span::current();
        let http_request_id = RequestId::current().map(|id| id.to_string());
        Caller { agent: principal.agent, principal: principal.label, client, traceparent, http_request_id }
    }

    async fn desk_of(&self, services: Services) -> Result<(Desk, View), ToolError> {
        self.take_turn().await?;
        let caller = self.caller();
        let view = services.store.view(&caller).await.map_err(|error| refuse(error, None))?;
        let timezone = view.timezone().map_err(|error| refuse(error, None))?;
        let own = timezone.and_then(Zone::find).map(|zone| (zone, ZoneSource::Agent));
        let default_zone = own.or_else(|| self.server.zones().default_for(caller.agent == Caller::LOCAL_AGENT));
        let zone = default_zone.as_ref().map_or_else(Zone::utc, |(zone, _)| zone.clone());
        let now = view.now();
        // Told once: whoever asks twice in one call gets the first answer.
        self.clock.told.get_or_init(|| Moment { now, zone });
        Ok((Desk { store: services.store, caller, now, default_zone, embedded: services.embedded }, view))
    }
}

impl Desk {
    /// The zone in which instants without a task are shown and read.
    pub(super) fn zone(&self) -> Zone {
        self.default_zone.as_ref().map_or_else(Zone::utc, |(zone, _)| zone.clone())
    }

    /// What a definition of this caller's is judged against.
    pub(super) fn acceptance<'a>(&'a self, catalogue: &'a Catalogue) -> Acceptance<'a> {
        Acceptance {
            now: self.now,
            default_zone: self.default_zone.as_ref().map(|(zone, source)| (zone, *source)),
            catalogue,
            limits: &Limits::DEFAULT,
        }
    }

    /// What stands between a stored task and its runs.
    pub(super) async fn warnings(&self) -> Vec<String> {
        if let Some(set) = &self.embedded {
            // The set keeps its executor up; without a heartbeat the executor is only just starting.
            return if set.is_kept_up() { Vec::new() } else { vec![ONLY_WHILE_UP.to_owned()] };
        }
        match self.store.live_executors().await {
            Ok(executors) if executors.is_empty() => vec![
                "No executor is running at the moment, so nothing will run: a person starts one with `ordinaut up`."
                    .to_owned(),
            ],
            Ok(_) => Vec::new(),
            // The write is done; that nobody can say who will act on it is no reason to call it failed.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "executors cannot be listed");
                Vec::new()
            }
        }
    }
}
