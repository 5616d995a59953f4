//! Hints from the database: something may be due. Fast where they arrive; the polls are what is right.

use std::{sync::Arc, time::Duration};

use ordinaut_store::{Store, wakeups::Hint};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

const LIMIT: Duration = Duration::from_secs(5);

/// Passes hints on to the scheduler (`hinted`) and the worker (`wake`) until `drain`.
///
/// One that names an instant may be about a task or about a run that is pending already: both look.
pub async fn serve(
    store: Store,
    hinted: Arc<Notify>,
    wake: Arc<Notify>,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    while !drain.is_cancelled() {
        let listening = drain.run_until_cancelled(store.listen()).await;
        let mut listener = match listening {
            None => break,
            Some(Ok(listener)) => listener,
            Some(Err(error)) => {
                debug!(error = &error as &dyn std::error::Error, "could not listen for hints; polling meanwhile");
                drain.run_until_cancelled(tokio::time::sleep(LIMIT)).await;
                continue;
            }
        };
        while let Some(heard) = drain.run_until_cancelled(listener.next(LIMIT)).await {
            match heard {
                None => {}
                Some(Hint::Claimable) => wake.notify_one(),
                Some(Hint::Due(_)) => {
                    hinted.notify_one();
                    wake.notify_one();
                }
            }
        }
    }
    Ok(())
}
