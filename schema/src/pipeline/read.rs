//! Steps out of untrusted JSON, defaults filled in.
//!
//! What is wrong is noted and stood in for, so that every step keeps its place and the rest can still be judged.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use crate::{
    fault::{Fault, FaultCode, Faults},
    fields::{Fields, Synonyms, kind_of},
    limits::Limits,
    retry::{Backoff, Retry},
    run::ErrorKind,
};

use super::{Element, OnError, Parallel, Step};

const STEP_SYNONYMS: Synonyms = &[
    ("action", "uses"),
    ("type", "uses"),
    ("tool", "uses"),
    ("name", "id"),
    ("args", "with"),
    ("arguments", "with"),
    ("input", "with"),
    ("params", "with"),
    ("when", "if"),
    ("condition", "if"),
    ("loop", "foreach"),
    ("for_each", "foreach"),
    ("output", "save_as"),
    ("as", "save_as"),
    ("retries", "retry"),
    ("max_retries", "retry"),
    ("continue_on_error", "on_error"),
    ("schema", "expect"),
];

const GROUP_SYNONYMS: Synonyms = &[("steps", "parallel"), ("name", "id")];

/// Calls of one `foreach` that may be out at once.
const MAX_PARALLEL: u32 = 100;

/// What steps are read with.
pub(crate) struct Reader<'a> {
    pub(crate) limits: &'a Limits,
    /// Ids may have `-`: the original's definitions.
    pub(crate) dashes: bool,
    pub(crate) faults: &'a mut Faults,
    /// Where each id was first seen.
    ids: BTreeMap<String, String>,
    /// How many steps were met.
    pub(crate) steps: usize,
    /// The number of the last step in its list: the default ids.
    numbered: usize,
    groups: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(limits: &'a Limits, dashes: bool, faults: &'a mut Faults) -> Self {
        Self { limits, dashes, faults, ids: BTreeMap::new(), steps: 0, numbered: 0, groups: 0 }
    }

    pub(crate) fn pipeline(&mut self, items: &[Value], path: &str) -> Vec<Element> {
        let elements = items
            .iter()
            .enumerate()
            .map(|(n, item)| {
                let path = format!("{path}[{n}]");
                match item.get("parallel") {
                    Some(_) => Element::Parallel(self.group(item, &path)),
                    None => Element::Step(self.step(item, &path, "step")),
                }
            })
            .collect();
        self.numbered = 0;
        elements
    }

    pub(crate) fn on_failure(&mut self, items: &[Value], path: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        for (n, item) in items.iter().enumerate() {
            let path = format!("{path}[{n}]");
            if item.get("parallel").is_some() {
                self.faults.add(&path, FaultCode::InvalidValue, "`on_failure` takes plain steps, no `parallel` group");
            }
            steps.push(self.step(item, &path, "failure"));
        }
        steps
    }

    fn group(&mut self, item: &Value, path: &str) -> Parallel {
        self.groups += 1;
        let empty = Map::new();
        let map = item.as_object().unwrap_or(&empty);
        let mut fields = Fields::new(map, path, self.faults);
        let id = fields.text("id").map(str::to_owned);
        let members = fields.list("parallel").unwrap_or_default();
        let at = fields.at("parallel");
        if members.is_empty() && item.get("parallel").is_some_and(Value::is_array) {
            fields.fault("parallel", FaultCode::InvalidValue, "a `parallel` group needs at least one step");
        }
        fields.finish("a `parallel` group (conditions, loops and retries go on its steps)", GROUP_SYNONYMS);
        let number = self.groups;
        let id = self.identifier(id, || format!("parallel_{number}"), path);
        let mut parallel = Vec::new();
        for (n, member) in members.iter().enumerate() {
            let path = format!("{at}[{n}]");
            if member.get("parallel").is_some() {
                self.faults.add(&path, FaultCode::InvalidValue, "`parallel` groups do not nest; put its steps here");
            } else if self.steps > self.limits.steps {
                // Counted, so that the limit says how many there are, and not read.
                self.steps += 1;
            } else {
                parallel.push(self.step(member, &path, "step"));
            }
        }
        Parallel { id, parallel }
    }

    fn step(&mut self, item: &Value, path: &str, prefix: &str) -> Step {
        self.steps += 1;
        self.numbered += 1;
        let empty = Map::new();
        if !item.is_object() {
            self.faults.add(
                path,
                FaultCode::WrongType,
                format!("a step is an object such as {{uses: http.get, with: {{url: …}}}}, not {}", kind_of(item)),
            );
        }
        let map = item.as_object().unwrap_or(&empty);
        let mut fields = Fields::new(map, path, self.faults);
        let id = fields.text("id").map(str::to_owned);
        let uses = fields.line("uses", 256).unwrap_or_default().to_owned();
        if item.is_object() {
            fields.missing("uses", "name the action, such as `http.get`; `list_actions` shows all");
        }
        let with = fields.object("with").cloned().unwrap_or_default();
        let save_as = fields.text("save_as").map(str::to_owned);
        let condition = condition(&mut fields);
        let foreach = foreach(&mut fields);
        let max_parallel = fields.count("max_parallel", 1..=MAX_PARALLEL);
        if max_parallel.is_some() && !fields.has("foreach") {
            fields.fault(
                "max_parallel",
                FaultCode::InvalidValue,
                "`max_parallel` belongs to a `foreach`, which is not here",
            );
        }
        let timeout = timeout(&mut fields, self.limits);
        let retry = retry(&mut fields);
        let expect = fields.get("expect").cloned();
        let on_error = fields.choice("on_error", OnError::ALL, OnError::as_str).unwrap_or_default();
        let idempotent = fields.flag("idempotent");
        if fields.has("parallel") {
            fields.get("parallel");
        }
        fields.finish("a step", STEP_SYNONYMS);

        let number = self.numbered;
        let id = self.identifier(id, || format!("{prefix}_{number}"), path);
        if let Some(name) = &save_as {
            self.judge_name(name, &format!("{path}.save_as"), "save_as");
        }
        Step {
            id,
            uses,
            with: Value::Object(with),
            save_as,
            condition,
            foreach,
            max_parallel: max_parallel.and_then(|n| u16::try_from(n).ok()),
            timeout,
            retry,
            expect,
            on_error,
            idempotent,
        }
    }

    fn identifier(&mut self, given: Option<String>, default: impl Fn() -> String, path: &str) -> String {
        let at = format!("{path}.id");
        let id = match given {
            Some(id) => {
                self.judge_name(&id, &at, "id");
                id
            }
            None => default(),
        };
        if let Some(first) = self.ids.get(&id) {
            let message = format!("the id `{id}` is taken by {first}; ids are unique over the whole definition");
            let mut others = (2_u32..).map(|n| format!("{id}_{n}"));
            let free = others.find(|other| !self.ids.contains_key(other)).expect("there are fewer ids than numbers");
            self.faults.push(Fault::new(at, FaultCode::DuplicateId, message).suggest(free));
        } else {
            self.ids.insert(id.clone(), path.to_owned());
        }
        id
    }

    fn judge_name(&mut self, name: &str, path: &str, field: &str) {
        if is_name(name, self.dashes) {
            return;
        }
        let mended: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).take(64).collect();
        let fault = Fault::new(
            path,
            FaultCode::InvalidValue,
            format!("`{field}` must be letters, digits and `_`, not start with a digit, at most 64: not `{name}`"),
        );
        self.faults.push(if is_name(&mended, false) { fault.suggest(mended) } else { fault });
    }
}

fn is_name(name: &str, dashes: bool) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || (dashes && b == b'-'))
}

/// `if` is text; a bare `true` or a number is one, too.
fn condition(fields: &mut Fields<'_, '_>) -> Option<String> {
    match fields.get("if")? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Bool(_) | Value::Number(_)) => Some(value.to_string()),
        other => {
            let message = format!("`if` must be a condition such as \"steps.x.count > 3\", not {}", kind_of(other));
            fields.fault("if", FaultCode::WrongType, message);
            None
        }
    }
}

/// `foreach` is an expression; a list written out becomes the literal of it.
fn foreach(fields: &mut Fields<'_, '_>) -> Option<String> {
    match fields.get("foreach")? {
        Value::String(text) => Some(text.clone()),
        list @ Value::Array(_) => Some(format!("`{}`", list.to_string().replace('`', "\\u0060"))),
        other => {
            let message =
                format!("`foreach` must be an expression that gives a list, or a list, not {}", kind_of(other));
            fields.fault("foreach", FaultCode::WrongType, message);
            None
        }
    }
}

fn timeout(fields: &mut Fields<'_, '_>, limits: &Limits) -> Option<Duration> {
    fields.duration("timeout", Duration::from_millis(1)..=limits.step_timeout)
}

/// `retry: {max_attempts, backoff, initial, max, errors}` of a task or a step.
pub(crate) fn retry(fields: &mut Fields<'_, '_>) -> Option<Retry> {
    const LONGEST: Duration = Duration::from_hours(24);
    let default = Retry::default();
    let path = fields.at("retry");
    let map = fields.object("retry")?;
    let mut fields = Fields::new(map, path, fields.faults);
    let max_attempts = fields.count("max_attempts", 1..=100).unwrap_or(default.max_attempts);
    let backoff = backoff(&mut fields, "backoff").unwrap_or(default.backoff);
    let initial = fields.duration("initial", Duration::ZERO..=LONGEST);
    let max = fields.duration("max", Duration::ZERO..=LONGEST);
    let errors = fields.list("errors").unwrap_or_default();
    let at = fields.at("errors");
    let initial = initial.unwrap_or_else(|| max.map_or(default.initial, |max| max.min(default.initial)));
    let max = max.unwrap_or(default.max.max(initial));
    if initial > max {
        fields.fault("initial", FaultCode::InvalidValue, "`initial` is longer than `max`");
    }
    fields.faults.extend(errors.iter().enumerate().filter_map(|(n, error)| judge_error(error, &format!("{at}[{n}]"))));
    let errors = errors.iter().filter_map(|error| ErrorKind::from_text(error.as_str()?)).collect();
    fields.finish(
        "`retry`",
        &[("attempts", "max_attempts"), ("max_retries", "max_attempts"), ("delay", "initial"), ("max_delay", "max")],
    );
    Some(Retry { max_attempts, backoff, initial, max, errors })
}

fn judge_error(error: &Value, path: &str) -> Option<Fault> {
    let allowed = || ErrorKind::ALL.iter().filter(|kind| kind.may_retry()).map(|kind| kind.as_str());
    let text = error.as_str().unwrap_or_default();
    if allowed().any(|word| word == text) {
        return None;
    }
    let words: Vec<_> = allowed().collect();
    let message = match ErrorKind::from_text(text) {
        Some(_) => format!("`{text}` is never retried by itself; a person decides with `retry_run`"),
        None => format!("{} is no kind of error; there are {}", kind_of(error), words.join(", ")),
    };
    let fault = Fault::new(path, FaultCode::InvalidValue, message);
    Some(match crate::fault::nearest(text, words) {
        Some(near) if !text.is_empty() => fault.suggest(near),
        _ => fault,
    })
}

pub(crate) fn backoff(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Backoff> {
    const ALL: [Backoff; 4] = [Backoff::ExponentialJitter, Backoff::Exponential, Backoff::Linear, Backoff::Fixed];
    fields.choice(name, &ALL, |backoff| match backoff {
        Backoff::ExponentialJitter => "exponential_jitter",
        Backoff::Exponential => "exponential",
        Backoff::Linear => "linear",
        Backoff::Fixed => "fixed",
    })
}
