//! Reads what a tool was called with, noting every fault on the way.
//!
//! A getter answers `None` for what is absent, `null` or wrong; when it is wrong the fault is noted. What no getter
//! asked for is refused by [`Arguments::finish`], with the name that was meant where one is near.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use jiff::{Timestamp, civil::DateTime};
use ordinaut_schema::{
    fault::{Fault, FaultCode, Faults, child, nearest},
    time::{Zone, parse_duration, short},
};
use serde_json::{Map, Value};

use crate::error::{Refusal, ToolError};

#[derive(Debug)]
pub(super) struct Arguments {
    map: Map<String, Value>,
    known: Vec<&'static str>,
    faults: Faults,
}

impl Arguments {
    pub(super) fn new(map: Map<String, Value>) -> Self {
        Self { map, known: Vec::new(), faults: Faults::default() }
    }

    /// Everything that was not taken: for tools whose arguments are judged elsewhere.
    pub(super) fn take_rest(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.map)
    }

    /// The faults noted so far.
    pub(super) fn take_faults(&mut self) -> Faults {
        std::mem::take(&mut self.faults)
    }

    pub(super) fn any(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn fault(&mut self, name: &str, code: FaultCode, message: impl Into<String>) {
        self.faults.add(child("$", name), code, message);
    }

    fn wrong(&mut self, name: &str, wanted: &str, given: &Value) {
        self.fault(name, FaultCode::WrongType, format!("`{name}` must be {wanted}, not {}", shown(given)));
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        match self.any(name)? {
            Value::String(text) if text.trim().is_empty() => {
                self.fault(name, FaultCode::InvalidValue, format!("`{name}` is empty; leave it out or fill it in"));
                None
            }
            Value::String(text) => Some(text.trim().to_owned()),
            other => {
                self.wrong(name, "a text", &other);
                None
            }
        }
    }

    /// Notes that an argument is not there, unless it is and was found wrong.
    pub(super) fn missing(&mut self, name: &str, what: &str) {
        let path = child("$", name);
        if !self.faults.as_slice().iter().any(|fault| fault.path == path) {
            self.fault(name, FaultCode::MissingField, format!("`{name}` is missing: {what}"));
        }
    }

    /// A text that must be there; empty stands for a fault.
    pub(super) fn needed(&mut self, name: &'static str, what: &str) -> String {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.known.push(name);
            self.fault(name, FaultCode::MissingField, format!("`{name}` is missing: {what}"));
            return String::new();
        }
        self.text(name).unwrap_or_default()
    }

    /// A text of at most `most` characters that names a request.
    pub(super) fn key(&mut self, name: &'static str) -> Option<String> {
        const MOST: usize = 200;
        let text = self.text(name)?;
        if text.chars().count() > MOST || text.contains(char::is_control) {
            self.fault(name, FaultCode::Limit, format!("`{name}` must be one line of at most {MOST} characters"));
            return None;
        }
        Some(text)
    }

    /// A text that must be there, read as something; `None` stands for a fault.
    pub(super) fn needed_parsed<T: FromStr>(&mut self, name: &'static str, what: &str) -> Option<T> {
        let text = self.needed(name, what);
        let read = text.parse().ok();
        if read.is_none() && !text.is_empty() {
            self.fault(name, FaultCode::InvalidValue, format!("`{text}` is not {what}"));
        }
        read
    }

    /// A text that may be there, read as something.
    pub(super) fn optional_parsed<T: FromStr>(&mut self, name: &'static str, what: &str) -> Option<T> {
        let text = self.text(name)?;
        let read = text.parse().ok();
        if read.is_none() {
            self.fault(name, FaultCode::InvalidValue, format!("`{text}` is not {what}"));
        }
        read
    }

    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        match self.any(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => {
                self.wrong(name, "true or false", &other);
                false
            }
        }
    }

    pub(super) fn count(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.any(name)?;
        let number = match &value {
            Value::String(text) => text.trim().parse().ok(),
            Value::Number(number) => {
                number.as_u64().or_else(|| number.as_f64().filter(|it| it.fract() == 0.0).and_then(whole))
            }
            _ => None,
        };
        let found = number.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number));
        if found.is_none() {
            self.wrong(name, &format!("a whole number from {} to {}", range.start(), range.end()), &value);
        }
        found
    }

    pub(super) fn object(&mut self, name: &'static str) -> Option<Map<String, Value>> {
        match unquoted(self.any(name)?) {
            Value::Object(map) => Some(map),
            other => {
                self.wrong(name, "an object", &other);
                None
            }
        }
    }

    /// A list of texts; one alone stands for a list of it.
    pub(super) fn texts(&mut self, name: &'static str) -> Vec<String> {
        match self.any(name).map(unquoted) {
            None => Vec::new(),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(other) => {
                self.wrong(name, "a list of texts", &other);
                Vec::new()
            }
        }
    }

    /// Words out of a closed set.
    pub(super) fn choices<T: Copy>(
        &mut self,
        name: &'static str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Vec<T> {
        let words: Vec<&str> = all.iter().map(|it| word(*it)).collect();
        let given = self.texts(name);
        let mut found = Vec::new();
        for text in given {
            if let Some(choice) = all.iter().copied().find(|it| word(*it).eq_ignore_ascii_case(text.trim())) {
                found.push(choice);
                continue;
            }
            let fault = Fault::new(
                child("$", name),
                FaultCode::InvalidValue,
                format!("`{name}` is one of {}, not `{text}`", words.join(", ")),
            );
            self.faults.push(match nearest(&text, words.iter().copied()) {
                Some(near) => fault.suggest(near),
                None => fault,
            });
        }
        found
    }

    pub(super) fn duration(&mut self, name: &'static str) -> Option<Duration> {
        let text = match self.any(name)? {
            Value::String(text) => text,
            Value::Number(seconds) if seconds.is_u64() => format!("{seconds}s"),
            other => {
                self.wrong(name, "a duration such as `90s` or `2d`", &other);
                return None;
            }
        };
        parse_duration(&text).map_err(|why| self.fault(name, FaultCode::InvalidValue, why)).ok()
    }

    /// An instant as it was written; read it with [`instant`] once the zone is known.
    pub(super) fn instant(&mut self, name: &'static str) -> Option<Written> {
        self.text(name).map(|text| Written { name, text })
    }

    /// Refuses everything that is wrong so far, and whatever was not asked for.
    pub(super) fn finish(&mut self, tool: &str) -> Result<(), ToolError> {
        let unknown: Vec<Fault> = self
            .map
            .keys()
            .map(|name| {
                let takes = if self.known.is_empty() {
                    "it takes no arguments".to_owned()
                } else {
                    format!("it takes {}", self.known.join(", "))
                };
                let message = format!("`{tool}` has no argument `{name}`; {takes}");
                let fault = Fault::new(child("$", name), FaultCode::UnknownField, message);
                match nearest(name, self.known.iter().copied()) {
                    Some(near) => fault.suggest(near),
                    None => fault,
                }
            })
            .collect();
        self.faults.extend(unknown);
        match self.take_faults() {
            faults if faults.is_empty() => Ok(()),
            faults => Err(wrong_arguments(faults)),
        }
    }
}

/// The refusal of arguments that are not what a tool takes.
pub(super) fn wrong_arguments(faults: impl Into<Faults>) -> ToolError {
    let faults = faults.into();
    let message = match faults.as_slice() {
        [only] => only.message.clone(),
        all => format!("{} arguments are wrong", all.len()),
    };
    let next = "Nothing was done. Mend what is listed and call again.";
    Refusal::new("invalid_arguments", message, next).with_faults(faults).into()
}

/// Text of an instant, and the argument it came in.
#[derive(Debug, Clone)]
pub(super) struct Written {
    name: &'static str,
    text: String,
}

impl Written {
    /// Reads RFC 3339, a civil time in `zone`, or a delay from `now` (`+2d`).
    pub(super) fn read(&self, zone: &Zone, now: Timestamp) -> Result<Timestamp, ToolError> {
        let Self { name, text } = self;
        let fault = |message: String| Fault::new(child("$", name), FaultCode::BadInstant, message);
        let wrong = |message: String| wrong_arguments(fault(message));
        if let Some(delay) = text.strip_prefix('+') {
            let delay = parse_duration(delay).map_err(wrong)?;
            return now.checked_add(delay).map_err(|_| wrong(format!("`{text}` is too far in time")));
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(at);
        }
        let civil = text.parse::<DateTime>().map_err(|_| {
            let fault = fault(format!(
                "`{text}` is not an instant; write `2027-01-31T09:00` ({}), `2027-01-31T09:00:00+02:00` or `+2d`",
                zone.name()
            ));
            // How long from now, said without the sign.
            wrong_arguments(match parse_duration(text) {
                Ok(delay) => fault.suggest(format!("+{}", short(delay))),
                Err(_) => fault,
            })
        })?;
        zone.rules()
            .to_ambiguous_timestamp(civil)
            .compatible()
            .map_err(|_| wrong(format!("`{text}` is outside the calendar")))
    }
}

/// A list or an object that a model put into quotes.
pub(super) fn unquoted(value: Value) -> Value {
    match &value {
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => match serde_json::from_str(text) {
            Ok(meant @ (Value::Object(_) | Value::Array(_))) => meant,
            _ => value,
        },
        _ => value,
    }
}

fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie within u32")]
    (0.0..=f64::from(u32::MAX)).contains(&number).then_some(number as u64)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "a long text".to_owned(),
        Value::String(text) => format!("the text `{text}`"),
        other => other.to_string(),
    }
}
