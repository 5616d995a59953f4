//! The provider behind [`crate::metrics`].

use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

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
