//! Tokens that keep something open, and what ends when they do: a stream is as good as its token is now, not as it was
//! when the stream began.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{body::Body, http::header, response::Response};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::auth::{Authenticate, Digest, Token};

/// How long a token that was good is remembered for having been.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Every token that was good a while ago, or that something still hangs on. Only good ones get in, so there are no more
/// than an operator made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<HashMap<Digest, Watched>>>);

#[derive(Debug)]
struct Watched {
    token: Token,
    holders: usize,
    ended: CancellationToken,
    asked_at: Instant,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Watched>> {
        // Every change leaves the map whole, so a panic elsewhere does no harm here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `token` is good, for as long as something holds what this answers with.
    pub(super) fn hold(&self, token: Token, now: Instant) -> Held {
        let digest = token.digest();
        let mut watched = self.lock();
        let entry = watched.entry(digest).or_insert_with(|| {
            let ended = CancellationToken::new();
            Watched { token, holders: 0, ended, asked_at: now }
        });
        entry.holders += 1;
        entry.asked_at = now;
        Held(Arc::new(Holder { watch: self.clone(), digest, ended: entry.ended.clone() }))
    }

    /// Whether that token was good a while ago.
    pub(super) fn remembers(&self, digest: &Digest) -> bool {
        self.lock().contains_key(digest)
    }

    /// Asks again about every token that something hangs on, those first that were asked about longest ago.
    ///
    /// What hangs on one that is good no more ends. Where nobody can say, everything stays.
    pub(super) async fn ask_again(&self, tokens: &dyn Authenticate) {
        let mut held = self.held(Instant::now());
        held.sort_by_key(|(asked_at, _)| *asked_at);
        for (_, token) in held {
            let digest = token.digest();
            match tokens.authenticate(token).await {
                Ok(Some(_)) => {
                    if let Some(watched) = self.lock().get_mut(&digest) {
                        watched.asked_at = Instant::now();
                    }
                }
                Ok(None) => {
                    info!(token.sha256 = %digest, "a token is revoked or expired; what it kept open ends");
                    if let Some(watched) = self.lock().remove(&digest) {
                        watched.ended.cancel();
                    }
                }
                Err(_unavailable) => return,
            }
        }
    }

    /// What is held, when the rest that is forgotten by `now` is gone.
    fn held(&self, now: Instant) -> Vec<(Instant, Token)> {
        let mut watched = self.lock();
        watched.retain(|_, it| it.holders > 0 || now.saturating_duration_since(it.asked_at) < REMEMBERED);
        watched.values().filter(|it| it.holders > 0).map(|it| (it.asked_at, it.token.clone())).collect()
    }
}

/// A token that is watched while this, or a clone of it, is there.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Holder>);

#[derive(Debug)]
struct Holder {
    watch: Watch,
    digest: Digest,
    ended: CancellationToken,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut watched = self.watch.lock();
        // Another entry may stand under the same token, when this one has ended.
        if let Some(entry) = watched.get_mut(&self.digest)
            && !self.ended.is_cancelled()
        {
            entry.holders -= 1;
        }
    }
}

impl Held {
    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.is_cancelled()
    }

    /// The answer, which is cut when the token ends, if it is a stream.
    pub(super) fn bound(self, response: Response) -> Response {
        if !is_stream(&response) {
            return response;
        }
        response.map(|body| {
            let ended = self.0.ended.clone().cancelled_owned();
            let stream = body.into_data_stream().take_until(Box::pin(ended));
            Body::from_stream(stream.map(move |chunk| {
                let _held = &self;
                chunk
            }))
        })
    }
}

/// Whether an answer is sent event by event.
pub(crate) fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_no_more_is_remembered_for_a_while() {
        let watch = Watch::default();
        let now = Instant::now();
        let token = Token::new("a");
        let digest = token.digest();
        let held = watch.hold(token.clone(), now);
        let again = watch.hold(token, now);
        drop(held);
        assert_eq!(watch.held(now + 2 * REMEMBERED).len(), 1);
        drop(again);
        assert!(watch.held(now).is_empty());
        assert!(watch.remembers(&digest));
        watch.held(now + REMEMBERED);
        assert!(!watch.remembers(&digest));
    }
}
