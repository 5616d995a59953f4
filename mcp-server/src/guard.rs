//! What an HTTP request must show before it reaches a transport: one middleware over both.
//!
//! In this order: a `Host` this server answers to and an `Origin` it allows (a web page must not reach a server on
//! loopback through a rebound name), a bearer token, a pace its agent may keep, a body of bounded size that arrives in
//! bounded time. What passes carries its [`Principal`](crate::principal::Principal) in the extensions, and a stream that
//! answers it ends with its token. The SDK's own checks are off: they cover one transport only.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use ordinaut_schema::id::AgentId;
use tokio::time::Instant;

use crate::{
    auth::{Authenticate, Credential, Token},
    principal::Principal,
    telemetry::Metrics,
};

mod allow;
mod cors;
mod pace;
mod peer;
mod refusal;
mod told;
mod watch;

pub use allow::{Host, Origin};
pub use pace::Pace;
pub(crate) use peer::Peer;
pub(crate) use refusal::too_many;
pub(crate) use watch::{Held, is_stream};

use pace::Paces;
use peer::Neighbourhood;
use refusal::Refusal;
use told::Told;
use watch::Watch;

/// Refused tokens from one place, before others from there are refused unread: a chat with an old token is no attack.
const REFUSED_TOKENS: Pace = Pace { per_minute: 30, burst: 60 };
/// Agents, and places, whose pace is remembered at once.
const REMEMBERED: usize = 10_000;

/// What the guard lets through.
#[derive(Clone)]
pub struct Guard {
    rules: Arc<Rules>,
    tokens: Arc<dyn Authenticate>,
    memory: Arc<Memory>,
}

/// What the guard remembers of those that came.
#[derive(Debug)]
struct Memory {
    calls: Mutex<Paces<AgentId>>,
    refused_tokens: Mutex<Paces<Neighbourhood>>,
    watch: Watch,
    told: Told,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub struct Rules {
    /// Names that this server answers to.
    pub hosts: Vec<Host>,
    /// Web origins whose pages may call; a request without `Origin` does not come from a page.
    pub origins: Vec<Origin>,
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How fast one agent may call.
    pub calls: Pace,
    /// Whether a proxy of the operator's says whom a request is from.
    pub behind_proxy: bool,
}

impl Guard {
    pub fn new(rules: Rules, tokens: Arc<dyn Authenticate>, metrics: Metrics) -> Self {
        let memory = Memory {
            calls: Mutex::new(Paces::new(rules.calls, REMEMBERED)),
            refused_tokens: Mutex::new(Paces::new(REFUSED_TOKENS, REMEMBERED)),
            watch: Watch::default(),
            told: Told::new(metrics),
        };
        Self { rules: Arc::new(rules), tokens, memory: Arc::new(memory) }
    }

    /// Asks again about every token that keeps something open, and ends what it kept where it is good no more.
    pub(crate) async fn ask_again(&self) {
        self.memory.watch.ask_again(&*self.tokens).await;
    }
}

/// Whose name the request calls this server by: for routes without a principal.
pub(crate) async fn check_address(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.rules.check_address(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => guard.refuse(guard.peer(&request), refusal),
    }
}

/// For pages of this server's own: a form on them comes from themselves, or from nowhere that a browser would name.
pub(crate) async fn check_page(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.rules.check_page(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => guard.refuse(guard.peer(&request), refusal),
    }
}

/// All of it.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let peer = guard.peer(&request);
    if let Err(refusal) = guard.rules.check_address(request.uri(), request.headers()) {
        return guard.refuse(peer, refusal);
    }
    let page = request.headers().get(header::ORIGIN).cloned();
    // A browser asks before it sends the token, so the question has none.
    if request.method() == Method::OPTIONS && page.is_some() {
        return cors::allow(page, StatusCode::NO_CONTENT.into_response());
    }
    let response = match guard.admit(request, peer).await {
        Ok((request, held)) => held.bound(next.run(request).await),
        Err(refusal) => guard.refuse(peer, refusal),
    };
    cors::allow(page, response)
}

impl Guard {
    async fn admit(&self, request: Request, peer: Option<Peer>) -> Result<(Request, Held), Refusal> {
        let token = match Credential::of(request.headers()) {
            Credential::Bearer(token) => token,
            Credential::Absent => return Err(Refusal::TokenMissing),
            Credential::Malformed => return Err(Refusal::TokenMalformed),
        };
        let principal = self.identify(&token, peer.map(Peer::neighbourhood)).await?;
        self.count_call(principal.agent)?;
        let mut request = self.rules.receive(request).await?;
        // From here on nobody has it: what is asked of others in this request's name cannot carry it along.
        request.headers_mut().remove(header::AUTHORIZATION);
        let held = self.memory.watch.hold(token, Instant::now());
        request.extensions_mut().insert(principal);
        request.extensions_mut().insert(held.clone());
        Ok((request, held))
    }

    async fn identify(&self, token: &Token, from: Option<Neighbourhood>) -> Result<Principal, Refusal> {
        let refused = || self.memory.refused_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = token.digest();
        // Others who come from there, and were let in before, are none the worse for it.
        if let Some(from) = &from
            && !self.memory.watch.remembers(&digest)
        {
            refused().look(from, Instant::now()).map_err(Refusal::TooManyTokens)?;
        }
        if let Some(principal) = self.tokens.authenticate(token.clone()).await? {
            return Ok(principal);
        }
        if let Some(from) = from {
            refused().take(from, Instant::now()).map_err(Refusal::TooManyTokens)?;
        }
        Err(Refusal::TokenInvalid(digest))
    }

    fn count_call(&self, agent: AgentId) -> Result<(), Refusal> {
        let mut calls = self.memory.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = self.rules.calls;
        calls.take(agent, Instant::now()).map_err(|wait| Refusal::TooManyCalls { pace, wait })
    }

    fn peer(&self, request: &Request) -> Option<Peer> {
        Peer::of(request.extensions(), request.headers(), self.rules.behind_proxy)
    }

    fn refuse(&self, peer: Option<Peer>, refusal: Refusal) -> Response {
        self.memory.told.tell(&refusal, peer, Instant::now());
        refusal.into_response()
    }
}

impl Rules {
    fn check_page(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = self.check_host(uri, headers)?;
        for origin in headers.get_all(header::ORIGIN) {
            let text = String::from_utf8_lossy(origin.as_bytes());
            let from = text.split_once("://").and_then(|(_scheme, authority)| Host::parse(authority));
            if from.as_ref() != Some(&host) {
                return Err(Refusal::Origin(text.into_owned()));
            }
        }
        Ok(())
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<Host, Refusal> {
        // HTTP/2 has the name in `:authority`, which is the URI's.
        let host = match headers.get(header::HOST) {
            Some(value) => value.to_str().ok().and_then(Host::parse),
            None => uri.authority().and_then(|authority| Host::parse(authority.as_str())),
        };
        let host = host.ok_or(Refusal::HostMissing)?;
        if !self.hosts.iter().any(|allowed| allowed.covers(&host)) {
            return Err(Refusal::Host(host.to_string()));
        }
        Ok(host)
    }

    fn check_address(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check_host(uri, headers)?;
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(value), None) if self.allows_origin(value) => Ok(()),
            (Some(value), _) => Err(Refusal::Origin(String::from_utf8_lossy(value.as_bytes()).into_owned())),
        }
    }

    fn allows_origin(&self, value: &HeaderValue) -> bool {
        let origin = value.to_str().ok().and_then(Origin::parse);
        origin.is_some_and(|origin| self.origins.iter().any(|allowed| allowed.covers(&origin)))
    }

    /// The request with its body in memory; the transports would gather it anyway, each with its own limit.
    async fn receive(&self, request: Request) -> Result<Request, Refusal> {
        if request.method() != Method::POST {
            return Ok(request);
        }
        let (parts, body) = request.into_parts();
        let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|declared: u64| declared > self.body_bytes as u64) {
            return Err(Refusal::BodyTooLarge(self.body_bytes));
        }
        match tokio::time::timeout(self.body_timeout, to_bytes(body, self.body_bytes)).await {
            Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
            Ok(Err(error)) if is_length_limit(&error) => Err(Refusal::BodyTooLarge(self.body_bytes)),
            Ok(Err(_gone)) => Err(Refusal::BodyBroken),
            Err(_elapsed) => Err(Refusal::BodyTooSlow(self.body_timeout)),
        }
    }
}

/// `to_bytes` hides which error it met one level down.
fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string().contains("length limit"))
}
