//! What the actions that park a run are told: read the same way when a definition is judged and when a step is called.
//!
//! And where they may stand: a run is parked as a whole, so a wait or an approval inside `foreach` or `parallel` would
//! hold up what runs beside it, and `on_failure` runs once, with nobody left to park for.

use std::time::Duration;

use jiff::{Timestamp, civil::DateTime};
use serde_json::Value;

use crate::{
    fault::{Fault, FaultCode, Faults, child},
    run::text_enum,
    template::has_template,
    time::{Zone, parse_duration, short},
};

/// The longest that a run may be parked by one step.
pub const LONGEST_WAIT: Duration = Duration::from_hours(366 * 24);
/// How long an approval waits unless it says otherwise.
pub const APPROVAL_TIMEOUT: Duration = Duration::from_hours(24);
/// The most of `message`.
const MESSAGE_BYTES: usize = 4096;

text_enum! {
    /// What an approval counts as when nobody answers in time.
    OnTimeout {
        Reject = "reject",
        Approve = "approve",
        Fail = "fail",
    }
}

text_enum! {
    /// How an approval stands.
    ApprovalState {
        Waiting = "waiting",
        Approved = "approved",
        Rejected = "rejected",
        /// Nobody answered by its end.
        TimedOut = "timed_out",
        /// Its run was over first.
        Closed = "closed",
    }
}

/// The end of a `wait.until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    At(Timestamp),
    /// In the task's zone.
    Civil(DateTime),
}

impl Until {
    /// The instant in `zone`; a time in a spring gap is moved forward by it, of two in an autumn fold the first counts.
    pub fn instant(self, zone: &Zone) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Civil(civil) => zone.rules().to_timestamp(civil).ok(),
        }
    }
}

/// What an `approval.request` asks.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRequest {
    pub message: String,
    pub data: Value,
    pub timeout: Duration,
    pub on_timeout: OnTimeout,
}

/// How long a `wait.for` waits.
///
/// # Errors
/// What is wrong with `duration`, in one sentence that names it.
pub fn wait_for(input: &Value) -> Result<Duration, String> {
    wait(input.get("duration").unwrap_or(&Value::Null), "duration")
}

/// When a `wait.until` ends.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(input: &Value) -> Result<Until, String> {
    let given = input.get("until").unwrap_or(&Value::Null);
    let text = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Until::At(at));
    }
    // An offset that is not that of an instant would otherwise be dropped in silence.
    let civil = text.parse::<DateTime>().ok().filter(|_| text.contains(['T', 't', ' ']) && !text.ends_with(['Z', 'z']));
    civil.map(Until::Civil).ok_or_else(|| {
        format!(
            "`until` is `{text}`, which is neither an instant nor a local date and time; write 2027-01-31T09:00:00Z, \
             2027-01-31T09:00, or ${{format_time(now, '%F')}}T18:00 for today at six"
        )
    })
}

/// What an `approval.request` asks for.
///
/// # Errors
/// As [`wait_for`].
pub fn approval_request(input: &Value) -> Result<ApprovalRequest, String> {
    let message = match input.get("message") {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    if message.trim().is_empty() {
        return Err("`message` is empty; say what the person is asked".to_owned());
    }
    if message.len() > MESSAGE_BYTES {
        return Err(format!("`message` is longer than {MESSAGE_BYTES} bytes; put what is to be approved into `data`"));
    }
    let timeout = match input.get("timeout") {
        None | Some(Value::Null) => APPROVAL_TIMEOUT,
        Some(given) => wait(given, "timeout")?,
    };
    let on_timeout = match input.get("on_timeout") {
        None | Some(Value::Null) => OnTimeout::Reject,
        Some(given) => given
            .as_str()
            .and_then(OnTimeout::from_text)
            .ok_or_else(|| format!("`on_timeout` is {given}; it may be reject, approve or fail"))?,
    };
    Ok(ApprovalRequest { message, data: input.get("data").cloned().unwrap_or_default(), timeout, on_timeout })
}

/// Where an `approval.request` has a person told that something waits for them, beside the inbox. No part of what is
/// approved.
///
/// # Errors
/// As [`wait_for`].
pub fn approval_channel(input: &Value) -> Result<Option<&str>, String> {
    match input.get("channel") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if !name.trim().is_empty() => Ok(Some(name)),
        Some(other) => Err(format!("`channel` is {other}; it is the name of a channel, such as `me`")),
    }
}

fn wait(given: &Value, field: &str) -> Result<Duration, String> {
    let duration = match given {
        Value::Number(seconds) if seconds.is_u64() => Duration::from_secs(seconds.as_u64().unwrap_or_default()),
        Value::String(text) => parse_duration(text).map_err(|why| format!("`{field}`: {why}"))?,
        other => return Err(format!("`{field}` is {other}, which is no duration; write 90s, 15m, 2h or 3d")),
    };
    if duration.is_zero() {
        return Err(format!("`{field}` is nothing at all; write 90s, 15m, 2h or 3d"));
    }
    if duration > LONGEST_WAIT {
        return Err(format!(
            "`{field}` is {}, longer than the {} that a run may wait; schedule a task for then instead",
            short(duration),
            short(LONGEST_WAIT)
        ));
    }
    Ok(duration)
}

/// Judges what is written out; what a template will give is judged at the call. Types and required fields are the
/// input schema's.
pub(crate) fn judge(uses: &str, input: &Value, path: &str, faults: &mut Faults) {
    let is_known = |name: &str| match input.get(name) {
        Some(Value::String(text)) => !has_template(text) && !text.is_empty(),
        Some(value) => value.is_u64(),
        None => false,
    };
    let mut judge = |name: &str, read: Result<(), String>, suggestion: &str| {
        if let Err(why) = read {
            faults.push(Fault::new(child(path, name), FaultCode::BadInput, why).suggest(suggestion));
        }
    };
    match uses {
        "wait.for" if is_known("duration") => judge("duration", wait_for(input).map(drop), "2h"),
        "wait.until" if is_known("until") => judge("until", wait_until(input).map(drop), "2027-01-31T09:00"),
        "approval.request" if is_known("timeout") => {
            judge("timeout", wait(&input["timeout"], "timeout").map(drop), "24h");
        }
        _ => {}
    }
}

/// Where a step stands that may not park its run there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    Foreach,
    Parallel,
    OnFailure,
}

/// Judges whether a step may stand where it does.
///
/// # Errors
/// It waits, and cannot there; the fault says what to do instead.
pub(crate) fn judge_place(uses: &str, inside: Inside, path: &str) -> Result<(), Fault> {
    let waits = matches!(uses, "wait.for" | "wait.until" | "approval.request");
    let message = match inside {
        Inside::Foreach if waits => format!(
            "`{uses}` cannot stand in a `foreach`; put it before the step that has it, or give the list to one \
             approval as `data`, or start a task for each item with `task.run`"
        ),
        Inside::Parallel if waits => format!(
            "`{uses}` cannot stand in a `parallel` group; put it before or after the group, or into a task of its own \
             that `task.run` starts here"
        ),
        Inside::OnFailure if waits || uses == "task.run" => format!(
            "`{uses}` waits, and on_failure cannot; publish an event with `event.publish` that another task listens to"
        ),
        Inside::Foreach | Inside::Parallel | Inside::OnFailure => return Ok(()),
    };
    Err(Fault::new(child(path, "uses"), FaultCode::InvalidValue, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wait_is_positive_and_at_most_a_year() {
        assert_eq!(wait_for(&json!({"duration": "1h30m"})), Ok(Duration::from_mins(90)));
        assert_eq!(wait_for(&json!({"duration": 90})), Ok(Duration::from_secs(90)));
        for wrong in [json!("0s"), json!(0), json!("367d"), json!("-5m"), json!("1 month"), json!(null), json!(1.5)] {
            assert!(wait_for(&json!({"duration": wrong})).unwrap_err().contains("duration"), "{wrong}");
        }
    }

    #[test]
    fn the_end_of_a_wait_is_an_instant_or_a_local_time_of_the_tasks_zone() {
        let zone = Zone::find("Europe/Chisinau").unwrap();
        for (text, instant) in [
            ("2027-01-31T09:00:00Z", "2027-01-31T09:00:00Z"),
            ("2027-01-31T09:00:00+02:00", "2027-01-31T07:00:00Z"),
            ("2027-01-31T09:00", "2027-01-31T07:00:00Z"),
            ("2027-01-31 09:00", "2027-01-31T07:00:00Z"),
            // In the spring gap: forward by it. In the autumn fold: the first pass.
            ("2027-03-28T02:30", "2027-03-28T00:30:00Z"),
            ("2027-10-31T02:30", "2027-10-30T23:30:00Z"),
        ] {
            let until = wait_until(&json!({"until": text})).unwrap();
            assert_eq!(until.instant(&zone), Some(instant.parse().unwrap()), "{text}");
        }
        for wrong in ["tomorrow", "18:00", "2027-01-31", "", "2027-13-01T00:00"] {
            assert!(wait_until(&json!({"until": wrong})).unwrap_err().contains("until"), "{wrong}");
        }
    }

    #[test]
    fn an_approval_has_a_message_and_waits_a_day_and_then_counts_as_rejected_unless_told_otherwise() {
        let asked = approval_request(&json!({"message": "Send?", "data": [1, 2]})).unwrap();
        assert_eq!((asked.timeout, asked.on_timeout), (Duration::from_hours(24), OnTimeout::Reject));
        let asked = approval_request(&json!({"message": "Send?", "timeout": "2h", "on_timeout": "fail"})).unwrap();
        assert_eq!((asked.timeout, asked.on_timeout), (Duration::from_hours(2), OnTimeout::Fail));
        for wrong in [json!({}), json!({"message": " "}), json!({"message": "x", "on_timeout": "shrug"})] {
            assert!(approval_request(&wrong).is_err(), "{wrong}");
        }
        assert!(approval_request(&json!({"message": "x".repeat(5000)})).unwrap_err().contains("data"));
    }
}
