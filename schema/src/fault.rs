//! What is wrong with a definition, where, and what to do about it.
//!
//! A refused definition is answered with every fault at once, so that whoever wrote it (a person or a
//! model) can mend it in one go. Parsers push into [`Faults`] and go on; only the edge turns it into a refusal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One reason why a definition is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where: a JSON path such as `$.pipeline[2].with.url`; `$` is the whole definition.
    pub path: String,
    /// What kind, for programs: `unknown_action`, `bad_cron`, `timezone_required`, …
    pub code: FaultCode,
    /// What is wrong, naming the offending text, and what would be right.
    pub message: String,
    /// The nearest valid form, ready to be put in its place, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Fault {
    pub fn new(path: impl Into<String>, code: FaultCode, message: impl Into<String>) -> Self {
        Self { path: path.into(), code, message: message.into(), suggestion: None }
    }

    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (try {suggestion})"),
            None => Ok(()),
        }
    }
}

/// The kinds of [`Fault`], in the order in which a definition is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// Neither JSON nor YAML.
    Syntax,
    UnknownField,
    MissingField,
    WrongType,
    /// Well-formed, but outside what the field allows.
    InvalidValue,
    /// A configured limit is passed; the message names it.
    Limit,
    TimezoneRequired,
    UnknownTimezone,
    BadCron,
    BadRrule,
    BadInstant,
    BadInterval,
    BadTopic,
    /// A `once` instant, `starts_at` or `ends_at` that has gone by.
    InThePast,
    /// The schedule yields no occurrence at all.
    NeverFires,
    UnknownAction,
    /// A channel, a model, a command or a secret that the operator did not configure.
    NotConfigured,
    /// It exists, and the agent's grants do not allow it.
    NotGranted,
    /// A tool of an MCP server that is not what was accepted of it any more.
    ToolChanged,
    UnknownReference,
    BadTemplate,
    BadExpression,
    BadSchema,
    /// `with` does not fit the action's input schema.
    BadInput,
    DuplicateId,
}

/// The faults found so far; empty means valid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// As many as anybody mends in one go; the rest of a hostile definition's are dropped.
    pub const MOST: usize = 200;

    pub fn push(&mut self, fault: Fault) {
        if self.0.len() < Self::MOST {
            self.0.push(fault);
        }
    }

    pub fn add(&mut self, path: impl Into<String>, code: FaultCode, message: impl Into<String>) {
        self.push(Fault::new(path, code, message));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }

    /// `value` when nothing was found, else everything that was.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl Extend<Fault> for Faults {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        faults.into_iter().for_each(|fault| self.push(fault));
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The candidate nearest to `wrong`, when it is near enough to be a slip.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let length = wrong.chars().count();
    let near = |candidate: &'a str| {
        let chars = candidate.chars().count();
        let most = (chars / 3).clamp(1, 3);
        // The distance costs the product of both lengths, and is at least their difference.
        (chars.abs_diff(length) <= most)
            .then(|| (strsim::damerau_levenshtein(&wrong, &candidate.to_lowercase()), candidate))
            .filter(|(distance, _)| *distance <= most)
    };
    candidates.into_iter().filter_map(near).min().map(|(_, candidate)| candidate)
}

/// The path of a field: `$.with.url`, or `$.headers["X-Key"]` where the key is no plain name.
pub fn child(path: &str, key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain { format!("{path}.{key}") } else { format!("{path}[{}]", serde_json::Value::from(key)) }
}
