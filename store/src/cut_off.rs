//! For tests: a question that is dropped where it stands, at whichever of its waits one likes.
//!
//! A caller that goes away drops a verb at any `await`; a transaction that is given up is dropped at any `await` within.
//! Here both are done on purpose, at the first wait, then at the second, until the verb comes through; and each time the
//! database has all of the verb or nothing of it, the connection is in order, and the verb done again ends rightly.

mod scene;
mod verbs;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

/// Armed with `n`, it drops what comes next at its `n`-th wait. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(Arc<AtomicU32>);

impl Cut {
    /// 0: nothing is dropped.
    pub(crate) fn arm(&self, waits: u32) {
        self.0.store(waits, Ordering::SeqCst);
    }

    /// `None` when it was dropped.
    pub(crate) fn off<F: Future>(&self, work: F) -> CutOff<F> {
        CutOff { work: Some(Box::pin(work)), waits: self.0.swap(0, Ordering::SeqCst) }
    }
}

/// See [`Cut::off`].
pub(crate) struct CutOff<F> {
    work: Option<Pin<Box<F>>>,
    waits: u32,
}

impl<F: Future> Future for CutOff<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.work.as_mut().expect("it is not polled after its end");
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        match self.waits {
            0 => Poll::Pending,
            1 => {
                self.work = None;
                Poll::Ready(None)
            }
            left => {
                self.waits = left - 1;
                Poll::Pending
            }
        }
    }
}
