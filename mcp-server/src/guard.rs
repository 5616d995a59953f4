//! What an HTTP request must show before it reaches a transport: one middleware over both.
//!
//! In this order: a `Host` this server answers to and an `Origin` it allows (a web page must not reach a server on
//! loopback through a rebound name), a bearer token, a body of bounded size that arrives in bounded time. What
//! passes carries its [`Principal`](crate::principal::Principal) in the extensions. The SDK's own checks are off: they cover one transport only.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::{debug, error};

use crate::auth::{Authenticate, Credential, Unavailable};

mod allow;
mod cors;

pub use allow::{Host, Origin};

/// What the guard lets through.
#[derive(Clone)]
pub struct Guard {
    rules: Arc<Rules>,
    tokens: Arc<dyn Authenticate>,
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
}

impl Guard {
    pub fn new(rules: Rules, tokens: Arc<dyn Authenticate>) -> Self {
        Self { rules: Arc::new(rules), tokens }
    }
}

/// Whose name the request calls this server by: for routes without a principal.
pub(crate) async fn check_address(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.rules.check_address(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// For pages of this server's own: a form on them comes from themselves, or from nowhere that a browser would name.
pub(crate) async fn check_page(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.rules.check_page(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// All of it.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if let Err(refusal) = guard.rules.check_address(request.uri(), request.headers()) {
        debug!(%refusal, "request refused");
        return refusal.into_response();
    }
    let page = request.headers().get(header::ORIGIN).cloned();
    // A browser asks before it sends the token, so the question has none.
    if request.method() == Method::OPTIONS && page.is_some() {
        return cors::allow(page, StatusCode::NO_CONTENT.into_response());
    }
    let response = match guard.admit(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => {
            debug!(%refusal, "request refused");
            refusal.into_response()
        }
    };
    cors::allow(page, response)
}

impl Guard {
    async fn admit(&self, request: Request) -> Result<Request, Refusal> {
        let token = match Credential::of(request.headers()) {
            Credential::Bearer(token) => token,
            Credential::Absent => return Err(Refusal::TokenMissing),
            Credential::Malformed => return Err(Refusal::TokenMalformed),
        };
        let principal = self.tokens.authenticate(token).await?.ok_or(Refusal::TokenInvalid)?;
        let mut request = self.rules.receive(request).await?;
        request.extensions_mut().insert(principal);
        Ok(request)
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

/// Why a request goes no further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request has no usable Host header")]
    HostMissing,
    #[error("this server does not answer to the host `{0}`; the operator can add it to `mcp.allowed_hosts`")]
    Host(String),
    #[error("pages of the origin `{0}` may not call this server; the operator can add it to `mcp.allowed_origins`")]
    Origin(String),
    #[error("a bearer token is needed; `ordinaut agent add <name>` prints one")]
    TokenMissing,
    #[error("the Authorization header must be one `Bearer <token>`")]
    TokenMalformed,
    #[error("the bearer token is unknown, revoked or expired; `ordinaut agent add <name>` prints a new one")]
    TokenInvalid,
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
    #[error("the request body is larger than {0} bytes")]
    BodyTooLarge(usize),
    #[error("the request body did not arrive within {}s", .0.as_secs())]
    BodyTooSlow(Duration),
    #[error("the request body could not be read")]
    BodyBroken,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::HostMissing | Self::TokenMalformed | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Host(_) | Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::TokenMissing | Self::TokenInvalid => StatusCode::UNAUTHORIZED,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        };
        let challenge = match &self {
            // No authorization server is named: there is none, and clients would go looking for it.
            Self::TokenMissing => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::TokenInvalid => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\"")))
            }
            Self::TokenMalformed => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_request\"")))
            }
            Self::Unavailable(why) => {
                error!(%why, "tokens cannot be checked");
                Some((header::RETRY_AFTER, HeaderValue::from_static("5")))
            }
            _ => None,
        };
        let mut response = (status, self.to_string()).into_response();
        if let Some((name, value)) = challenge {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
