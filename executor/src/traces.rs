//! The spans of this program: rounds of planning, claims, attempts and calls of steps.
//!
//! A run that a tool call asked for goes on with that call's trace, in every attempt; each attempt at a run of a
//! schedule is a trace of its own. Names, ids and kinds of error only: what a step is given and what it returns are
//! nobody's but its owner's, and `traceparent` goes to no third party, because which of two calls belong together is
//! not theirs to know either.

use std::time::Duration;

use opentelemetry::{KeyValue, trace::SpanContext};
use ordinaut_schema::run::StepFailure;
use ordinaut_store::{claims::ClaimedRun, planning::Planned};
use ordinaut_telemetry::span::{TARGET, failed, follow, link, past};
use tracing::{Span, field::Empty, info_span};

/// A round of planning that planned something.
pub(crate) fn planned(planned: &Planned, lasted: Duration) {
    if planned.runs > 0 {
        let counted = |name, n: u32| KeyValue::new(name, i64::from(n));
        past("plan", lasted, vec![counted("runs", planned.runs), counted("occurrences.skipped", planned.skipped)]);
    }
}

/// A claim that got something; attempts point to it.
pub(crate) fn claimed(runs: &[ClaimedRun], lasted: Duration) -> Option<SpanContext> {
    let count = i64::try_from(runs.len()).ok().filter(|count| *count > 0)?;
    past("claim", lasted, vec![KeyValue::new("runs", count)])
}

/// One attempt, part of the trace of whoever asked for its run.
pub(crate) fn attempt(run: &ClaimedRun, claim: Option<&SpanContext>) -> Span {
    let span = info_span!(
        target: TARGET,
        "attempt",
        otel.kind = "consumer",
        run.id = %run.id,
        task.id = %run.task,
        attempt = run.attempt,
        trigger = run.trigger.as_str(),
        verdict = Empty,
    );
    if let Some(traceparent) = &run.traceparent {
        follow(&span, traceparent);
    }
    link(&span, claim);
    span
}

/// Says on the current attempt's span how it ended.
pub(crate) fn concluded(verdict: &'static str) {
    Span::current().record("verdict", verdict);
}

/// One call of one step.
pub(crate) fn step(id: &str, uses: &str, index: Option<u32>) -> Span {
    let span = info_span!(target: TARGET, "step", step.id = id, step.uses = uses, step.index = Empty);
    if let Some(index) = index {
        span.record("step.index", index);
    }
    span
}

/// Says how the call ended.
pub(crate) fn called(span: &Span, failure: Option<&StepFailure>) {
    if let Some(failure) = failure {
        failed(span, failure.kind.as_str());
    }
}
