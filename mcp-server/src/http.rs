//! The HTTP application: both MCP transports behind one guard, the pages of approvals, health, metrics, and an orderly end.
//!
//! The end has two limits. Until the first, no connection is accepted, streams without a call in hand end, and calls
//! in hand are answered; at the first, what is left is cut; at the second, whoever does not read is left behind.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    approvals::{self, Pages},
    auth::Authenticate,
    backend::Backend,
    config::Mcp,
    guard::{self, Guard, Rules},
    quota::Quota,
    request_id,
    server::OrdinautServer,
    sse::{self, SseEndpoint},
    streamable::{self, StreamableEndpoint},
    telemetry::Metrics,
};

mod connections;
mod taken;
mod tls;
mod unread;

pub use tls::{Tls, TlsError};

/// How often tokens that keep something open are asked about again, idle sessions are looked for, and the certificate's
/// files are read.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Everything that answers on HTTP.
#[derive(Debug)]
pub struct HttpServer {
    router: Router,
    guard: Guard,
    streamable: StreamableEndpoint,
    tls: Option<Tls>,
    drain: CancellationToken,
    abort: CancellationToken,
    in_hand: TaskTracker,
    patience: connections::Patience,
    drain_timeout: Duration,
    abort_timeout: Duration,
}

/// What the application is put together from.
pub struct Parts {
    pub server: OrdinautServer,
    pub backend: Backend,
    pub tokens: Arc<dyn Authenticate>,
    pub metrics: Metrics,
    /// Cancelled to end it.
    pub drain: CancellationToken,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct Health {
    backend: Backend,
    drain: CancellationToken,
}

impl HttpServer {
    pub fn new(config: &Mcp, parts: Parts) -> Self {
        let Parts { server, backend, tokens, metrics, drain } = parts;
        let abort = CancellationToken::new();
        let in_hand = TaskTracker::new();
        let quota = Quota::new(config.session_limits());
        metrics.watch_sessions(quota.clone());
        let rules = Rules {
            hosts: config.allowed_hosts.clone(),
            origins: config.allowed_origins.clone(),
            body_bytes: config.body_bytes,
            body_timeout: config.body_timeout,
            calls: config.calls(),
            behind_proxy: config.behind_proxy,
        };
        let guard = Guard::new(rules, tokens, metrics.clone());
        let sse_settings = sse::Settings {
            base_path: config.base_path.clone(),
            initialize_timeout: config.initialize_timeout,
            keep_alive: config.keep_alive,
        };
        let server = server.drained_by(drain.clone());
        let sse = SseEndpoint::new(server.clone(), quota.clone(), sse_settings, drain.clone(), in_hand.clone());
        let streamable = StreamableEndpoint::new(
            server,
            quota,
            config,
            streamable::Ends { drain: drain.clone(), abort: abort.clone() },
            in_hand.clone(),
        );
        let pages = Pages { backend: backend.clone(), body_timeout: config.body_timeout };
        let health = Health { backend, drain: drain.clone() };

        let transports = Router::new()
            .route("/sse", get(sse::connect))
            .route("/messages", post(sse::post))
            .with_state(sse)
            .merge(Router::new().route("/mcp", any(streamable::serve)).with_state(streamable.clone()))
            .layer(from_fn_with_state(guard.clone(), guard::check));
        let approvals = approvals::routes(pages).layer(from_fn_with_state(guard.clone(), guard::check_page));
        let metrics = Router::new()
            .route("/metrics", get(show_metrics))
            .with_state(metrics)
            .layer(from_fn_with_state(guard.clone(), guard::check_address));
        // Probes name the server by whatever address they were given, and learn nothing but "yes".
        let probes = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readiness))
            .with_state(health);
        let routes = transports.merge(approvals).merge(metrics).merge(probes).layer(DefaultBodyLimit::disable());
        Self {
            // Outermost: what is refused has a name, too.
            router: under(&config.base_path, routes).layer(from_fn(request_id::name)),
            guard,
            streamable,
            tls: None,
            drain,
            abort,
            in_hand,
            patience: connections::Patience {
                asking: config.header_timeout,
                taking: config.write_timeout,
                connections: connections::CONNECTIONS,
            },
            drain_timeout: config.drain_timeout,
            abort_timeout: config.abort_timeout,
        }
    }

    /// The same application for whoever brings no token: `tokens` is asked about `none` in its place.
    #[cfg(feature = "conformance")]
    pub(crate) fn without_tokens(mut self) -> Self {
        use axum::http::{HeaderValue, Request, header::AUTHORIZATION};

        self.router = self.router.layer(axum::middleware::map_request(|mut request: Request<_>| async {
            request.headers_mut().entry(AUTHORIZATION).or_insert(HeaderValue::from_static("Bearer none"));
            request
        }));
        self
    }

    /// The same application over TLS, and over nothing else.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Serves until drained.
    pub async fn serve(self, listener: TcpListener) {
        let Self { router, guard, streamable, tls, drain, abort, in_hand, patience, .. } = self;
        let Self { drain_timeout, abort_timeout, .. } = self;
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let serving = connections::serve(listener, router, acceptor, patience, drain.clone());
        let upkeep = async {
            let mut beat = tokio::time::interval(UPKEEP_INTERVAL);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                // The rest is not kept waiting by a database that does not answer.
                let _ = timeout(UPKEEP_INTERVAL, guard.ask_again()).await;
                streamable.end_sessions().await;
                if let Some(tls) = &tls {
                    tls.renew().await;
                }
            }
        };
        let ending = async {
            drain.cancelled().await;
            info!("draining");
            in_hand.close();
            if timeout(drain_timeout, in_hand.wait()).await.is_err() {
                warn!("calls are still in hand after {}s; they are cut", drain_timeout.as_secs());
            }
            abort.cancel();
            tokio::time::sleep(abort_timeout).await;
        };
        tokio::select! {
            () = serving => {}
            () = upkeep => {}
            () = ending => warn!("connections are still open after the drain; they are left"),
        }
    }
}

/// At the base path, and at the root too: some proxies strip the path they match, others do not.
fn under(base_path: &str, routes: Router) -> Router {
    if base_path.is_empty() { routes } else { Router::new().nest(base_path, routes.clone()).merge(routes) }
}

async fn readiness(State(health): State<Health>) -> Response {
    if health.drain.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    match health.backend.now() {
        Ok(_) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn show_metrics(State(metrics): State<Metrics>) -> Response {
    match metrics.text() {
        Ok(text) => ([("content-type", "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
