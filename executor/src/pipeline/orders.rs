//! What the world tells an attempt while it runs: stop, give back, or you are no longer the one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Halt;

/// One attempt's orders. Cheap to clone; the renewal loop writes, the engine reads.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Somebody asked for the run to be cancelled.
    pub cancelled: CancellationToken,
    /// The lease is not this attempt's any more: silence.
    pub lost: CancellationToken,
    gate_shut: Arc<AtomicBool>,
    ends_at: watch::Sender<Instant>,
    lease: Duration,
}

impl Orders {
    /// For a lease of length `lease` that was asked for at `asked_at`.
    pub fn new(asked_at: Instant, lease: Duration) -> Self {
        Self {
            cancelled: CancellationToken::new(),
            lost: CancellationToken::new(),
            gate_shut: Arc::default(),
            ends_at: watch::Sender::new(asked_at + lease),
            lease,
        }
    }

    /// The lease was renewed by a statement sent at `asked_at`: it cannot end earlier than a lease after that.
    pub fn renew(&self, asked_at: Instant) {
        self.ends_at.send_replace(asked_at + self.lease);
    }

    /// Starts no further step; the run is given back.
    pub fn shut_gate(&self) {
        self.gate_shut.store(true, Ordering::Relaxed);
    }

    /// When the lease ends by this process's own monotonic clock.
    pub fn ends_at(&self) -> Instant {
        *self.ends_at.borrow()
    }

    /// Returns when the lease has ended, renewals included, or is known to be lost.
    pub async fn lease_over(&self) {
        let mut ends_at = self.ends_at.subscribe();
        loop {
            let end = *ends_at.borrow_and_update();
            tokio::select! {
                () = self.lost.cancelled() => return,
                () = tokio::time::sleep_until(end) => return,
                // `self` holds the sender: it cannot close. Cancel-safe, as the other two are.
                _ = ends_at.changed() => {}
            }
        }
    }

    /// Whether another step may start. In the last fifth of the lease this waits for a renewal.
    ///
    /// # Errors
    /// Why not.
    pub async fn may_start(&self) -> Result<(), Halt> {
        loop {
            if self.lost.is_cancelled() {
                return Err(Halt::Lost);
            }
            if self.cancelled.is_cancelled() {
                return Err(Halt::Cancelled);
            }
            if self.gate_shut.load(Ordering::Relaxed) {
                return Err(Halt::Released);
            }
            let end = self.ends_at();
            if end.saturating_duration_since(Instant::now()) > self.lease / 5 {
                return Ok(());
            }
            let mut ends_at = self.ends_at.subscribe();
            if *ends_at.borrow_and_update() != end {
                continue;
            }
            tokio::select! {
                () = self.lost.cancelled() => return Err(Halt::Lost),
                () = tokio::time::sleep_until(end) => return Err(Halt::Lost),
                _ = ends_at.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn no_step_starts_in_the_last_fifth_of_a_lease_until_it_is_renewed() {
        let orders = Orders::new(Instant::now(), LEASE);
        assert!(orders.may_start().await.is_ok());
        tokio::time::advance(Duration::from_millis(8_500)).await;

        let renewal = orders.clone();
        let (started, ()) = tokio::join!(orders.may_start(), async move {
            tokio::task::yield_now().await;
            renewal.renew(Instant::now());
        });
        assert!(started.is_ok());

        tokio::time::advance(Duration::from_millis(8_500)).await;
        assert!(matches!(orders.may_start().await, Err(Halt::Lost)), "nobody renewed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_over_at_the_end_of_its_last_renewal() {
        let orders = Orders::new(Instant::now(), LEASE);
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        orders.renew(Instant::now());
        orders.lease_over().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(15));
    }

    #[tokio::test]
    async fn a_shut_gate_gives_the_run_back_and_a_cancel_comes_first() {
        let orders = Orders::new(Instant::now(), LEASE);
        orders.shut_gate();
        assert!(matches!(orders.may_start().await, Err(Halt::Released)));
        orders.cancelled.cancel();
        assert!(matches!(orders.may_start().await, Err(Halt::Cancelled)));
    }
}
