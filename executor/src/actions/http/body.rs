//! What a response becomes: `{status, headers, body}`.
//!
//! A body is JSON where its content type says so and it parses, else text in its own charset. Text that claims to
//! be JSON and is not, or nests too deep, stays text, so that `expect` can judge it. Bytes that are no text give
//! `body: null` and `body_base64`. An empty JSON body is `null`, any other empty body `""`.

use base64::Engine as _;
use http::{HeaderMap, header};
use ordinaut_schema::{
    run::{ErrorKind, StepFailure},
    secret::Redactor,
};
use reqwest::Response;
use serde_json::{Map, Value, json};

use super::connect;

/// Reads at most `limit` bytes, counted after decompression.
pub(super) async fn read(mut response: Response, limit: usize, shown: &str) -> Result<Vec<u8>, StepFailure> {
    let too_large = || {
        // The call had its effect, and the answer cannot be kept: repeating it is not for us to decide.
        StepFailure::new(ErrorKind::InvalidOutput, format!("the answer of {shown} is larger than {limit} bytes"))
            .sent(true)
    };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > limit => return Err(too_large()),
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(error) if error.is_decode() => {
                let message = format!("the answer of {shown} could not be decoded");
                return Err(StepFailure::new(ErrorKind::InvalidOutput, message).sent(true));
            }
            Err(error) => return Err(connect::failure(&error, shown).sent(true)),
        }
    }
}

/// The first words of an answer that was not expected, cleaned for a one-line message. Secrets go first: a value that
/// is cut in two is not found any more.
pub(super) async fn excerpt(mut response: Response, redactor: &Redactor) -> String {
    const BYTES: usize = 2048;
    const CHARS: usize = 200;
    let mut bytes = Vec::new();
    while bytes.len() < BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(BYTES - bytes.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    if bytes.contains(&0) {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let is_cut = bytes.len() == BYTES;
    let text = if is_cut { redactor.beginning(text.trim_end_matches('\u{fffd}')) } else { redactor.text(&text) };
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(CHARS).collect()
}

/// The output of the step.
pub(super) async fn output(
    status: http::StatusCode,
    headers: &HeaderMap,
    bytes: Vec<u8>,
    json_depth: usize,
    is_head: bool,
) -> Value {
    let mut output = json!({ "status": status.as_u16(), "headers": shown_headers(headers) });
    let fields = output.as_object_mut().expect("just built as an object");
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let is_json = is_json(content_type);
    let body = if is_head || (bytes.is_empty() && is_json) {
        Value::Null
    } else if let Some(value) = is_json.then(|| parsed(&bytes, json_depth)).flatten() {
        value
    } else {
        match text(bytes, content_type).await {
            Ok(text) => Value::String(text),
            Err(bytes) => {
                fields.insert("body".to_owned(), Value::Null);
                fields.insert(
                    "body_base64".to_owned(),
                    Value::String(base64::engine::general_purpose::STANDARD.encode(bytes)),
                );
                return output;
            }
        }
    };
    fields.insert("body".to_owned(), body);
    output
}

/// Names in lower case; repeated values joined as HTTP allows, but for cookies, which cannot be.
fn shown_headers(headers: &HeaderMap) -> Value {
    let mut shown = Map::new();
    for name in headers.keys() {
        let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let value = if name == header::SET_COOKIE {
            values.map(|value| Value::String(value.into_owned())).collect()
        } else {
            let first = values.next().unwrap_or_default().into_owned();
            Value::String(values.fold(first, |joined, value| joined + ", " + &value))
        };
        shown.insert(name.as_str().to_owned(), value);
    }
    Value::Object(shown)
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

fn parsed(bytes: &[u8], depth: usize) -> Option<Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).ok().filter(|value| is_within_depth(value, depth))
}

/// Recursion is bounded: the parser has refused anything deeper than 128.
pub(crate) fn is_within_depth(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_within_depth(item, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().all(|field| is_within_depth(field, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// The text in the charset that the content type names; the bytes back if they are none.
async fn text(bytes: Vec<u8>, content_type: &str) -> Result<String, Vec<u8>> {
    let content_type = content_type.to_ascii_lowercase();
    let is_textual = content_type.starts_with("text/") || content_type.contains("charset=");
    if !is_textual || content_type.contains("utf-8") || !content_type.contains("charset=") {
        return String::from_utf8(bytes)
            .map_err(std::string::FromUtf8Error::into_bytes)
            .and_then(|text| if text.contains('\0') { Err(text.into_bytes()) } else { Ok(text) });
    }
    let mut whole = http::Response::new(bytes.clone());
    if let Ok(value) = content_type.parse() {
        whole.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    // Nothing is read here: the bytes are in hand, only the charset is decoded.
    Response::from(whole).text().await.map_err(|_| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body_of(content_type: &str, bytes: &[u8]) -> Value {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        output(http::StatusCode::OK, &headers, bytes.to_vec(), 64, false).await
    }

    #[tokio::test]
    async fn json_is_parsed_where_the_content_type_says_so() {
        assert_eq!(body_of("application/json", b"{\"a\":1}").await["body"], json!({"a": 1}));
        assert_eq!(body_of("application/problem+json; charset=utf-8", b"[1]").await["body"], json!([1]));
        assert_eq!(body_of("text/plain", b"{\"a\":1}").await["body"], json!("{\"a\":1}"));
        assert_eq!(body_of("application/json", b"").await["body"], Value::Null);
    }

    #[tokio::test]
    async fn what_only_claims_to_be_json_stays_text() {
        assert_eq!(body_of("application/json", b"<html>").await["body"], json!("<html>"));
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(body_of("application/json", deep.as_bytes()).await["body"], json!(deep));
    }

    #[tokio::test]
    async fn text_is_read_in_its_own_charset() {
        assert_eq!(body_of("text/plain; charset=iso-8859-1", b"caf\xe9").await["body"], json!("café"));
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_are_given_in_base64() {
        let output = body_of("image/png", b"\x89PNG\0").await;
        assert_eq!(output["body"], Value::Null);
        assert_eq!(output["body_base64"], json!("iVBORwA="));
    }

    #[tokio::test]
    async fn repeated_headers_are_joined_and_cookies_listed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("via", "a"), ("via", "b"), ("set-cookie", "x=1"), ("set-cookie", "y=2")] {
            headers.append(name, value.parse().unwrap());
        }
        let output = output(http::StatusCode::OK, &headers, Vec::new(), 64, false).await;
        assert_eq!(output["headers"], json!({"via": "a, b", "set-cookie": ["x=1", "y=2"]}));
    }
}
