//! Logs and traces begun, and ended in an orderly way.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    client::Client,
    logs::{LogFormat, colours},
    span::TARGET,
};

/// How long the end of a program waits for the last spans to arrive.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
const PATH: &str = "/v1/traces";

/// The `[telemetry]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// The collector, by OTLP over HTTP, such as `http://127.0.0.1:4318`; without it nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
}

impl Traces {
    /// The variable that overrules the file.
    pub const VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    /// What is wrong with it, if anything.
    pub fn mistake(&self) -> Option<String> {
        let endpoint = self.otlp_endpoint.as_ref()?;
        let is_http =
            url::Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        (!is_http).then(|| {
            "telemetry.otlp_endpoint is no address of a collector; write one such as http://127.0.0.1:4318 (OTLP over HTTP)"
                .to_owned()
        })
    }

    /// Where spans are posted to: the collector's address says the rest of it or leaves it out.
    fn url(&self) -> Option<String> {
        let endpoint = self.otlp_endpoint.as_deref()?.trim_end_matches('/');
        Some(if endpoint.ends_with(PATH) { endpoint.to_owned() } else { format!("{endpoint}{PATH}") })
    }
}

/// What a program tells of itself, and how.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The program's name and version.
    pub program: &'static str,
    pub version: &'static str,
    pub filter: &'a str,
    pub format: LogFormat,
    pub traces: &'a Traces,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log filter `{filter}` is not valid; write `info` or `info,rmcp=warn`")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("the traces' exporter could not be built")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("the client for the traces' collector could not be built")]
    Client(#[from] reqwest::Error),
    #[error("logs had begun already")]
    Begun(#[from] tracing_subscriber::util::TryInitError),
}

/// What has to be ended.
#[derive(Debug)]
#[must_use = "the last spans are sent by `close`"]
pub struct Telemetry(Option<SdkTracerProvider>);

/// Begins to log on stderr and, where a collector is configured, to trace. stdout is left alone: it belongs to MCP.
///
/// Without a collector no layer wants the spans of [`crate::span`], so they are never made.
///
/// # Errors
/// The filter or the collector's address is none, or this was done before.
#[expect(clippy::missing_panics_doc, reason = "a target and a level are a directive")]
pub fn start(settings: Settings<'_>, runtime: &Handle) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(settings.filter)
        .map_err(|source| TelemetryError::Filter { filter: settings.filter.to_owned(), source })?
        .add_directive(format!("{TARGET}=off").parse().expect("a target and a level are a directive"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours());
    let lines = match settings.format {
        LogFormat::Pretty => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let provider = match settings.traces.url() {
        Some(url) => Some(provider(settings, url, runtime)?),
        None => None,
    };
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("ordinaut"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(Targets::new().with_target(TARGET, tracing::Level::INFO))
    });
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).try_init()?;
    if let Some(provider) = &provider {
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    Ok(Telemetry(provider))
}

fn provider(settings: Settings<'_>, url: String, runtime: &Handle) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new(runtime.clone())?)
        .with_endpoint(url)
        .build()?;
    let resource = Resource::builder()
        .with_service_name(settings.program)
        .with_attribute(opentelemetry::KeyValue::new("service.version", settings.version))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl Telemetry {
    /// Sends the spans that are left, for a bounded time. Blocks, while the runtime must still be at work.
    pub fn close(self) {
        let Some(provider) = self.0 else { return };
        if let Err(error) = provider.shutdown_with_timeout(FLUSH_LIMIT) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last spans may not have arrived");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(endpoint: &str) -> Traces {
        Traces { otlp_endpoint: Some(endpoint.to_owned()) }
    }

    #[test]
    fn the_collectors_path_may_be_left_out() {
        for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(traces(endpoint).url().unwrap(), "http://c:4318/v1/traces");
        }
        assert_eq!(traces("https://c/otlp").url().unwrap(), "https://c/otlp/v1/traces");
        assert_eq!(Traces::default().url(), None);
    }

    #[test]
    fn what_is_no_address_is_a_mistake_that_does_not_repeat_it() {
        assert_eq!(traces("http://127.0.0.1:4318").mistake(), None);
        assert_eq!(Traces::default().mistake(), None);
        for wrong in ["127.0.0.1:4318", "grpc://token@c:4317", ""] {
            assert!(!traces(wrong).mistake().unwrap().contains("token"), "{wrong}");
        }
    }
}
