//! Why a request goes no further, and how that is answered.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tracing::error;

use super::Pace;
use crate::auth::{Digest, Unavailable};

/// What a JSON-RPC client is told with 429; the protocol leaves -32000 to -32099 to servers.
const TOO_MANY: i32 = -32029;

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
    TokenInvalid(Digest),
    #[error("too many tokens from this address were unknown, revoked or expired; try again in {}s", seconds(*.0))]
    TooManyTokens(Duration),
    #[error(
        "this agent calls faster than {} times a minute, {} of them at once; try again in {}s, or the operator can raise \
         `mcp.calls_per_minute` and `mcp.calls_burst`",
        .pace.per_minute, .pace.burst, seconds(*.wait)
    )]
    TooManyCalls { pace: Pace, wait: Duration },
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
    #[error("the request body is larger than {0} bytes")]
    BodyTooLarge(usize),
    #[error("the request body did not arrive within {}s", .0.as_secs())]
    BodyTooSlow(Duration),
    #[error("the request body could not be read")]
    BodyBroken,
}

impl Refusal {
    /// For whoever counts them.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::HostMissing | Self::Host(_) => "host",
            Self::Origin(_) => "origin",
            Self::TokenMissing => "token_missing",
            Self::TokenMalformed => "token_malformed",
            Self::TokenInvalid(_) => "token_invalid",
            Self::TooManyTokens(_) => "too_many_tokens",
            Self::TooManyCalls { .. } => "too_many_calls",
            Self::Unavailable(_) => "unavailable",
            Self::BodyTooLarge(_) | Self::BodyTooSlow(_) | Self::BodyBroken => "body",
        }
    }

    /// Whether somebody who should not may be trying to get in; a client without a token only asks how.
    pub(super) const fn is_suspicious(&self) -> bool {
        match self {
            Self::HostMissing
            | Self::Host(_)
            | Self::Origin(_)
            | Self::TokenMalformed
            | Self::TokenInvalid(_)
            | Self::TooManyTokens(_) => true,
            Self::TokenMissing
            | Self::TooManyCalls { .. }
            | Self::Unavailable(_)
            | Self::BodyTooLarge(_)
            | Self::BodyTooSlow(_)
            | Self::BodyBroken => false,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::HostMissing | Self::TokenMalformed | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Host(_) | Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::TokenMissing | Self::TokenInvalid(_) => StatusCode::UNAUTHORIZED,
            Self::TooManyTokens(_) | Self::TooManyCalls { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let header = match &self {
            Self::TooManyTokens(wait) | Self::TooManyCalls { wait, .. } => return too_many(&self.to_string(), *wait),
            // No authorization server is named: there is none, and clients would go looking for it.
            Self::TokenMissing => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Self::TokenInvalid(_) => {
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
        let mut response = (self.status(), self.to_string()).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// 429, as a JSON-RPC error: clients show the sentence, or hand it to whoever called. Nobody has read yet which request
/// it answers; whoever sent it knows.
pub(crate) fn too_many(sentence: &str, wait: Duration) -> Response {
    let retry_after = seconds(wait);
    let data = json!({ "retry_after_seconds": retry_after });
    let error = json!({ "code": TOO_MANY, "message": sentence, "data": data });
    let body = Json(json!({ "jsonrpc": "2.0", "id": null, "error": error }));
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, retry_after.to_string())], body).into_response()
}

/// Whole seconds, which is all that `Retry-After` can say: never too few.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
