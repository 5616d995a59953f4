//! Which statuses a step expects, and what kind of failure the others are.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822};
use ordinaut_schema::run::{ErrorKind, StepFailure};
use serde_json::Value;

use super::request::unfit;

/// No remote side may put a step off for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// `expected_status`: a number, a class (`"2xx"`), or a list of these. Any 2xx when left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected(Vec<Range>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range(std::ops::RangeInclusive<u16>);

impl Expected {
    pub(super) fn parse(given: Option<&Value>) -> Result<Self, StepFailure> {
        let ranges = match given {
            None => vec![Range(200..=299)],
            Some(Value::Array(items)) if !items.is_empty() => {
                items.iter().map(Range::parse).collect::<Result<_, _>>()?
            }
            Some(one) => vec![Range::parse(one)?],
        };
        Ok(Self(ranges))
    }

    pub(super) fn covers(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.0.contains(&status.as_u16()))
    }
}

impl Range {
    fn parse(value: &Value) -> Result<Self, StepFailure> {
        let text = match value {
            Value::String(text) => text.trim().to_ascii_lowercase(),
            other => other.to_string(),
        };
        let range = match text.strip_suffix("xx") {
            Some(class) => class.parse::<u16>().ok().map(|class| class * 100..=class * 100 + 99),
            None => text.parse::<u16>().ok().map(|status| status..=status),
        };
        range.filter(|range| (100..=599).contains(range.start())).map(Self).ok_or_else(|| {
            unfit(format!("`expected_status` cannot be {value}: write a status (200), a class (\"2xx\") or a list"))
        })
    }
}

/// What an unexpected status means. `excerpt` is the remote side's own words.
pub(super) fn unexpected(
    status: StatusCode,
    headers: &HeaderMap,
    shown: &str,
    excerpt: &str,
    now: Timestamp,
) -> StepFailure {
    let kind = match status.as_u16() {
        408 | 429 => ErrorKind::RateLimited,
        500..=599 => ErrorKind::ServerError,
        // Also a success or redirect that the step did not expect: asking again gives the same.
        _ => ErrorKind::ClientError,
    };
    let mut message = format!("{shown} answered {status}");
    if !excerpt.is_empty() {
        message.push_str(": ");
        message.push_str(excerpt);
    }
    let delay = headers.get(header::RETRY_AFTER).and_then(|it| it.to_str().ok()).and_then(|it| retry_after(it, now));
    StepFailure::new(kind, message).retry_after(if kind.is_transient() { delay } else { None })
}

/// `Retry-After` in either of its forms: seconds, or a date.
pub(crate) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let delay = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(delay.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn covers(given: &Value, status: u16) -> bool {
        Expected::parse(Some(given)).unwrap().covers(StatusCode::from_u16(status).unwrap())
    }

    #[test]
    fn expected_statuses_are_numbers_classes_and_lists() {
        assert!(covers(&json!(404), 404) && !covers(&json!(404), 200));
        assert!(covers(&json!("2xx"), 204) && !covers(&json!("2xx"), 302));
        assert!(covers(&json!([200, "4XX", "302"]), 410) && covers(&json!([200, "302"]), 302));
        for bad in [json!("ok"), json!(99), json!(true), json!([]), json!("7xx"), json!("99999xx")] {
            assert!(Expected::parse(Some(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn statuses_have_the_kinds_that_retries_ask_for() {
        for (status, kind) in [
            (408, ErrorKind::RateLimited),
            (429, ErrorKind::RateLimited),
            (404, ErrorKind::ClientError),
            (500, ErrorKind::ServerError),
            (503, ErrorKind::ServerError),
            (302, ErrorKind::ClientError),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = unexpected(status, &HeaderMap::new(), "a.example", "", Timestamp::UNIX_EPOCH);
            assert_eq!(failure.kind, kind, "{status}");
            assert!(!failure.sent);
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999", now), Some(LONGEST_RETRY_AFTER));
        assert_eq!(retry_after("soon", now), None);
    }
}
