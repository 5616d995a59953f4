//! What a request is called by: in the answer's `x-request-id`, in the logs, in the audit log, and in what an internal
//! error says, so that what a user quotes is found.

use std::{fmt, sync::Arc};

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use rmcp::{RoleServer, service::RequestContext};
use tracing::{Instrument as _, info_span};

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// What of a client's own is still short.
const LONGEST: usize = 64;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The name of one HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The client's own name for it, where that is short and plain; it stands in logs as it is.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(HEADER).iter();
        let (Some(only), None) = (all.next(), all.next()) else { return None };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
        let text = only.to_str().ok().filter(|text| (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain))?;
        Some(Self(text.into()))
    }

    fn fresh() -> Self {
        Self(hex::encode(rand::random::<[u8; 12]>()).into())
    }

    /// That of the HTTP request in which a message came.
    pub(crate) fn of(context: &RequestContext<RoleServer>) -> Option<Self> {
        context.extensions.get::<Parts>()?.extensions.get::<Self>().cloned()
    }

    /// That of the request which is being answered, if it came over HTTP.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    async fn scope<T>(self, answering: impl Future<Output = T>) -> T {
        let span = info_span!("request", request.id = %self);
        CURRENT.scope(self, answering.instrument(span)).await
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names the request, and its answer; what is answered elsewhere, in a session's own task, is [`answering`].
pub(crate) async fn name(mut request: Request, next: Next) -> Response {
    let id = RequestId::given(request.headers()).unwrap_or_else(RequestId::fresh);
    let value = HeaderValue::from_str(&id.0).expect("what a request is called by is plain ASCII");
    request.extensions_mut().insert(id.clone());
    let mut response = id.scope(next.run(request)).await;
    response.headers_mut().insert(HEADER, value);
    response
}

/// Answers a message under the name of the HTTP request that it came in, if it came in one.
pub(crate) async fn answering<T>(id: Option<RequestId>, work: impl Future<Output = T>) -> T {
    match id {
        Some(id) => id.scope(work).await,
        None => work.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        RequestId::given(&headers).map(|id| id.to_string())
    }

    #[test]
    fn a_clients_own_name_is_taken_where_it_is_short_and_plain() {
        let longest = "a".repeat(LONGEST);
        for plain in ["7", "0193-ab_c.d:e/f+g=", longest.as_str()] {
            assert_eq!(given(&[plain.as_bytes()]).as_deref(), Some(plain));
        }
        let longer = "a".repeat(LONGEST + 1);
        for other in ["", "a b", "a\tb", "\"a\"", "<a>", "${a}", "ä", "\u{9b}31m", longer.as_str()] {
            assert_eq!(given(&[other.as_bytes()]), None, "{other}");
        }
        assert_eq!(given(&[b"a", b"b"]), None);
        assert_eq!(given(&[]), None);
    }
}
