//! The rendered `with` of an HTTP step, parsed into a request.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use ordinaut_schema::run::{ErrorKind, StepFailure};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::{secrets::Carried, status::Expected};

/// What to send, hop by hop. `Debug` shows none of what may be secret.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) expected: Expected,
    pub(super) carried: Carried,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("carried", &self.carried).finish_non_exhaustive()
    }
}

/// `with`, as written. A `null` is as if it were not there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    url: String,
    method: Option<String>,
    query: Option<Map<String, Value>>,
    headers: Option<Map<String, Value>>,
    json: Option<Value>,
    form: Option<Map<String, Value>>,
    body: Option<Value>,
    expected_status: Option<Value>,
}

/// These are the connection's own: a step that sets them could make two requests of one.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The step asked for something that cannot be sent; another try would not help.
pub(super) fn unfit(message: impl Into<String>) -> StepFailure {
    StepFailure::new(ErrorKind::ClientError, message)
}

impl Request {
    /// Reads the `with` of a step that `uses` an `http.*` action.
    pub(super) fn parse(uses: &str, with: Value, idempotency_key: &str) -> Result<Self, StepFailure> {
        let with: With =
            serde_json::from_value(with).map_err(|error| unfit(format!("`with` of `{uses}` does not fit: {error}")))?;
        let method = method(uses, with.method.as_deref())?;
        let mut url = target(&with.url)?;
        if let Some(query) = &with.query {
            let pairs = pairs("query", query)?;
            if !pairs.is_empty() {
                url.query_pairs_mut().extend_pairs(pairs);
            }
        }
        let mut headers = headers(&with.headers.unwrap_or_default())?;
        let body = body(with.json, with.form, with.body, &mut headers)?;
        if !matches!(method, Method::GET | Method::HEAD) && !headers.contains_key(IDEMPOTENCY_KEY) {
            let key = HeaderValue::from_str(idempotency_key)
                .map_err(|_| unfit("the idempotency key of this step cannot be sent in a header"))?;
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let expected = Expected::parse(with.expected_status.as_ref())?;
        Ok(Self { method, url, headers, body, expected, carried: Carried::default() })
    }

    /// Notes the secrets that were put into it.
    pub(super) fn carrying(mut self, carried: Carried) -> Self {
        carried.hide(&mut self.headers);
        self.carried = carried;
        self
    }
}

fn method(uses: &str, given: Option<&str>) -> Result<Method, StepFailure> {
    let name = match (uses.strip_prefix("http.").unwrap_or(uses), given) {
        ("request", Some(given)) => given.trim().to_ascii_uppercase(),
        ("request", None) => return Err(unfit("`http.request` needs a `method`, such as GET")),
        (named, None) => named.to_ascii_uppercase(),
        (named, Some(given)) if named.eq_ignore_ascii_case(given) => named.to_ascii_uppercase(),
        (named, Some(given)) => {
            return Err(unfit(format!("`http.{named}` cannot send {given}: use `http.request`, or drop `method`")));
        }
    };
    match name.as_str() {
        "GET" => Ok(Method::GET),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "HEAD" => Ok(Method::HEAD),
        "OPTIONS" => Ok(Method::OPTIONS),
        _ => Err(unfit(format!("the method `{name}` is not one of GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"))),
    }
}

/// The URL itself is not repeated in messages: it may hold credentials.
pub(super) fn target(url: &str) -> Result<Url, StepFailure> {
    let mut url = Url::parse(url.trim())
        .map_err(|error| unfit(format!("`url` is not a whole URL such as https://api.example.com/path: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unfit("`url` holds a user name or password: send them in `headers.Authorization`"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// Scalars as they are, lists repeated, `null` left out.
fn pairs(field: &str, fields: &Map<String, Value>) -> Result<Vec<(String, String)>, StepFailure> {
    let mut pairs = Vec::new();
    for (name, value) in fields {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            match plain(value) {
                Some(text) => pairs.push((name.clone(), text)),
                None if value.is_null() => {}
                None => {
                    return Err(unfit(format!(
                        "`{field}.{name}` must be text, a number, a boolean or a list of these"
                    )));
                }
            }
        }
    }
    Ok(pairs)
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn headers(given: &Map<String, Value>) -> Result<HeaderMap, StepFailure> {
    let mut headers = HeaderMap::new();
    for (name, text) in pairs("headers", given)? {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| unfit(format!("`{name}` cannot be the name of a header")))?;
        if OWN_HEADERS.contains(&header.as_str()) {
            return Err(unfit(format!("`headers.{name}` is set by the connection itself: leave it out")));
        }
        let value = HeaderValue::from_str(text.trim())
            .map_err(|_| unfit(format!("`headers.{name}` holds characters that a header cannot")))?;
        headers.append(header, value);
    }
    Ok(headers)
}

fn body(
    json: Option<Value>,
    form: Option<Map<String, Value>>,
    body: Option<Value>,
    headers: &mut HeaderMap,
) -> Result<Option<Bytes>, StepFailure> {
    let (bytes, content_type) = match (json, form, body) {
        (None, None, None) => return Ok(None),
        (None, None, Some(Value::String(text))) => (text.into_bytes(), "text/plain; charset=utf-8"),
        (Some(value), None, None) | (None, None, Some(value)) => (value.to_string().into_bytes(), "application/json"),
        (None, Some(form), None) => {
            let text =
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs("form", &form)?).finish();
            (text.into_bytes(), "application/x-www-form-urlencoded")
        }
        _ => return Err(unfit("only one of `json`, `form` and `body` can be sent")),
    };
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(uses: &str, with: Value) -> Result<Request, StepFailure> {
        Request::parse(uses, with, "run/step")
    }

    #[test]
    fn a_query_is_added_to_the_one_in_the_url() {
        let request = parse(
            "http.get",
            json!({"url": "https://a.example/p?x=1", "query": {"q": "a b", "n": 2, "l": ["u", "v"], "z": null}}),
        )
        .unwrap();
        assert_eq!(request.url.as_str(), "https://a.example/p?x=1&q=a+b&n=2&l=u&l=v");
    }

    #[test]
    fn the_idempotency_key_is_sent_unless_the_step_has_its_own() {
        let key = |uses, with| parse(uses, with).unwrap().headers.get(IDEMPOTENCY_KEY).cloned();
        assert_eq!(key("http.post", json!({"url": "https://a.example"})).unwrap(), "run/step");
        assert_eq!(key("http.get", json!({"url": "https://a.example"})), None);
        let own = json!({"url": "https://a.example", "headers": {"Idempotency-Key": "mine"}});
        assert_eq!(key("http.post", own).unwrap(), "mine");
    }

    #[test]
    fn each_kind_of_body_brings_its_content_type() {
        for (with, content_type, bytes) in [
            (json!({"json": {"a": 1}}), "application/json", "{\"a\":1}"),
            (json!({"form": {"a": "b c"}}), "application/x-www-form-urlencoded", "a=b+c"),
            (json!({"body": "hi"}), "text/plain; charset=utf-8", "hi"),
            (json!({"body": [1]}), "application/json", "[1]"),
        ] {
            let mut with = with;
            with["url"] = json!("https://a.example");
            let request = parse("http.post", with).unwrap();
            assert_eq!(request.headers[header::CONTENT_TYPE], content_type);
            assert_eq!(request.body.unwrap(), bytes);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_the_mend() {
        for (uses, with, part) in [
            ("http.get", json!({"url": "/forecast"}), "whole URL"),
            ("http.get", json!({"url": "https://u:p@a.example"}), "headers.Authorization"),
            ("http.request", json!({"url": "https://a.example"}), "needs a `method`"),
            ("http.get", json!({"url": "https://a.example", "method": "POST"}), "http.request"),
            ("http.request", json!({"url": "https://a.example", "method": "CONNECT"}), "CONNECT"),
            ("http.post", json!({"url": "https://a.example", "json": 1, "body": "x"}), "only one of"),
            ("http.get", json!({"url": "https://a.example", "headers": {"Host": "b"}}), "leave it out"),
            ("http.get", json!({"url": "https://a.example", "headers": {"X": "a\r\nb: c"}}), "cannot"),
            ("http.get", json!({"url": "https://a.example", "colour": 1}), "colour"),
        ] {
            let failure = parse(uses, with).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::ClientError);
            assert!(failure.message.contains(part), "{}", failure.message);
            assert!(!failure.message.contains("u:p"), "{}", failure.message);
        }
    }
}
