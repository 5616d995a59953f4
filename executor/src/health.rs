//! `/healthz`, `/readyz`, `/metrics`, on loopback unless configured otherwise.
//!
//! Healthy: this process answers. Ready: PostgreSQL answers too, and no drain has begun. Redis may be away.

use std::time::Duration;

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use ordinaut_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Exposition;

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
struct Health {
    store: Store,
    exposition: Exposition,
    drain: CancellationToken,
}

/// Serves until `abort`: a draining process can still be asked how it is.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    exposition: Exposition,
    drain: CancellationToken,
    abort: CancellationToken,
) -> anyhow::Result<()> {
    let health = Health { store, exposition, drain };
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move { abort.cancelled().await })
        .await
        .context("serve health and metrics")
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.drain.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    match tokio::time::timeout(PATIENCE, health.store.now()).await {
        Ok(Ok(_now)) => (StatusCode::OK, "ready\n"),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    match health.exposition.text() {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, "text/plain; version=0.0.4")], text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], format!("{error:#}\n")),
    }
}
