//! Fixtures of the official MCP conformance suite, and an instance that it can reach without a token.
//!
//! Only in builds with the feature `conformance`, which no release has. The suite wants tools, resources and prompts
//! of its own beside a server's, and cannot send a token. So the instance asks for none, and is harmless for that: it
//! listens on loopback only, and it has no services behind it, so that nobody's tasks can be reached. Everything
//! else is the server as it is: one guard, one transport, one set of tools, with [`Handler`] in front of them.
//!
//! - `handler`: the server with the fixtures beside its own
//! - `tools`: which tools the suite calls; `content`, `telling`, `asking` (up to 2025-11-25) and `rounds` (2026-07-28
//!   and later): what they answer
//! - `resources`, `prompts`: what the suite reads

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use futures_util::future::BoxFuture;
use rmcp::model::RequestStateCodec;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Authenticate, Token, Unavailable},
    backend::{Backend, Stage},
    config::Mcp,
    http::{HttpServer, Parts},
    principal::Principal,
    server::OrdinautServer,
    telemetry::Metrics,
};

mod asking;
mod content;
mod handler;
mod prompts;
mod resources;
mod rounds;
mod telling;
mod tools;

pub(crate) use handler::Handler;

/// What all sessions of one instance share.
#[derive(Debug, Clone)]
pub(crate) struct Fixtures {
    changes: watch::Sender<Changes>,
    states: Arc<RequestStateCodec>,
}

/// How often each list is said to have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Changes {
    tools: u64,
    prompts: u64,
}

impl Fixtures {
    fn new() -> Self {
        let states = RequestStateCodec::try_new(rand::random::<[u8; 32]>()).expect("32 bytes are a long enough key");
        Self { changes: watch::Sender::default(), states: Arc::new(states) }
    }
}

/// An address that only this machine reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loopback(SocketAddr);

/// Others could reach it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no loopback address, and this instance asks for no token; write one such as 127.0.0.1:0")]
pub struct NotLoopback(String);

impl FromStr for Loopback {
    type Err = NotLoopback;

    fn from_str(text: &str) -> Result<Self, NotLoopback> {
        let address: Option<SocketAddr> = text.parse().ok();
        address.filter(|address| address.ip().is_loopback()).map(Self).ok_or_else(|| NotLoopback(text.to_owned()))
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Takes whoever calls for the local agent.
struct Anybody;

impl Authenticate for Anybody {
    fn authenticate(&self, _token: Token) -> BoxFuture<'_, Result<Option<Principal>, Unavailable>> {
        Box::pin(async { Ok(Some(Principal { label: "conformance".to_owned(), ..Principal::local() })) })
    }
}

/// An instance with the fixtures, for everybody on this machine.
#[derive(Debug)]
pub struct Instance {
    http: HttpServer,
    listener: TcpListener,
}

impl Instance {
    /// # Errors
    /// The address cannot be listened on.
    pub async fn listen(
        address: Loopback,
        config: &Mcp,
        metrics: Metrics,
        drain: CancellationToken,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address.0).await?;
        let (starter, backend) = Backend::starting("nothing");
        starter.tell(Stage::Failed("this instance is for the conformance suite and has no services".to_owned()));
        // Nobody is left to wait for: calls that need services are told so at once.
        drop(starter);
        let server = OrdinautServer::guarded(backend.clone(), metrics.clone(), None).with_fixtures(Fixtures::new());
        // The suite is in a hurry.
        let config = Mcp { calls_per_minute: u32::MAX, calls_burst: u32::MAX, ..config.clone() };
        let parts = Parts { server, backend, tokens: Arc::new(Anybody), metrics, drain };
        Ok(Self { http: HttpServer::new(&config, parts).without_tokens(), listener })
    }

    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until drained.
    pub async fn serve(self) {
        self.http.serve(self.listener).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_without_tokens_is_refused_any_address_but_loopback() {
        for ours in ["127.0.0.1:0", "127.8.8.8:7447", "[::1]:0"] {
            assert!(ours.parse::<Loopback>().is_ok(), "{ours}");
        }
        for others in ["0.0.0.0:0", "[::]:0", "192.168.1.2:7447", "[::ffff:10.0.0.1]:1", "localhost:0", ""] {
            assert!(others.parse::<Loopback>().is_err(), "{others}");
        }
    }
}
