//! Judges what steps name: actions, inputs, templates, references, schemas.

mod references;
mod secrets;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::Url;

use crate::{
    action::{
        self, Catalogue,
        parking::{Inside, judge_place},
    },
    budget::Owner,
    condition,
    fault::{Fault, FaultCode, Faults, child},
    limits::Limits,
    template::{Expression, Part, has_template, split},
};

use self::secrets::SecretPlace;
use super::{Element, Step, expect};

/// What steps are judged against.
pub(crate) struct Checker<'a> {
    params: &'a Map<String, Value>,
    catalogue: &'a Catalogue,
    limits: &'a Limits,
    /// Every name that gives an output, with the places of the steps that give it.
    names: BTreeMap<&'a str, Vec<usize>>,
    groups: Vec<&'a str>,
    /// Where the request of the step at hand goes, where that is written out.
    destination: Option<Url>,
    /// Whose budget of cost the models have to have prices for.
    pub(crate) priced_for: Option<Owner>,
    pub(crate) faults: &'a mut Faults,
    pub(crate) warnings: &'a mut Vec<String>,
}

/// What a `dedupe_key` may name: it is rendered before anything runs.
const KEY_NAMES: [&str; 3] = ["params", "event", "task"];

/// Where an expression stands, which decides what it may name.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The element of the pipeline; steps of `on_failure` come after all of them.
    position: usize,
    in_foreach: bool,
    on_failure: bool,
    /// In `event_filter`, where what the event carries is meant more often than not.
    of_event: bool,
    secrets: SecretPlace,
}

/// Before any step.
const BEFORE: Place =
    Place { position: 0, in_foreach: false, on_failure: false, of_event: false, secrets: SecretPlace::None };

impl<'a> Checker<'a> {
    pub(crate) fn new(
        pipeline: &'a [Element],
        on_failure: &'a [Step],
        params: &'a Map<String, Value>,
        catalogue: &'a Catalogue,
        limits: &'a Limits,
        faults: &'a mut Faults,
        warnings: &'a mut Vec<String>,
    ) -> Self {
        let mut names: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let members =
            pipeline.iter().enumerate().flat_map(|(at, element)| element.steps().iter().map(move |s| (at, s)));
        let handlers = on_failure.iter().enumerate().map(|(n, step)| (pipeline.len() + n, step));
        for (position, step) in members.chain(handlers) {
            for name in step.names() {
                names.entry(name).or_default().push(position);
            }
        }
        let groups = pipeline
            .iter()
            .filter_map(|element| match element {
                Element::Parallel(group) => Some(group.id.as_str()),
                Element::Step(_) => None,
            })
            .collect();
        Self { params, catalogue, limits, names, groups, destination: None, priced_for: None, faults, warnings }
    }

    pub(crate) fn pipeline(&mut self, pipeline: &[Element], path: &str) {
        for (position, element) in pipeline.iter().enumerate() {
            match element {
                Element::Step(step) => self.step(step, &format!("{path}[{position}]"), position, None),
                Element::Parallel(group) => {
                    for (n, step) in group.parallel.iter().enumerate() {
                        self.step(step, &format!("{path}[{position}].parallel[{n}]"), position, Some(Inside::Parallel));
                    }
                }
            }
        }
    }

    pub(crate) fn on_failure(&mut self, steps: &[Step], after: usize, path: &str) {
        for (n, step) in steps.iter().enumerate() {
            self.step(step, &format!("{path}[{n}]"), after + n, Some(Inside::OnFailure));
        }
    }

    /// The scope's names in `event_filter`: no step has run.
    pub(crate) fn event_filter(&mut self, text: &str, path: &str) {
        self.bare(text, path, Place { of_event: true, ..BEFORE });
    }

    /// The templates of a `dedupe_key`.
    pub(crate) fn dedupe_key(&mut self, text: &str, path: &str, has_event: bool) {
        let (found, named) = (self.faults.as_slice().len(), names(text));
        self.text(text, path, BEFORE);
        if self.faults.as_slice().len() > found {
            return;
        }
        if let Some(other) = named.iter().find(|name| !KEY_NAMES.contains(&name.as_str())) {
            let message = format!(
                "`{other}` is not known when the key is judged, before the run starts; a `dedupe_key` may name {}",
                KEY_NAMES.join(", ")
            );
            self.faults.add(path, FaultCode::UnknownReference, message);
        } else if !has_event && named.iter().any(|name| name == "event") {
            self.warnings.push(format!(
                "{path}: `event` is null in a run that no event started, and a key that is null leaves out nothing"
            ));
        }
    }

    /// The channel that unread messages go to: judged as a step that sends there is.
    pub(crate) fn escalation(&mut self, channel: &str, path: &str) {
        let with = serde_json::json!({ "channel": channel });
        if let Err(fault) = action::judge_need("notify.send", &with, path, self.catalogue) {
            self.faults.push(Fault { path: path.to_owned(), ..fault });
            return;
        }
        // The inbox is where the message lies unread already.
        let kind = self.catalogue.offered.channels.get(channel).map_or("inbox", String::as_str);
        if kind == "inbox" {
            self.warnings.push(format!(
                "{path}: the channel `{channel}` is the inbox itself, so nothing leaves this machine; name another channel, or \
                 a person redirects `me` with `ordinaut channel add me …`"
            ));
        }
    }

    fn step(&mut self, step: &Step, path: &str, position: usize, inside: Option<Inside>) {
        let outside = Place { position, on_failure: inside == Some(Inside::OnFailure), ..BEFORE };
        let foreach = step.foreach.as_ref().map(|_| Inside::Foreach);
        if let Some(Err(fault)) = inside.or(foreach).map(|inside| judge_place(&step.uses, inside, path)) {
            self.faults.push(fault);
        }
        let each = Place { in_foreach: step.foreach.is_some(), ..outside };
        let with = child(path, "with");
        if !step.uses.is_empty() {
            let judged = action::judge_name(&step.uses, &child(path, "uses"), self.catalogue).and_then(|warning| {
                self.warnings.extend(warning);
                action::judge_need(&step.uses, &step.with, &with, self.catalogue)?;
                match self.priced_for {
                    Some(owner) => action::judge_price(&step.uses, &step.with, &with, self.catalogue, owner),
                    None => Ok(()),
                }
            });
            self.faults.extend(judged.err());
        }
        action::judge_input(&step.uses, &step.with, &with, self.catalogue, self.faults);
        if let Some(text) = &step.condition {
            self.bare(text, &child(path, "if"), outside);
        }
        if let Some(text) = &step.foreach {
            self.foreach(text, &child(path, "foreach"), outside);
        }
        self.with(step, &with, each);
        if let Some(Err(why)) = step.expect.as_ref().map(expect::compile) {
            self.faults.add(
                child(path, "expect"),
                FaultCode::BadSchema,
                format!("`expect` is no JSON Schema (2020-12, without references to other documents): {why}"),
            );
        }
    }

    fn foreach(&mut self, text: &str, path: &str, place: Place) {
        self.bare(text, path, place);
        let written =
            text.strip_prefix('`').and_then(|rest| serde_json::from_str::<Vec<Value>>(rest.trim_end_matches('`')).ok());
        if let Some(items) = written.filter(|items| items.len() > self.limits.foreach_items) {
            let message = format!("{} items; a `foreach` goes over at most {}", items.len(), self.limits.foreach_items);
            self.faults.add(path, FaultCode::Limit, message);
        }
    }

    /// The templates of `with`, and the fields of `data.*` that are expressions themselves.
    fn with(&mut self, step: &Step, path: &str, place: Place) {
        let Value::Object(fields) = &step.with else { return };
        self.destination = secrets::destination(&step.uses, fields);
        for (key, value) in fields {
            let at = child(path, key);
            match (step.uses.as_str(), key.as_str(), value) {
                ("data.transform", "expr", Value::String(text)) if fields.contains_key("input") => {
                    match Expression::bare(text) {
                        Err(error) => self.faults.push(condition::fault(&at, &error)),
                        Ok(expression) if expression.calls_basic_auth() => self.faults.push(secrets::misplaced(&at)),
                        Ok(_) => {}
                    }
                }
                ("data.transform", "expr", Value::String(text)) | ("data.assert", "that", Value::String(text)) => {
                    self.bare(text, &at, place);
                }
                _ => {
                    let secrets = SecretPlace::of(&step.uses, key, value);
                    self.templates(value, &at, Place { secrets, ..place });
                }
            }
        }
        self.destination = None;
    }

    fn templates(&mut self, value: &Value, path: &str, place: Place) {
        match value {
            Value::String(text) => self.text(text, path, place),
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.templates(item, &format!("{path}[{n}]"), place);
                }
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    self.templates(field, &child(path, key), place);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, text: &str, path: &str, place: Place) {
        if !has_template(text) {
            return;
        }
        match split(text) {
            Err(unclosed) => self.faults.add(path, FaultCode::BadTemplate, unclosed.to_string()),
            Ok(parts) => {
                for part in parts {
                    match part {
                        Part::Text(_) => {}
                        Part::Template { source, .. } => self.expression(Expression::parse(source), path, place),
                    }
                }
            }
        }
    }

    fn bare(&mut self, text: &str, path: &str, place: Place) {
        self.expression(Expression::bare(text), path, place);
    }

    fn expression(&mut self, read: Result<Expression, crate::template::ExpressionError>, path: &str, place: Place) {
        match read {
            Err(error) => self.faults.push(condition::fault(path, &error)),
            Ok(expression) => match expression.secret_use() {
                Some(used) => {
                    self.secrets(&used, path, place.secrets);
                    self.references(used.references(), path, place);
                }
                None if expression.calls_basic_auth() => self.faults.push(secrets::misplaced(path)),
                None => self.references(expression.references(), path, place),
            },
        }
    }
}

/// What the templates of a text name; nothing where it cannot be read.
fn names(text: &str) -> Vec<String> {
    let parts = split(text).unwrap_or_default();
    let sources = parts.into_iter().filter_map(|part| match part {
        Part::Text(_) => None,
        Part::Template { source, .. } => Expression::parse(source).ok(),
    });
    sources.flat_map(|expression| expression.references()).map(|reference| reference.name).collect()
}
