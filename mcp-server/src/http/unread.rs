//! Answers that are not read though the connection is: HTTP/2 lets a client take nothing of a stream and all the rest.
//!
//! hyper asks a body for its next piece when the last one has gone, or waits alone with one more. A body that has given
//! a piece and was not asked again for a time belongs to a client that does not read.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// The answers of one connection that are not taken whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Given>>);

#[derive(Debug, Default)]
struct Given {
    answers: u64,
    /// When an answer gave a piece that is not taken yet.
    since: HashMap<u64, Instant>,
}

impl Unread {
    /// The same answer, watched.
    pub(super) fn watch(&self, body: Body) -> Body {
        let mut given = self.lock();
        given.answers += 1;
        Body::new(Watched { body, number: given.answers, unread: self.clone() })
    }

    /// Whether something was not taken within `patience`.
    pub(super) fn is_overdue(&self, patience: Duration) -> bool {
        self.lock().since.values().any(|since| since.elapsed() >= patience)
    }

    /// Every change is one insert or one remove, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watched {
    body: Body,
    number: u64,
    unread: Unread,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut given = self.unread.lock();
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            given.since.insert(self.number, Instant::now());
        } else {
            given.since.remove(&self.number);
        }
        drop(given);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.unread.lock().since.remove(&self.number);
    }
}
