//! Connections: accepted until drained, served one task each, and closed when nothing comes.
//!
//! A client has a bounded time to say what it wants, from the first connection and between two requests; one byte a
//! second buys no more. `axum::serve` sets no such limit and lets none be set. How long a request's body may take is
//! the guard's; how long an answer may stay unread, `Taken` and `Unread` see to.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

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
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    pin,
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::guard::Peer;

use super::{taken::Taken, unread::Unread};

/// Connections at once, whoever's they are; those beyond wait in the system's queue, which is bounded, too.
pub(super) const CONNECTIONS: usize = 10_000;
/// How long nothing is accepted after the system refused, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long a client is waited for, and how many there are at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until it says what it wants.
    pub(super) asking: Duration,
    /// Until it has taken what it is sent.
    pub(super) taking: Duration,
    /// Connections at once.
    pub(super) connections: usize,
}

/// Accepts until `drain`, then waits until every connection has ended.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    patience: Patience,
    drain: CancellationToken,
) {
    let open = TaskTracker::new();
    let places = Arc::new(Semaphore::new(patience.connections));
    let next = async || {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        listener.accept().await.map(|accepted| (place, accepted))
    };
    while let Some(accepted) = drain.run_until_cancelled(next()).await {
        match accepted {
            Ok((place, (stream, address))) => {
                let (router, drain, tls) = (router.clone(), drain.clone(), tls.clone());
                let connection = Connection { router, peer: Peer::new(address), patience, drain };
                open.spawn(async move {
                    connection.serve(stream, tls).await;
                    drop(place);
                });
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

/// One connection, from whoever `peer` is.
struct Connection {
    router: Router,
    peer: Peer,
    patience: Patience,
    drain: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Small answers on a kept connection wait 40 ms for an acknowledgement otherwise.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection keeps Nagle's algorithm");
        }
        let Some(tls) = tls else { return self.exchange(stream).await };
        match self.drain.run_until_cancelled(timeout(self.patience.asking, tls.accept(stream))).await {
            Some(Ok(Ok(stream))) => self.exchange(stream).await,
            Some(Ok(Err(error))) => debug!(%error, "a client and this server do not agree on TLS"),
            Some(Err(_elapsed)) => debug!("a TLS handshake takes too long; the connection is closed"),
            None => {}
        }
    }

    /// Requests and their answers, until either end has had enough.
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self { router, peer, patience: Patience { asking, taking, .. }, drain } = self;
        let asked = CancellationToken::new();
        let unread = Unread::default();
        let service = {
            let (asked, unread) = (asked.clone(), unread.clone());
            service_fn(move |mut request: Request<Incoming>| {
                asked.cancel();
                request.extensions_mut().insert(peer);
                answer(router.clone(), unread.clone(), request)
            })
        };
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(asking);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(asking).keep_alive_timeout(asking);
        let served = builder.serve_connection(TokioIo::new(Taken::within(taking, stream)), service);
        // Which HTTP it is, is read without a limit.
        let silent = async {
            tokio::select! {
                () = asked.cancelled() => std::future::pending().await,
                () = sleep(asking) => {}
            }
        };
        let mut looks = interval_at(Instant::now() + taking, taking);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                _ = looks.tick() => {
                    if unread.is_overdue(taking) {
                        debug!("a client does not read its answers; the connection is closed");
                        return;
                    }
                }
                () = drain.cancelled(), if !draining => {
                    served.as_mut().graceful_shutdown();
                    draining = true;
                }
            }
        }
    }
}

async fn answer(router: Router, unread: Unread, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let response = router.oneshot(request.map(Body::new)).await?;
    Ok(response.map(|body| unread.watch(body)))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    /// Asks, and answers with the first bytes of the answer.
    async fn ask(connection: &mut TcpStream) -> [u8; 12] {
        connection.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn one_connection_more_than_there_may_be_is_served_when_another_has_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (long, drain) = (Duration::from_mins(10), CancellationToken::new());
        let patience = Patience { asking: long, taking: long, connections: 2 };
        let router = Router::new().route("/", get(async || "here"));
        let serving = tokio::spawn(serve(listener, router, None, patience, drain.clone()));

        let connect = async || TcpStream::connect(address).await.unwrap();
        let (mut one, mut two, mut three) = (connect().await, connect().await, connect().await);
        assert_eq!((ask(&mut one).await, ask(&mut two).await), (*b"HTTP/1.1 200", *b"HTTP/1.1 200"));
        let mut waiting = Box::pin(ask(&mut three));
        // Nothing says that it is not served but that it is not; on a slow machine this shows less.
        assert!(timeout(Duration::from_millis(200), waiting.as_mut()).await.is_err());
        drop(one);
        assert_eq!(waiting.await, *b"HTTP/1.1 200");

        drain.cancel();
        drop((two, three));
        serving.await.unwrap();
    }
}
