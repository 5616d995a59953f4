//! Spans, and what carries them from one process to the next: a W3C `traceparent`, 55 characters.
//!
//! A span is made with [`TARGET`], which only the exporter listens to. What is told of after it happened, because most
//! of it is not worth telling (an empty look at the queue), goes by [`past`].

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    KeyValue,
    propagation::TextMapPropagator as _,
    trace::{Span as _, SpanContext, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of every span.
pub const TARGET: &str = "ordinaut::traces";
const HEADER: &str = "traceparent";

/// The trace that the caller is part of, for whoever goes on with it elsewhere; `None` when nothing is traced.
pub fn current() -> Option<String> {
    let span = Span::current();
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(HEADER)
}

/// Makes `span` part of the trace that `traceparent` names, if it names one.
pub fn follow(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    let carrier = HashMap::from([(HEADER.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // A span that has begun keeps its parent: it is then a trace of its own, and nothing else is lost.
        let _ = span.set_parent(context);
    }
}

/// Points from `span` to one of another trace.
pub fn link(span: &Span, other: Option<&SpanContext>) {
    if let Some(other) = other
        && !span.is_disabled()
    {
        span.add_link(other.clone());
    }
}

/// Says that `span` failed, in a word that is no payload.
pub fn failed(span: &Span, kind: &'static str) {
    if !span.is_disabled() {
        span.set_attribute("error.type", kind);
        span.set_status(opentelemetry::trace::Status::error(kind));
    }
}

/// Tells of something that began `lasted` ago and is over; `None` when nothing is traced.
pub fn past(name: &'static str, lasted: Duration, attributes: Vec<KeyValue>) -> Option<SpanContext> {
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        return None;
    }
    #[expect(clippy::disallowed_methods, reason = "spans are dated by the clock of who exports them")]
    let ended_at = SystemTime::now();
    let begun_at = ended_at.checked_sub(lasted).unwrap_or(ended_at);
    let tracer = opentelemetry::global::tracer("ordinaut");
    let builder = tracer.span_builder(name).with_start_time(begun_at).with_attributes(attributes);
    let mut span = tracer.build(builder);
    let context = span.span_context().clone();
    span.end_with_timestamp(ended_at);
    Some(context)
}
