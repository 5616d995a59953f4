//! Metrics for Prometheus.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, MeterProvider as _},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::{changes::Changes, quota::Quota};

/// Why nothing can be counted.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the metrics exporter could not be built")]
    Metrics(#[source] opentelemetry_sdk::error::OTelSdkError),
}

/// What is counted; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
    calls: Counter<u64>,
    call_seconds: Histogram<f64>,
    refused: Counter<u64>,
}

impl Metrics {
    /// # Errors
    /// The exporter refuses, which is a mistake in this program.
    pub fn new() -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(TelemetryError::Metrics)?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("ordinaut_mcp");
        let calls = meter.u64_counter("ordinaut_mcp_calls").with_description("Tool calls by tool and outcome").build();
        let call_seconds = meter
            .f64_histogram("ordinaut_mcp_call_duration")
            .with_unit("s")
            .with_description("How long tool calls took")
            .with_boundaries(vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0])
            .build();
        let refused = meter
            .u64_counter("ordinaut_mcp_refused")
            .with_description("HTTP requests that did not pass the guard, by reason")
            .build();
        Ok(Self { registry, provider, calls, call_seconds, refused })
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.add(1, &[KeyValue::new("reason", reason)]);
    }

    pub(crate) fn called(&self, tool: &str, outcome: &'static str, elapsed: Duration) {
        let tool = KeyValue::new("tool", tool.to_owned());
        self.call_seconds.record(elapsed.as_secs_f64(), std::slice::from_ref(&tool));
        self.calls.add(1, &[tool, KeyValue::new("outcome", outcome)]);
    }

    /// Reports how many sessions are open.
    pub(crate) fn watch_sessions(&self, quota: Arc<Quota>) {
        self.provider
            .meter("ordinaut_mcp")
            .u64_observable_gauge("ordinaut_mcp_sessions")
            .with_description("Sessions open on HTTP")
            .with_callback(move |gauge| gauge.observe(quota.open() as u64, &[]))
            .build();
    }

    /// Reports how many follow changes at this moment.
    pub(crate) fn watch_followers(&self, changes: Changes) {
        self.provider
            .meter("ordinaut_mcp")
            .u64_observable_gauge("ordinaut_mcp_subscribers")
            .with_description("Sessions and calls that follow changes of tasks or runs")
            .with_callback(move |gauge| gauge.observe(changes.followers() as u64, &[]))
            .build();
    }

    /// Everything, in Prometheus' text format.
    ///
    /// # Errors
    /// A metric cannot be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
