//! One call of a step: rendered, then computed where that is pure, else looked at and not made.

use serde_json::{Value, json};

use crate::{
    action::{Effect, data},
    pipeline::{Step, judge_output},
    run::{ErrorKind, StepFailure, StepState},
    secret::mark,
    template::{Certainty, Fuel},
};

use super::{
    SampleOf, outward,
    sample::sample,
    seen::Output,
    show,
    walk::{ITEMS, Walk},
};

/// One call of a step, rehearsed.
pub(super) struct Call {
    pub(super) input: Value,
    pub(super) certainty: Certainty,
    pub(super) outward: String,
    pub(super) fault: Option<StepFailure>,
    pub(super) output: Output,
    pub(super) notes: Vec<String>,
}

impl Walk<'_> {
    /// One call, on the scope as it stands.
    pub(super) fn call(&mut self, step: &Step) -> Call {
        let fuel = Fuel::default();
        let (plain, expressions) = data::apart(&step.uses, &step.with);
        let rendered = self.seen.with(&fuel, |partial| {
            let (input, certainty) = partial.input(&step.uses, &plain)?;
            let read = expressions.values().filter_map(Value::as_str).filter(|_| !reads_its_input_only(step));
            let certainty = read.map(|text| partial.certainty_of(text)).fold(certainty, Ord::max);
            Ok((data::together(input, expressions.clone()), certainty))
        });
        let call = match rendered {
            Ok((input, certainty)) if step.effect(self.given.catalogue) == Effect::Pure => {
                self.compute(step, input, certainty, &fuel)
            }
            Ok((input, certainty)) => self.look(step, input, certainty),
            Err(failure) => Call {
                input: Value::Null,
                certainty: Certainty::Known,
                outward: String::new(),
                fault: Some(failure),
                output: Output::Unknown,
                notes: Vec::new(),
            },
        };
        self.fuel_spent += fuel.spent();
        call
    }

    /// A pure step, done for real.
    fn compute(&self, step: &Step, input: Value, certainty: Certainty, fuel: &Fuel) -> Call {
        let outward = outward::call(&step.uses, &input, self.given.catalogue, &self.moment);
        let mut computed = Call { input, certainty, outward, fault: None, output: Output::Unknown, notes: Vec::new() };
        if certainty == Certainty::Unknown {
            if step.foreach.is_none() {
                computed.output = self.sampled(step, None);
            }
            return computed;
        }
        let value = data::perform_on(&step.uses, &computed.input, self.seen.scope(), fuel);
        let value = value.and_then(|value| self.keepable(step, value));
        match value {
            Ok(value) => computed.output = Output::Value { value, certainty, sample: from_samples(certainty) },
            Err(failure) if certainty == Certainty::Known => computed.fault = Some(failure),
            Err(failure) => computed.notes.push(with_sample(&failure.message)),
        }
        computed
    }

    /// A computed output, judged as the engine judges it before it is kept.
    fn keepable(&self, step: &Step, value: Value) -> Result<Value, StepFailure> {
        let (bytes, most) = (value.to_string().len(), self.given.limits.step_output_bytes);
        if bytes > most {
            let message = format!("the output is {bytes} bytes, more than the {most} that are kept of a step");
            return Err(StepFailure::new(ErrorKind::InvalidOutput, message));
        }
        step.expect.as_ref().map_or(Ok(()), |expect| judge_output(expect, &value)).map(|()| value)
    }

    /// A call that would go out: looked at, and not made.
    fn look(&self, step: &Step, input: Value, certainty: Certainty) -> Call {
        let is_whole = certainty != Certainty::Unknown;
        let judged = outward::judge(&step.uses, &input, is_whole, self.given.catalogue);
        let outward = outward::call(&step.uses, &mark::shown(input.clone()), self.given.catalogue, &self.moment);
        let output = self.sampled(step, None);
        let mut looked = Call { input, certainty, outward, fault: None, output, notes: Vec::new() };
        match judged {
            Ok(()) => {}
            Err(why) if certainty == Certainty::Sample => looked.notes.push(with_sample(&why)),
            Err(why) => looked.fault = Some(StepFailure::new(ErrorKind::ClientError, why)),
        }
        looked
    }

    /// What the step returned in the last run, or may return as its `expect` says; `items`: of a `foreach` over so many.
    pub(super) fn sampled(&self, step: &Step, items: Option<usize>) -> Output {
        let sampled = |value, of| Output::Value { value, certainty: Certainty::Sample, sample: Some(of) };
        let last = self.given.last.iter().find(|record| {
            record.step == step.id
                && record.index.is_none()
                && record.uses == step.uses
                && matches!(record.state, StepState::Succeeded | StepState::Continued)
        });
        if let Some(record) = last.filter(|_| !self.in_on_failure) {
            return sampled(record.output.clone(), SampleOf::LastRun);
        }
        let made = step.expect.as_ref().and_then(sample);
        match (made, items) {
            (Some(value), None) if step.foreach.is_none() => sampled(value, SampleOf::Expect),
            // `expect` is of one item.
            (Some(value), Some(items)) if items <= ITEMS => sampled(json!(vec![value; items]), SampleOf::Expect),
            _ => Output::Unknown,
        }
    }
}

/// `data.transform` with `input`: its expression sees nothing else.
fn reads_its_input_only(step: &Step) -> bool {
    step.uses == "data.transform" && step.with.get("input").is_some()
}

pub(super) fn from_samples(certainty: Certainty) -> Option<SampleOf> {
    (certainty == Certainty::Sample).then_some(SampleOf::Samples)
}

fn with_sample(why: &str) -> String {
    format!("with the sample data it fails: {}", show::reason(why))
}
