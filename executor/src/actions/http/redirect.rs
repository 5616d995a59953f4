//! What a redirect may do: followed by hand, so that every hop is judged like a first one.
//!
//! Across origins only harmless headers go along (a list of what may, not of what may not: nobody knows every
//! name of a credential), and a body does not: it may hold secrets that are bound to the first host. From https
//! to http nothing goes. A header with a secret is never harmless.

use http::{HeaderMap, Method, StatusCode, header};
use ordinaut_schema::run::{ErrorKind, StepFailure};
use url::Url;

use super::{guard::shown, request::Request};

/// What may follow to another origin.
const HARMLESS: &[&str] = &[
    "accept",
    "accept-language",
    "cache-control",
    "content-language",
    "content-type",
    "idempotency-key",
    "if-modified-since",
    "if-none-match",
    "range",
    "user-agent",
];

pub(super) fn is_redirect(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && headers.contains_key(header::LOCATION)
}

/// The request of the next hop.
pub(super) fn next(mut request: Request, status: StatusCode, headers: &HeaderMap) -> Result<Request, StepFailure> {
    let from = shown(&request.url);
    let refused = |why: &str| StepFailure::new(ErrorKind::Denied, format!("a redirect of {from} is refused: {why}"));
    let mut url = headers
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok())
        .and_then(|location| request.url.join(location).ok())
        .ok_or_else(|| refused("its Location is no URL"))?;
    url.set_fragment(None);
    // Cannot fail for a URL with a host; one without is refused by the guard.
    let _ = (url.set_username(""), url.set_password(None));
    if request.url.scheme() == "https" && url.scheme() != "https" {
        return Err(refused("it leads from https to an unprotected connection"));
    }
    let rewritten = match status.as_u16() {
        303 => request.method != Method::HEAD,
        301 | 302 => request.method == Method::POST,
        _ => false,
    };
    if rewritten {
        request.method = Method::GET;
        request.body = None;
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
            request.headers.remove(name);
        }
    }
    if !may_carry(&request.url, &url) || !request.carried.may_follow(&url) {
        if request.body.is_some() {
            return Err(refused(&format!(
                "it would carry the body to {}, another origin: call that one instead",
                shown(&url)
            )));
        }
        let names: Vec<_> = request.headers.keys().filter(|name| !HARMLESS.contains(&name.as_str())).cloned().collect();
        for name in names {
            request.headers.remove(name);
        }
        request.carried.leave(&mut request.headers, &url)?;
    }
    request.url = url;
    Ok(request)
}

/// The same origin, or the same host moved from plain http to https, both on their own ports.
fn may_carry(from: &Url, to: &Url) -> bool {
    let is_upgrade = from.scheme() == "http"
        && to.scheme() == "https"
        && from.host() == to.host()
        && from.port().is_none()
        && to.port().is_none();
    from.origin() == to.origin() || is_upgrade
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use serde_json::json;

    use super::*;

    fn hop(uses: &str, from: &str, status: u16, to: &str) -> Result<Request, StepFailure> {
        let with = json!({
            "url": from,
            "headers": {"Authorization": "Bearer x", "Cookie": "c", "X-Api-Key": "k", "Accept": "a/b"},
            "body": if uses == "http.post" { json!("secret") } else { json!(null) },
        });
        let request = Request::parse(uses, with, "run/step").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, to.parse().unwrap());
        next(request, StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let same = hop("http.get", "https://a.example/1", 302, "/2").unwrap();
        assert_eq!(same.url.as_str(), "https://a.example/2");
        assert_eq!(same.headers.len(), 4);
        for to in ["https://b.example/", "https://a.example:444/", "https://u:p@c.example/"] {
            let other = hop("http.get", "https://a.example/1", 302, to).unwrap();
            assert_eq!(other.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"], "{to}");
            assert!(other.url.username().is_empty() && other.url.password().is_none());
        }
        let upgraded = hop("http.get", "http://a.example/", 301, "https://a.example/").unwrap();
        assert_eq!(upgraded.headers.len(), 4);
    }

    #[test]
    fn a_post_becomes_a_get_or_keeps_its_body_as_the_status_says() {
        for (status, method) in [(301, Method::GET), (303, Method::GET), (307, Method::POST), (308, Method::POST)] {
            let next = hop("http.post", "https://a.example/1", status, "/2").unwrap();
            assert_eq!(next.body.is_some(), method == Method::POST, "{status}");
            assert_eq!(next.headers.contains_key(header::CONTENT_TYPE), method == Method::POST);
            assert_eq!(next.method, method);
        }
    }

    #[test]
    fn downgrades_and_bodies_to_strangers_are_refused() {
        for (uses, status, to) in [
            ("http.get", 302, "http://a.example/"),
            ("http.get", 302, "ftp://a.example/"),
            ("http.post", 307, "https://b.example/"),
        ] {
            assert_eq!(hop(uses, "https://a.example/1", status, to).unwrap_err().kind, ErrorKind::Denied, "{to}");
        }
    }
}
