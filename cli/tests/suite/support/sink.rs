//! What the steps of a test call: an HTTP server that sees who calls it, in which order, and how many at once.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path as UrlPath, Query, State},
    http::{HeaderMap, StatusCode},
    routing::any,
};
use serde::Deserialize;
use tokio::sync::watch;

use crate::support::lab::until;

/// A call that reached the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) key: Option<String>,
}

/// Answers `/hit/<name>` at once, `/busy/<name>` after a moment, `/hold/<name>` once it is let go, and to `/fail/<name>`,
/// or to the first `/stumble/<name>`, that it cannot just now.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    gate: watch::Sender<bool>,
    entered: watch::Sender<()>,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    crowds: BTreeMap<String, Crowd>,
}

/// The calls under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Crowd {
    /// The limit that each call in hand came with.
    inside: Vec<u32>,
    /// The most at once.
    pub(crate) most: usize,
    /// How often there were more at once than the lowest limit of those inside.
    pub(crate) exceeded: usize,
}

#[derive(Deserialize)]
struct Wish {
    /// How many callers may be inside with this one.
    #[serde(default = "any_number")]
    limit: u32,
    /// How long it stays, for `busy`.
    #[serde(default)]
    ms: u64,
    /// It stays, besides, until as many as its limit have been inside at once.
    #[serde(default)]
    full: bool,
}

const fn any_number() -> u32 {
    u32::MAX
}

impl Sink {
    pub(crate) async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            gate: watch::Sender::new(false),
            entered: watch::Sender::new(()),
        };
        let router = Router::new().route("/{kind}/{name}", any(answer)).with_state(sink.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        sink
    }

    pub(crate) fn calls(&self, name: &str) -> Vec<Call> {
        self.seen.lock().unwrap().calls.iter().filter(|call| call.name == name).cloned().collect()
    }

    /// The runs that called, in the order in which they did.
    pub(crate) fn callers(&self, name: &str) -> Vec<String> {
        let run = |call: &Call| call.key.as_deref().unwrap().split('/').next().unwrap().to_owned();
        self.calls(name).iter().map(run).collect()
    }

    pub(crate) fn crowd(&self, name: &str) -> Crowd {
        self.seen.lock().unwrap().crowds.get(name).cloned().unwrap_or_default()
    }

    /// Waits until `name` was called `n` times.
    pub(crate) async fn saw(&self, name: &str, n: usize) {
        until(&format!("{n} calls of {name}"), async || (self.calls(name).len() >= n).then_some(())).await;
    }

    /// Lets every held call go, and holds no more.
    pub(crate) fn let_go(&self) {
        self.gate.send_replace(true);
    }

    /// Holds calls again.
    pub(crate) fn hold(&self) {
        self.gate.send_replace(false);
    }

    fn enter(&self, name: &str, limit: u32) -> Inside {
        let mut seen = self.seen.lock().unwrap();
        let crowd = seen.crowds.entry(name.to_owned()).or_default();
        crowd.inside.push(limit);
        crowd.most = crowd.most.max(crowd.inside.len());
        let lowest = crowd.inside.iter().min().copied().unwrap();
        crowd.exceeded += usize::from(crowd.inside.len() > usize::try_from(lowest).unwrap());
        Inside { sink: self.clone(), name: name.to_owned(), limit }
    }
}

/// A call in hand; a caller that hangs up has left, too.
struct Inside {
    sink: Sink,
    name: String,
    limit: u32,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut seen = self.sink.seen.lock().unwrap();
        let inside = &mut seen.crowds.get_mut(&self.name).unwrap().inside;
        let place = inside.iter().position(|limit| *limit == self.limit).unwrap();
        inside.swap_remove(place);
    }
}

async fn answer(
    State(sink): State<Sink>,
    UrlPath((kind, name)): UrlPath<(String, String)>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let inside = sink.enter(&name, wish.limit);
    sink.entered.send_replace(());
    sink.seen.lock().unwrap().calls.push(Call { name: name.clone(), key });
    let fails = kind == "fail" || kind == "stumble" && sink.calls(&name).len() == 1;
    match kind.as_str() {
        "hold" => {
            let mut gate = sink.gate.subscribe();
            gate.wait_for(|open| *open).await.unwrap();
        }
        "busy" => {
            tokio::time::sleep(Duration::from_millis(wish.ms)).await;
            let full = usize::try_from(wish.limit).unwrap();
            let mut entered = sink.entered.subscribe();
            entered.wait_for(|()| !wish.full || sink.crowd(&name).most >= full).await.unwrap();
        }
        _ => {}
    }
    drop(inside);
    (if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, name)
}
