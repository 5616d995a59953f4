//! From step to step, as the engine goes.

use serde_json::{Value, json};

use crate::{
    action::Effect,
    pipeline::{Element, OnError, Step},
    run::{ErrorKind, StepFailure},
    task::TaskSpec,
    template::{Certainty, Fuel},
    time::Zone,
};

use super::{
    Given, Item, Rehearsal, Rehearsed, Verdict,
    call::{Call, from_samples},
    outward::Moment,
    seen::{Called, Output, Seen},
    show,
};

/// How many items of a `foreach` are shown.
pub(super) const ITEMS: usize = 3;
/// What a whole rehearsal may cost: twice what one input may.
const MOST_FUEL: usize = 16 * 1024 * 1024;

pub(super) struct Walk<'a> {
    spec: &'a TaskSpec,
    pub(super) given: &'a Given<'a>,
    pub(super) moment: Moment,
    pub(super) seen: Seen<'a>,
    rehearsal: Rehearsal,
    pub(super) fuel_spent: usize,
    bytes: usize,
    left_out: usize,
    pub(super) in_on_failure: bool,
    /// The step at which the run is sure to have ended before the element at hand.
    ended_at: Option<String>,
}

/// What a step calls over: nothing, a list, or a list that nobody knows yet.
enum Over {
    Once,
    Items(Vec<Value>, Certainty),
    Unknown,
}

impl<'a> Walk<'a> {
    pub(super) fn new(spec: &'a TaskSpec, given: &'a Given<'a>) -> Self {
        let zone = Zone::find(&spec.timezone).unwrap_or_else(Zone::utc);
        Self {
            spec,
            given,
            seen: Seen::new(spec, given, &zone),
            moment: Moment { now: given.now, zone },
            rehearsal: Rehearsal::default(),
            fuel_spent: 0,
            bytes: 0,
            left_out: 0,
            in_on_failure: false,
            ended_at: None,
        }
    }

    pub(super) fn finish(mut self) -> Rehearsal {
        for element in &self.spec.pipeline {
            let group = match element {
                Element::Step(_) => None,
                Element::Parallel(group) => Some(group.id.as_str()),
            };
            // Members of a group never see each other.
            let ended: Vec<_> = element.steps().iter().map(|step| (step, self.step(step, group))).collect();
            for (step, (called, output)) in ended {
                self.seen.note(step, called, &output);
            }
            self.ended_at.clone_from(&self.rehearsal.fails_at);
        }
        (self.in_on_failure, self.ended_at) = (true, None);
        self.seen.forget_steps();
        for step in &self.spec.on_failure {
            let (called, output) = self.step(step, None);
            self.seen.note(step, called, &output);
        }
        if self.left_out > 0 {
            let (count, s) = (self.left_out, if self.left_out == 1 { "" } else { "s" });
            self.rehearsal.left_out = Some(format!(
                "{count} further call{s} not shown: a rehearsal shows at most {} bytes, and renders for a bounded time",
                self.given.most_bytes
            ));
        }
        self.rehearsal
    }

    fn step(&mut self, step: &Step, group: Option<&str>) -> (Called, Output) {
        if self.fuel_spent > MOST_FUEL {
            self.left_out += 1;
            return (Called::Perhaps(None), Output::Unknown);
        }
        let mut entry = self.entry(step, group);
        let called = match self.judge_condition(step, &mut entry) {
            Ok(called) => called,
            Err(failure) => return (Called::Surely, self.fail(entry, step, &failure)),
        };
        if called == Called::Never {
            self.show(entry);
            return (called, Output::Unknown);
        }
        let output = match self.list(step) {
            Ok(Over::Once) => self.call_once(step, entry, called),
            Ok(Over::Items(items, certainty)) => self.call_each(step, &entry, called, items, certainty),
            Ok(Over::Unknown) => {
                let list = show::reason(step.foreach.as_deref().unwrap_or_default());
                entry.notes.push(format!("once for each item of `{list}`, which is not known yet"));
                // It may be empty.
                self.call_once(step, entry, perhaps(called));
                self.sampled(step, None)
            }
            Err(failure) if called == Called::Surely => self.fail(entry, step, &failure),
            Err(failure) => {
                entry.notes.push(format!("if it is called, it fails: {}", show::reason(&failure.message)));
                self.show(entry);
                Output::Unknown
            }
        };
        (called, output)
    }

    fn entry(&self, step: &Step, group: Option<&str>) -> Rehearsed {
        Rehearsed {
            step: step.id.clone(),
            uses: step.uses.clone(),
            group: group.map(str::to_owned),
            item: None,
            verdict: Verdict::WouldCall,
            call: String::new(),
            input: Value::Null,
            from: None,
            idempotent: step.effect(self.given.catalogue) != Effect::Once,
            sample: None,
            notes: self.ended_at.iter().map(|at| format!("not reached: the run ends at `{at}`")).collect(),
        }
    }

    fn judge_condition(&mut self, step: &Step, entry: &mut Rehearsed) -> Result<Called, StepFailure> {
        let Some(text) = &step.condition else { return Ok(Called::Surely) };
        let fuel = Fuel::default();
        let judged = self.seen.with(&fuel, |partial| partial.condition(text));
        self.fuel_spent += fuel.spent();
        let condition = show::reason(text);
        let (holds, certainty) = judged.map_err(|failure| at("if", &failure))?;
        match (certainty, holds) {
            (Certainty::Known, Some(true)) => return Ok(Called::Surely),
            (Certainty::Known, Some(false)) => {
                entry.verdict = Verdict::WouldSkip { condition };
                return Ok(Called::Never);
            }
            (_, Some(holds)) => {
                let holds_so = if holds { "it holds" } else { "it does not hold" };
                entry.notes.push(format!("with the sample data {holds_so}"));
            }
            (_, None) => {}
        }
        entry.verdict = Verdict::Depends { condition };
        Ok(Called::Perhaps(holds))
    }

    fn list(&mut self, step: &Step) -> Result<Over, StepFailure> {
        let Some(text) = &step.foreach else { return Ok(Over::Once) };
        let fuel = Fuel::default();
        let found = self.seen.with(&fuel, |partial| partial.expression(text));
        self.fuel_spent += fuel.spent();
        let (list, certainty) = found.map_err(|failure| at("foreach", &failure))?;
        let most = self.given.limits.foreach_items;
        let failed = |message: String| Err(StepFailure::new(ErrorKind::Template, format!("`foreach`: {message}")));
        match (list, certainty) {
            (Some(Value::Array(items)), _) if items.len() <= most => Ok(Over::Items(items, certainty)),
            (Some(Value::Null), Certainty::Known) => Ok(Over::Items(Vec::new(), certainty)),
            (Some(Value::Array(items)), Certainty::Known) => {
                failed(format!("{} items, more than the {most} allowed", items.len()))
            }
            (Some(other), Certainty::Known) => failed(format!("it must yield a list, not {}", brief(&other))),
            _ => Ok(Over::Unknown),
        }
    }

    fn call_once(&mut self, step: &Step, entry: Rehearsed, called: Called) -> Output {
        self.seen.take_item(None, Certainty::Unknown);
        let call = self.call(step);
        self.show_call(step, entry, called, call)
    }

    /// The first items are shown; those of a pure step are all computed, because later steps see what they come to.
    fn call_each(
        &mut self,
        step: &Step,
        entry: &Rehearsed,
        called: Called,
        items: Vec<Value>,
        list: Certainty,
    ) -> Output {
        let of = items.len();
        if of == 0 {
            let mut entry = entry.clone();
            entry.notes.push("its list is empty: nothing is called".to_owned());
            self.show(entry);
            return Output::Value { value: json!([]), certainty: list, sample: from_samples(list) };
        }
        let is_pure = step.effect(self.given.catalogue) == Effect::Pure;
        let called = if list == Certainty::Known { called } else { perhaps(called) };
        let (mut values, mut certainty, mut is_whole) = (Vec::new(), list, true);
        for (index, item) in items.into_iter().enumerate().take(if is_pure { of } else { ITEMS }) {
            if self.fuel_spent > MOST_FUEL {
                is_whole = false;
                break;
            }
            self.seen.take_item(Some((index, item)), list);
            let call = self.call(step);
            let output = if index < ITEMS || call.fault.is_some() {
                let entry = Rehearsed { item: Some(Item { index, of }), ..entry.clone() };
                self.show_call(step, entry, called, call)
            } else {
                call.output
            };
            match output {
                Output::Value { value, certainty: its, .. } => {
                    values.push(value);
                    certainty = certainty.max(its);
                }
                Output::Unknown => is_whole = false,
            }
        }
        self.seen.take_item(None, Certainty::Unknown);
        if is_pure && is_whole {
            return Output::Value { value: Value::Array(values), certainty, sample: from_samples(certainty) };
        }
        self.sampled(step, Some(of))
    }

    fn show_call(&mut self, step: &Step, mut entry: Rehearsed, called: Called, call: Call) -> Output {
        entry.call = show::reason(&call.outward);
        entry.notes.extend(call.notes);
        if call.fault.is_none() || !call.input.is_null() {
            entry.from = Some(call.certainty.into());
            entry.input = show::input(call.input);
        }
        match call.fault {
            Some(failure) if called == Called::Surely => self.fail(entry, step, &failure),
            Some(failure) => {
                entry.notes.push(format!("if it is called, it fails: {}", show::reason(&failure.message)));
                self.show(entry);
                Output::Unknown
            }
            None => {
                if let Output::Value { sample, .. } = &call.output {
                    entry.sample = *sample;
                }
                self.show(entry);
                call.output
            }
        }
    }

    /// A step that is sure to fail; the run goes on only with `on_error: continue`.
    fn fail(&mut self, mut entry: Rehearsed, step: &Step, failure: &StepFailure) -> Output {
        entry.verdict = Verdict::WouldFail { reason: show::reason(&failure.message) };
        if step.on_error == OnError::Continue {
            entry.notes.push("the run goes on all the same (`on_error: continue`)".to_owned());
            self.show(entry);
            let error = json!({ "kind": failure.kind, "message": failure.message, "step": step.id });
            return Output::Value { value: json!({ "error": error }), certainty: Certainty::Known, sample: None };
        }
        if !self.in_on_failure && self.rehearsal.fails_at.is_none() {
            self.rehearsal.fails_at = Some(step.id.clone());
            // What ends the run is always shown.
            self.rehearsal.calls.push(entry);
        } else {
            self.show(entry);
        }
        Output::Unknown
    }

    fn show(&mut self, entry: Rehearsed) {
        let bytes = serde_json::to_string(&entry).map_or(0, |text| text.len());
        if self.left_out > 0 || self.bytes + bytes > self.given.most_bytes {
            self.left_out += 1;
            return;
        }
        self.bytes += bytes;
        let list = if self.in_on_failure { &mut self.rehearsal.on_failure } else { &mut self.rehearsal.calls };
        list.push(entry);
    }
}

/// What is sure of a list that is known is not of one that is not.
const fn perhaps(called: Called) -> Called {
    match called {
        Called::Surely => Called::Perhaps(None),
        other => other,
    }
}

/// Names the field in which a template failed.
fn at(field: &str, failure: &StepFailure) -> StepFailure {
    StepFailure::new(failure.kind, format!("`{field}`: {}", failure.message))
}

fn brief(value: &Value) -> String {
    show::reason(&value.to_string())
}
