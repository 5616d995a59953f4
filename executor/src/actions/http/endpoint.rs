//! One POST to an endpoint of the operator's own: a channel's, a model's.
//!
//! The client is the one of HTTP steps: judged addresses only, no proxy, no kept connections, and no redirect is
//! followed, because each would carry a credential somewhere else. The host that the operator wrote is allowed whatever
//! address it has, at that port: their word is what the guard asks for.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use ordinaut_schema::{
    run::{ErrorKind, StepFailure},
    secret::Redactor,
};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use super::{
    body, connect,
    guard::{Allowance, Guard, SystemResolver, shown},
    status,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The words of a refusal are a courtesy: an endless answer must not turn a known status into a time-out.
const EXCERPT_TIMEOUT: Duration = Duration::from_secs(2);

/// What is sent.
pub(crate) struct Post {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What came back, with a status that means success.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as JSON; nothing where it is none.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// JSON goes out, and these with it; of two with one name the later counts. Their values are not shown.
pub(crate) fn headers(given: &[(&str, String)]) -> Result<HeaderMap, StepFailure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, text) in given {
        let unfit = || StepFailure::new(ErrorKind::ClientError, format!("the header `{name}` cannot be sent"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
        let mut value = HeaderValue::from_str(text.trim()).map_err(|_| unfit())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

/// Posts once, and reads at most `most` bytes. Whoever calls keeps the deadline; it is here to leave time for more than
/// connecting. The words of a refusal are cut, so `redactor` takes out of them what was used; the rest is the caller's.
pub(crate) async fn post(
    post: Post,
    deadline: Instant,
    most: usize,
    redactor: &Redactor,
) -> Result<Reply, StepFailure> {
    let left = deadline.saturating_duration_since(Instant::now());
    let connect_timeout = CONNECT_TIMEOUT.min(left * 3 / 8);
    let named = shown(&post.url);
    let guard = Guard::new(allowance(&post.url).into_iter().collect(), SystemResolver);
    let destination = timeout(connect_timeout, guard.judge(&post.url)).await.map_err(|_elapsed| {
        StepFailure::new(ErrorKind::Connection, format!("the name of {named} could not be resolved in time"))
    })??;
    let client = connect::client(&destination, connect_timeout)?;
    let request = client.request(Method::POST, post.url).headers(post.headers).body(post.body);
    let response = request.send().await.map_err(|error| connect::failure(&error, &named))?;
    let status = response.status();
    if status.is_success() {
        return Ok(Reply { status, body: body::read(response, most, &named).await? });
    }
    let headers = response.headers().clone();
    let excerpt = timeout(EXCERPT_TIMEOUT, body::excerpt(response, redactor)).await.unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "Retry-After may be a date of the world's clock")]
    let now = jiff::Timestamp::now();
    let failure = status::unexpected(status, &headers, &named, &excerpt, now);
    Err(if failure.kind == ErrorKind::RateLimited && failure.retry_after.is_none() {
        failure.retry_after(retry_after(&excerpt))
    } else {
        failure
    })
}

/// Exactly the host and port of the operator's URL.
fn allowance(url: &Url) -> Option<Allowance> {
    let port = url.port_or_known_default()?;
    Some(match url.host()? {
        Host::Domain(name) => Allowance::Name { name: name.trim_end_matches('.').to_ascii_lowercase(), port },
        Host::Ipv4(address) => Allowance::Network { network: address.into(), prefix: 32, port },
        Host::Ipv6(address) => Allowance::Network { network: address.into(), prefix: 128, port },
    })
}

/// Telegram and Discord say it in the body as well, in seconds.
fn retry_after(excerpt: &str) -> Option<Duration> {
    let told: Value = serde_json::from_str(excerpt).ok()?;
    let seconds = told.pointer("/parameters/retry_after").or_else(|| told.get("retry_after"))?.as_f64()?;
    Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0)).ok()
}
