//! What a tool's answer becomes: an output that keeps its type, or a typed failure.
//!
//! The output is `structuredContent` where there is any. Else a single text that holds a JSON object or array is
//! that value (many servers have no other way to be structured). Else it is `{text, content}`: all texts joined by
//! line breaks, and whatever is no text (images, links) as it came.

use std::{error::Error, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{
    fault::nearest,
    run::{ErrorKind, StepFailure},
    secret::Redactor,
};
use rmcp::{
    ServiceError,
    model::{CallToolResult, ContentBlock, ErrorCode, ErrorData, ServerResult},
    service::ClientInitializeError,
    transport::streamable_http_client::StreamableHttpError,
};
use serde_json::{Value, json};

use super::live::Unopened;
use crate::actions::http::{body::is_within_depth, status::retry_after};

/// Longest text of a remote side that a message repeats.
const QUOTED_CHARS: usize = 500;

/// Who was called, for messages.
pub(super) struct Called<'a> {
    pub(super) server: &'a str,
    pub(super) tool: &'a str,
    /// The tools that the server is known to have.
    pub(super) known: &'a [String],
    /// Takes out of its words what it was started with.
    pub(super) redactor: &'a Redactor,
}

impl Called<'_> {
    fn quoted(&self, text: &str) -> String {
        quoted(text, self.redactor)
    }
}

/// The output of a step, from what the server answered.
pub(super) fn output(
    called: &Called<'_>,
    result: ServerResult,
    output_bytes: usize,
    json_depth: usize,
) -> Result<Value, StepFailure> {
    let name = format!("{}.{}", called.server, called.tool);
    // The call has had its effect in each of these cases: it is not for us to repeat it.
    let unusable = |what: &str| StepFailure::new(ErrorKind::InvalidOutput, format!("`{name}` {what}")).sent(true);
    let value = match result {
        ServerResult::CallToolResult(result) if result.is_error == Some(true) => {
            let text = called.quoted(&texts(&result));
            let text = if text.is_empty() { "it gave no reason".to_owned() } else { text };
            return Err(StepFailure::new(ErrorKind::ToolError, format!("`{name}` failed: {text}")));
        }
        ServerResult::CallToolResult(result) => shaped(result),
        ServerResult::EmptyResult(_) => json!({ "text": "", "content": [] }),
        ServerResult::InputRequiredResult(_) => {
            return Err(StepFailure::new(
                ErrorKind::ToolError,
                format!("`{name}` asks a person for input, and a step has nobody to ask"),
            ));
        }
        _ => return Err(unusable("answered with something that is no tool result")),
    };
    if value.to_string().len() > output_bytes {
        return Err(unusable(&format!("answered with more than {output_bytes} bytes")));
    }
    if !is_within_depth(&value, json_depth) {
        return Err(unusable(&format!("answered with JSON deeper than {json_depth} levels")));
    }
    Ok(value)
}

fn shaped(result: CallToolResult) -> Value {
    if let Some(value) = result.structured_content.filter(|value| !value.is_null()) {
        return value;
    }
    if let [ContentBlock::Text(only)] = result.content.as_slice()
        && let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(&only.text)
    {
        return value;
    }
    let (mut texts, mut others) = (Vec::new(), Vec::new());
    for block in result.content {
        match block {
            ContentBlock::Text(text) => texts.push(text.text),
            other => others.push(serde_json::to_value(other).unwrap_or_default()),
        }
    }
    json!({ "text": texts.join("\n"), "content": others })
}

fn texts(result: &CallToolResult) -> String {
    let texts = result.content.iter().filter_map(|block| match block {
        ContentBlock::Text(text) => Some(text.text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// One line, bounded, without control characters. Secrets go first: a value that is cut in two is not found any more.
pub(super) fn quoted(text: &str, redactor: &Redactor) -> String {
    let text = redactor.text(text);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(QUOTED_CHARS).collect()
}

/// Why a call had no answer. The request may have left in every case but those that prove otherwise.
pub(super) fn failure(called: &Called<'_>, error: &ServiceError, limit: Duration) -> StepFailure {
    let name = format!("{}.{}", called.server, called.tool);
    match error {
        ServiceError::McpError(error) => refused(called, &name, error),
        ServiceError::TransportSend(error) => remote(called, &name, error.error.as_ref()),
        ServiceError::TransportClosed => StepFailure::new(
            ErrorKind::Connection,
            format!("the MCP server `{}` went away during `{name}`", called.server),
        )
        .sent(true),
        ServiceError::Timeout { .. } => {
            StepFailure::new(ErrorKind::Timeout, format!("`{name}` did not answer within {limit:?}")).sent(true)
        }
        ServiceError::Cancelled { .. } => {
            StepFailure::new(ErrorKind::Cancelled, format!("the run was cancelled during `{name}`")).sent(true)
        }
        other => {
            let message = format!("`{name}` gave no usable answer: {}", called.quoted(&other.to_string()));
            StepFailure::new(ErrorKind::InvalidOutput, message).sent(true)
        }
    }
}

/// A JSON-RPC error: the server understood, and says no.
fn refused(called: &Called<'_>, name: &str, error: &ErrorData) -> StepFailure {
    let words = called.quoted(&error.message);
    let is_known = called.known.is_empty() || called.known.iter().any(|known| known == called.tool);
    let hint = match nearest(called.tool, called.known.iter().map(String::as_str)) {
        _ if is_known => String::new(),
        Some(near) => format!(" (it has no tool `{}`; did you mean `{}.{near}`?)", called.tool, called.server),
        None => format!(" (it has no tool `{}`)", called.tool),
    };
    let kind = match error.code {
        ErrorCode::INVALID_PARAMS | ErrorCode::METHOD_NOT_FOUND | ErrorCode::INVALID_REQUEST => ErrorKind::ClientError,
        _ => ErrorKind::ToolError,
    };
    StepFailure::new(kind, format!("`{name}` was refused by its server: {words}{hint}"))
}

/// A failure of Streamable HTTP, as far down as its type can be seen.
fn remote(called: &Called<'_>, name: &str, error: &(dyn Error + Send + Sync + 'static)) -> StepFailure {
    let Some(error) = error.downcast_ref::<StreamableHttpError<reqwest::Error>>() else {
        // Standard input of a dying child: part of the request may be in its hands.
        return StepFailure::new(
            ErrorKind::Connection,
            format!("`{name}` could not be sent: {}", called.quoted(&error.to_string())),
        )
        .sent(true);
    };
    match error {
        StreamableHttpError::Client(error) if error.is_connect() => {
            StepFailure::new(ErrorKind::Connection, format!("no connection to the MCP server of `{name}`"))
        }
        StreamableHttpError::HttpStatus(answer) => {
            let kind = match answer.status {
                408 | 429 => ErrorKind::RateLimited,
                500..=599 => ErrorKind::ServerError,
                _ => ErrorKind::ClientError,
            };
            #[expect(clippy::disallowed_methods, reason = "Retry-After may be a date of the world's clock")]
            let delay = answer.retry_after.as_deref().and_then(|text| retry_after(text, Timestamp::now()));
            StepFailure::new(kind, format!("the MCP server of `{name}` answered HTTP {}", answer.status))
                .retry_after(delay)
        }
        StreamableHttpError::AuthRequired(_) | StreamableHttpError::InsufficientScope(_) => StepFailure::new(
            ErrorKind::Denied,
            format!("the MCP server of `{name}` does not accept our credentials: {AUTHORIZE}"),
        ),
        StreamableHttpError::ResponseBodyTooLarge { max_size } => {
            StepFailure::new(ErrorKind::InvalidOutput, format!("`{name}` answered with more than {max_size} bytes"))
                .sent(true)
        }
        other => {
            // The client's own words may hold the URL, and with it a token.
            let why = if matches!(other, StreamableHttpError::Client(_)) {
                "the connection was lost".to_owned()
            } else {
                called.quoted(&other.to_string())
            };
            StepFailure::new(ErrorKind::Connection, format!("`{name}` had no answer: {why}")).sent(true)
        }
    }
}

const AUTHORIZE: &str = "the operator sets `headers.Authorization` in its entry";

/// Why a handshake failed.
pub(super) fn handshake(error: &ClientInitializeError, redactor: &Redactor) -> Unopened {
    let failed = |why: String, kind, is_protocol| Unopened { why, kind, is_protocol };
    if error.is_authorization_required() {
        return failed(format!("it does not accept our credentials: {AUTHORIZE}"), ErrorKind::Denied, false);
    }
    let why = match error {
        ClientInitializeError::TransportError { error, .. } => {
            let connect = error
                .error
                .downcast_ref::<StreamableHttpError<reqwest::Error>>()
                .is_some_and(|error| matches!(error, StreamableHttpError::Client(error) if error.is_connect()));
            if connect {
                return failed("nobody listens there".to_owned(), ErrorKind::Connection, false);
            }
            "the connection was lost during the handshake".to_owned()
        }
        ClientInitializeError::ConnectionClosed(_) => "it ended during the handshake".to_owned(),
        ClientInitializeError::JsonRpcError(error) => {
            format!("it refused the handshake: {}", quoted(&error.message, redactor))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            "it speaks no protocol version that we know".to_owned()
        }
        _ => "it did not answer the handshake as MCP asks".to_owned(),
    };
    failed(why, ErrorKind::Connection, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: Value) -> Result<Value, StepFailure> {
        let redactor = Redactor::new([("KEY", "s3cr3t-value")]);
        let called = Called { server: "s", tool: "t", known: &[], redactor: &redactor };
        output(&called, ServerResult::CallToolResult(serde_json::from_value(result).unwrap()), 1000, 8)
    }

    #[test]
    fn an_output_keeps_the_type_that_the_server_gave_it() {
        let text = |text: &str| json!({"type": "text", "text": text});
        for (result, expected) in [
            (json!({"content": [text("x")], "structuredContent": {"n": 1}}), json!({"n": 1})),
            (json!({"content": [text("{\"n\": 1}")]}), json!({"n": 1})),
            (json!({"content": [text("[1, 2]")]}), json!([1, 2])),
            (json!({"content": [text("42")]}), json!({"text": "42", "content": []})),
            (json!({"content": [text("a"), text("b")]}), json!({"text": "a\nb", "content": []})),
            (json!({"content": []}), json!({"text": "", "content": []})),
        ] {
            assert_eq!(of(result.clone()).unwrap(), expected, "{result}");
        }
        let image = json!({"type": "image", "data": "AA==", "mimeType": "image/png"});
        assert_eq!(of(json!({"content": [image, text("a")]})).unwrap(), json!({"text": "a", "content": [image]}));
    }

    #[test]
    fn an_error_of_the_tool_is_a_tool_error_with_its_words_on_one_line() {
        let failure =
            of(json!({"content": [{"type": "text", "text": "no\n such\u{7} city"}], "isError": true})).unwrap_err();
        assert_eq!((failure.kind, failure.sent), (ErrorKind::ToolError, false));
        assert_eq!(failure.message, "`s.t` failed: no such city");
    }

    #[test]
    fn an_error_that_is_cut_inside_a_secret_keeps_no_part_of_it() {
        let text = format!("{} s3cr3t-value", "x".repeat(QUOTED_CHARS - 5));
        let failure = of(json!({"content": [{"type": "text", "text": text}], "isError": true})).unwrap_err();
        assert!(!failure.message.contains("s3c"), "{}", failure.message);
    }

    #[test]
    fn too_much_or_too_deep_an_answer_is_invalid() {
        let deep: Value = serde_json::from_str(&("[".repeat(9) + &"]".repeat(9))).unwrap();
        let deep = json!({"content": [], "structuredContent": deep});
        for result in [json!({"content": [{"type": "text", "text": "x".repeat(2000)}]}), deep] {
            let failure = of(result).unwrap_err();
            assert_eq!((failure.kind, failure.sent), (ErrorKind::InvalidOutput, true));
        }
    }

    #[test]
    fn an_unknown_tool_is_refused_with_a_suggestion() {
        let known = ["get_weather".to_owned()];
        let called = Called { server: "s", tool: "get_wether", known: &known, redactor: &Redactor::default() };
        let error = ServiceError::McpError(ErrorData::invalid_params("tool not found", None));
        let failure = failure(&called, &error, Duration::from_secs(1));
        assert_eq!(failure.kind, ErrorKind::ClientError);
        assert!(failure.message.contains("did you mean `s.get_weather`"), "{failure}");
    }
}
