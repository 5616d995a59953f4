//! Questions that PostgreSQL never answered, and the connections that they were asked on.
//!
//! A network that swallows packets says nothing: a connection over it looks alive until TCP gives up, a quarter of an
//! hour later or never. The pool tries a connection out when it gets it back, and waits for that without a limit, so a
//! few such connections would use up its places. Whoever stops waiting for an answer says so here ([`Unanswered`]), and
//! for a while every connection that comes back is tried out within a limit, or closed.
//!
//! The trial also ends what nobody knows of: a `begin` that was given up before its answer came may have come through all
//! the same, and the pool, which counts only those that it was told of, would give the transaction to whoever is next.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{Executor as _, PgConnection};
use tokio::time::{Instant, timeout};

use crate::{Store, StoreError, error::Doing as _};

/// Afterwards no transaction is open: not one that was begun before, nor its own. In one that has failed it fails.
const END_ALL: &str = "begin; rollback";
/// How long a returned connection may take to answer.
const TRIAL: Duration = Duration::from_secs(5);
/// How long connections are doubted after a question that stayed unanswered: it comes back at once, or soon.
const DOUBTED: Duration = Duration::from_mins(1);

/// Whether connections are doubted. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doubt(Arc<Mutex<Option<Instant>>>);

impl Doubt {
    fn cast(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn stands(&self) -> bool {
        let cast_at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cast_at.is_some_and(|at| at.elapsed() < DOUBTED)
    }

    /// For the pool, before it takes a connection back. Without a doubt the pool's own trial is enough.
    ///
    /// # Errors
    /// The connection does not answer: it is to be closed without a goodbye.
    pub(crate) async fn try_out(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        if !self.stands() {
            return Ok(true);
        }
        match timeout(TRIAL, connection.execute(END_ALL)).await {
            Ok(answer) => answer.map(|_done| true),
            Err(elapsed) => Err(sqlx::Error::Io(elapsed.into())),
        }
    }
}

/// A question on its way. Dropped before it is [`answered`](Self::answered), whoever asked has stopped waiting.
#[must_use]
pub(crate) struct Unanswered<'a>(Option<&'a Doubt>);

impl<'a> Unanswered<'a> {
    pub(crate) const fn new(doubt: &'a Doubt) -> Self {
        Self(Some(doubt))
    }

    pub(crate) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(doubt) = self.0 {
            doubt.cast();
        }
    }
}

impl Store {
    /// Waits for `work` on connections of the pool, no longer than the deadline.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when it did not come to an end.
    pub(crate) async fn limited<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let work = pin!(work);
        // Dropped before the work, so that its connection is doubted by the time it comes back.
        let unanswered = Unanswered::new(&self.doubt);
        let Ok(answer) = timeout(self.deadline, work).await else {
            return Err(StoreError::Unknown { doing, limit: self.deadline });
        };
        unanswered.answered();
        answer
    }
}

/// Limits a statement that is asked of the pool itself: `.fetch_one(&self.pool).within(self, "claim due runs").await?`.
pub(crate) trait Within<T> {
    /// # Errors
    /// [`StoreError::Unknown`] when no answer came within the store's deadline.
    fn within(self, store: &Store, doing: &'static str) -> impl Future<Output = Result<T, StoreError>> + Send;
}

impl<T: Send, F: Future<Output = Result<T, sqlx::Error>> + Send> Within<T> for F {
    async fn within(self, store: &Store, doing: &'static str) -> Result<T, StoreError> {
        store.limited(doing, async { self.await.doing(doing) }).await
    }
}

#[cfg(test)]
mod tests;
