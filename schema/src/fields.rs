//! Reads the fields of an untrusted object, collecting every fault on the way.
//!
//! A getter answers `None` for a field that is absent, `null` or wrong; when it is wrong the fault is already noted.
//! [`Fields::finish`] refuses what no getter asked for, so that the list of known fields is the code that reads them.

use std::{ops::RangeInclusive, time::Duration};

use serde_json::{Map, Value};

use crate::{
    budget::Cost,
    fault::{Fault, FaultCode, Faults, child, nearest},
    time::parse_duration,
};

#[derive(Debug)]
pub(crate) struct Fields<'a, 'f> {
    map: &'a Map<String, Value>,
    path: String,
    known: Vec<&'static str>,
    pub(crate) faults: &'f mut Faults,
}

/// How many unknown fields of one object are named.
const SHOWN: usize = 20;

/// Words that people write for a field: `(written, meant)`.
pub(crate) type Synonyms = &'static [(&'static str, &'static str)];

impl<'a, 'f> Fields<'a, 'f> {
    pub(crate) fn new(map: &'a Map<String, Value>, path: impl Into<String>, faults: &'f mut Faults) -> Self {
        Self { map, path: path.into(), known: Vec::new(), faults }
    }

    pub(crate) fn at(&self, name: &str) -> String {
        child(&self.path, name)
    }

    pub(crate) fn fault(&mut self, name: &str, code: FaultCode, message: impl Into<String>) {
        self.faults.add(child(&self.path, name), code, message);
    }

    pub(crate) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn missing(&mut self, name: &str, what: &str) {
        if !self.has(name) {
            self.fault(name, FaultCode::MissingField, format!("`{name}` is missing: {what}"));
        }
    }

    fn wrong(&mut self, name: &str, wanted: &str, given: &Value) {
        self.fault(name, FaultCode::WrongType, format!("`{name}` must be {wanted}, not {}", kind_of(given)));
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.get(name)?;
        if value.as_str().is_none() {
            self.wrong(name, "a text (in quotes)", value);
        }
        value.as_str()
    }

    /// A text that is not blank, at most `most` characters long, without control characters.
    pub(crate) fn line(&mut self, name: &'static str, most: usize) -> Option<&'a str> {
        let text = self.text(name)?.trim();
        let length = text.chars().count();
        if text.is_empty() {
            self.fault(name, FaultCode::InvalidValue, format!("`{name}` is empty"));
        } else if length > most {
            self.fault(name, FaultCode::Limit, format!("`{name}` has {length} characters; at most {most} are allowed"));
        } else if text.contains(char::is_control) {
            self.fault(name, FaultCode::InvalidValue, format!("`{name}` must be one line without control characters"));
        } else {
            return Some(text);
        }
        None
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let value = self.get(name)?;
        if value.as_bool().is_none() {
            self.wrong(name, "true or false", value);
        }
        value.as_bool()
    }

    pub(crate) fn count(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.get(name)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|n| range.contains(n));
        if number.is_none() {
            let wanted = format!("a whole number from {} to {}", range.start(), range.end());
            if value.is_number() {
                self.fault(name, FaultCode::InvalidValue, format!("`{name}` must be {wanted}, not {value}"));
            } else {
                self.wrong(name, &wanted, value);
            }
        }
        number
    }

    /// An amount of money above nothing.
    pub(crate) fn amount(&mut self, name: &'static str) -> Option<Cost> {
        let value = self.get(name)?;
        let amount = value.as_f64().and_then(Cost::of).filter(|amount| *amount > Cost::ZERO);
        if amount.is_none() {
            self.wrong(name, "an amount of money, a number above 0", value);
        }
        amount
    }

    /// A duration: text such as `90s`, or a whole number of seconds.
    pub(crate) fn duration(&mut self, name: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.get(name)?;
        let read = match value {
            Value::String(text) => match text.trim().parse() {
                Ok(seconds) => Ok(Duration::from_secs(seconds)),
                Err(_) => parse_duration(text),
            },
            Value::Number(number) if number.is_u64() => Ok(Duration::from_secs(number.as_u64().unwrap_or_default())),
            other => {
                self.wrong(name, "a duration such as `90s`, `15m`, or a whole number of seconds", other);
                return None;
            }
        };
        match read {
            Err(why) => self.fault(name, FaultCode::InvalidValue, why),
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(duration) => {
                let [given, least, most] = [duration, *range.start(), *range.end()].map(crate::time::short);
                self.fault(name, FaultCode::Limit, format!("`{name}` must be from {least} to {most}, not {given}"));
            }
        }
        None
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.text(name)?;
        let wanted = text.trim();
        let found = all.iter().copied().find(|it| word(*it) == wanted);
        if found.is_none() {
            let words: Vec<_> = all.iter().map(|it| word(*it)).collect();
            let fault = Fault::new(
                self.at(name),
                FaultCode::InvalidValue,
                format!("`{name}` must be one of {}, not `{text}`", words.join(", ")),
            );
            self.faults.push(match nearest(wanted, words) {
                Some(near) => fault.suggest(near),
                None => fault,
            });
        }
        found
    }

    pub(crate) fn object(&mut self, name: &'static str) -> Option<&'a Map<String, Value>> {
        let value = self.get(name)?;
        if value.as_object().is_none() {
            self.wrong(name, "an object", value);
        }
        value.as_object()
    }

    pub(crate) fn list(&mut self, name: &'static str) -> Option<&'a [Value]> {
        let value = self.get(name)?;
        if value.as_array().is_none() {
            self.wrong(name, "a list", value);
        }
        value.as_array().map(Vec::as_slice)
    }

    /// Refuses every field that was not asked for.
    pub(crate) fn finish(self, what: &str, synonyms: Synonyms) {
        for name in self.map.keys().filter(|name| !self.known.contains(&name.as_str())).take(SHOWN) {
            let meant = synonyms.iter().find(|(written, _)| written == name).map(|(_, meant)| *meant);
            let near = meant.or_else(|| nearest(name, self.known.iter().copied()));
            let fault = Fault::new(
                child(&self.path, name),
                FaultCode::UnknownField,
                format!("{what} has no field `{name}`; it has {}", self.known.join(", ")),
            );
            self.faults.push(match near {
                Some(near) => fault.suggest(near),
                None => fault,
            });
        }
    }
}

/// What a value is, as a fault says it.
pub(crate) fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() > 40 => "a text".to_owned(),
        Value::String(text) => format!("the text `{text}`"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
