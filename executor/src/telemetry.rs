//! Logs on stderr, and the provider behind [`crate::metrics`].

use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::LogFormat;

/// Begins to log. stdout is left alone: it belongs to MCP where a chat started this program.
///
/// # Errors
/// `filter` is not one.
pub fn log_to_stderr(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("`{filter}` is not a log filter"))?;
    // The SDK writes down whole messages, as servers sent them: whatever they hold, secrets too.
    let filter = filter.add_directive("rmcp=warn".parse().context("read our own log filter")?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Pretty => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .context("begin to log")
}

/// What was counted, for whoever scrapes it.
#[derive(Debug, Clone)]
pub struct Exposition(Registry);

/// Installs the meter provider, once a process: asking again answers the same. Instruments made before count into
/// nothing.
pub fn count() -> anyhow::Result<Exposition> {
    static INSTALLED: Mutex<Option<Exposition>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(exposition) = &*installed {
        return Ok(exposition.clone());
    }
    let registry = Registry::new();
    let exporter =
        opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().context("prepare the metrics")?;
    opentelemetry::global::set_meter_provider(SdkMeterProvider::builder().with_reader(exporter).build());
    Ok(installed.insert(Exposition(registry)).clone())
}

impl Exposition {
    /// In the Prometheus text format.
    pub fn text(&self) -> anyhow::Result<String> {
        TextEncoder::new().encode_to_string(&self.0.gather()).context("encode the metrics")
    }
}
