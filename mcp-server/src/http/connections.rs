//! Connections: accepted until drained, served one task each, and closed when nothing comes.
//!
//! A client has a bounded time to say what it wants, from the first connection and between two requests; one byte a
//! second buys no more. `axum::serve` sets no such limit and lets none be set. How long a request's body may take is
//! the guard's.

use std::{convert::Infallible, io, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    pin,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

/// How long nothing is accepted after the system refused, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until `drain`, then waits until every connection has ended.
pub(super) async fn serve(listener: TcpListener, router: Router, patience: Duration, drain: CancellationToken) {
    let open = TaskTracker::new();
    while let Some(accepted) = drain.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                open.spawn(connection(stream, router.clone(), patience, drain.clone()));
            }
            Err(error) if is_of_one_connection(&error) => debug!(%error, "a connection ended before it was accepted"),
            Err(error) => {
                warn!(%error, "connections cannot be accepted; trying again");
                // The drain is looked at again right after.
                let _ = drain.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
    drop(listener);
    open.close();
    open.wait().await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, router: Router, patience: Duration, drain: CancellationToken) {
    // Small answers on a kept connection wait 40 ms for an acknowledgement otherwise.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection keeps Nagle's algorithm");
    }
    let asked = CancellationToken::new();
    let service = {
        let asked = asked.clone();
        service_fn(move |request: Request<Incoming>| {
            asked.cancel();
            answer(router.clone(), request)
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(patience).keep_alive_timeout(patience);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    // Which HTTP it is, is read without a limit.
    let silent = async {
        tokio::select! {
            () = asked.cancelled() => std::future::pending().await,
            () = sleep(patience) => {}
        }
    };
    pin!(served, silent);
    let mut draining = false;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection ended badly");
                }
                return;
            }
            () = &mut silent => {
                debug!("a client connected and asked for nothing; the connection is closed");
                return;
            }
            () = drain.cancelled(), if !draining => {
                served.as_mut().graceful_shutdown();
                draining = true;
            }
        }
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    router.oneshot(request.map(Body::new)).await
}
