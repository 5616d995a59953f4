//! The leases this process holds: renewed together, one statement for all, at a third of their length.
//!
//! A lease missing from a renewal's answer is another attempt's: its orders say so, and the attempt goes silent. Or its
//! conclusion has been written, and the attempt is still to hear of it: nothing is lost then, and nobody says so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ordinaut_schema::id::RunId;
use ordinaut_store::{
    Store, StoreError,
    claims::{Lease, Renewed},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{metrics, pipeline::orders::Orders};

/// Cheap to clone; all clones hold the same leases.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<Lease, Holder>>>,
    length: Duration,
}

/// The attempt that holds a lease.
#[derive(Debug)]
struct Holder {
    orders: Orders,
    /// It handed in its conclusion.
    concludes: bool,
}

impl Leases {
    pub(crate) fn new(length: Duration) -> Self {
        Self { held: Arc::default(), length }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Lease, Holder>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a lease renewed for as long as the answer lives.
    pub(crate) fn hold(&self, lease: Lease, asked_at: Instant) -> Held {
        let orders = Orders::new(asked_at, self.length);
        self.held().insert(lease, Holder { orders: orders.clone(), concludes: false });
        Held { leases: self.clone(), lease, orders }
    }

    /// Renews until `stop`.
    pub(crate) async fn renew(&self, store: &Store, stop: &CancellationToken) {
        let pace = self.length / 3;
        let mut wait = pace;
        while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            wait = match tokio::time::timeout(pace, self.renew_once(store)).await {
                Ok(Ok(lost)) => {
                    for run in lost {
                        metrics::get().leases_lost.add(1, &[]);
                        info!(run.id = %run, "the lease on run {run} is lost; its attempt stops");
                    }
                    pace
                }
                Ok(Err(error)) => self.retry_soon(&error),
                Err(_elapsed) => self.retry_soon(&StoreError::Unknown { doing: "renew leases", limit: pace }),
            };
        }
    }

    /// Renews all; answers with the runs whose lease was lost while their attempt ran.
    pub(super) async fn renew_once(&self, store: &Store) -> Result<Vec<RunId>, StoreError> {
        let leases: Vec<Lease> = self.held().keys().copied().collect();
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        // Counted from before the statement: the true end cannot be earlier.
        let asked_at = Instant::now();
        let renewed = store.renew_leases(&leases, self.length).await?;
        Ok(self.apply(&leases, &renewed, asked_at))
    }

    fn retry_soon(&self, error: &StoreError) -> Duration {
        metrics::get().store_errors.add(1, &[opentelemetry::KeyValue::new("service", "renewal")]);
        warn!(error = error as &dyn std::error::Error, "could not renew leases; trying again");
        (self.length / 20).max(Duration::from_millis(50))
    }

    fn apply(&self, asked: &[Lease], renewed: &[Renewed], asked_at: Instant) -> Vec<RunId> {
        let renewed: HashMap<_, _> = renewed.iter().map(|renewed| (renewed.run, renewed)).collect();
        let held = self.held();
        let mut lost = Vec::new();
        for lease in asked {
            // A lease let go meanwhile is nobody's business any more.
            let Some(Holder { orders, concludes }) = held.get(lease) else { continue };
            let Some(renewed) = renewed.get(&lease.run) else {
                // To a conclusion on its way this says that trying again is in vain, whichever of the two has happened.
                orders.lost.cancel();
                if !concludes {
                    lost.push(lease.run);
                }
                continue;
            };
            orders.renew(asked_at);
            if renewed.cancel_asked {
                orders.cancelled.cancel();
            }
            if renewed.gate_shut {
                orders.shut_gate();
            }
        }
        lost
    }
}

/// A lease in the hands of an attempt; let go when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    leases: Leases,
    pub(crate) lease: Lease,
    pub(crate) orders: Orders,
}

impl Held {
    /// The attempt is over, and its conclusion is on its way: with the commit the lease is gone, which is no loss.
    pub(super) fn concludes(&self) {
        if let Some(holder) = self.leases.held().get_mut(&self.lease) {
            holder.concludes = true;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.held().remove(&self.lease);
    }
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::id::LeaseToken;

    use super::*;

    fn lease(n: u128) -> Lease {
        let id = uuid::Uuid::from_u128(n);
        Lease { run: RunId::from_uuid(id), token: LeaseToken::from_uuid(id) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_tells_each_attempt_what_is_asked_of_it() {
        let leases = Leases::new(Duration::from_secs(15));
        let begun = Instant::now();
        let (kept, cancelled, lost) =
            (leases.hold(lease(1), begun), leases.hold(lease(2), begun), leases.hold(lease(3), begun));
        tokio::time::advance(Duration::from_secs(5)).await;

        let renewed = [(1, false), (2, true)].map(|(n, cancel_asked)| Renewed {
            run: lease(n).run,
            cancel_asked,
            gate_shut: false,
        });
        let told = leases.apply(&[lease(1), lease(2), lease(3)], &renewed, Instant::now());

        assert_eq!(told, [lease(3).run]);
        assert_eq!(kept.orders.ends_at(), begun + Duration::from_secs(20));
        assert!(!kept.orders.cancelled.is_cancelled() && !kept.orders.lost.is_cancelled());
        assert!(cancelled.orders.cancelled.is_cancelled());
        assert!(lost.orders.lost.is_cancelled());
    }

    #[tokio::test]
    async fn what_is_missing_because_its_conclusion_is_written_is_not_lost() {
        let leases = Leases::new(Duration::from_secs(15));
        let (runs, concludes) = (leases.hold(lease(1), Instant::now()), leases.hold(lease(2), Instant::now()));
        concludes.concludes();

        assert_eq!(leases.apply(&[lease(1), lease(2)], &[], Instant::now()), [lease(1).run]);
        assert!(runs.orders.lost.is_cancelled());
        assert!(concludes.orders.lost.is_cancelled(), "trying again is in vain");
    }

    #[tokio::test]
    async fn a_lease_let_go_is_not_renewed_any_more() {
        let leases = Leases::new(Duration::from_secs(15));
        drop(leases.hold(lease(1), Instant::now()));
        assert!(leases.held().is_empty());
    }
}
