//! Conclusions, gathered: whatever finished while the previous commit was in flight is the next one.
//!
//! Plain ones, which the store writes in one statement, keep apart from the others. Two batches of them are on their way
//! at once: while one is being written, the next is being sent.
//!
//! Never by a timer: a lone conclusion is written at once. A batch that PostgreSQL refuses is halved until the
//! conclusion at fault stands alone; that run fails with what PostgreSQL said, the others are untouched.

use std::time::Duration;

use async_trait::async_trait;
use ordinaut_schema::run::{ErrorKind, StepFailure, Verdict};
use ordinaut_store::{
    Store, StoreError,
    conclusions::{Conclusion, Written},
    faults,
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::Instant,
};
use tracing::{error, warn};

use super::verdict::chain;
use crate::{metrics, pipeline::orders::Orders};

/// Rows of one transaction.
const ROWS: usize = 500;
/// Bytes of one transaction, as far as they are known.
const BYTES: usize = 4 * 1024 * 1024;
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How often a row's refusal that may pass is waited out; one that stays is this row's own, and others wait behind it.
const REFUSALS: u32 = 5;

/// Where conclusions are written. The store, except in tests that refuse some.
#[async_trait]
pub(crate) trait Ledger: Send + Sync {
    async fn conclude(&self, conclusions: Vec<Conclusion>) -> Result<Vec<Written>, StoreError>;
}

#[async_trait]
impl Ledger for Store {
    async fn conclude(&self, conclusions: Vec<Conclusion>) -> Result<Vec<Written>, StoreError> {
        faults::reached("before-conclude");
        let written = self.conclude_runs(conclusions).await;
        // Committed, and nobody knows it yet.
        faults::reached("after-conclude");
        written
    }
}

/// Hands conclusions to [`commit`]. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    plain: mpsc::Sender<Item>,
    others: mpsc::Sender<Item>,
}

/// What [`commit`] takes conclusions from.
pub(crate) struct Lanes {
    plain: Lane,
    others: Lane,
}

/// A conclusion on its way.
#[derive(Debug)]
pub(crate) struct Item {
    conclusion: Conclusion,
    bytes: usize,
    orders: Orders,
    answer: oneshot::Sender<Written>,
}

impl Committer {
    pub(crate) fn channel() -> (Self, Lanes) {
        let [(plain, plain_items), (others, other_items)] = [(); 2].map(|()| mpsc::channel(2 * ROWS));
        (Self { plain, others }, Lanes { plain: Lane::new(plain_items), others: Lane::new(other_items) })
    }

    /// Writes a conclusion, or finds that the lease is not ours any more.
    pub(crate) async fn conclude(&self, conclusion: Conclusion, bytes: usize, orders: &Orders) -> Written {
        let (answer, written) = oneshot::channel();
        let item = Item { conclusion, bytes, orders: orders.clone(), answer };
        let lane = if item.conclusion.is_plain() { &self.plain } else { &self.others };
        if lane.send(item).await.is_err() {
            // The committer outlives every attempt; should it not, the lease ends and another executor takes over.
            return Written::LeaseLost;
        }
        written.await.unwrap_or(Written::LeaseLost)
    }
}

/// Commits until every [`Committer`] is gone.
pub(crate) async fn commit(ledger: &dyn Ledger, lanes: Lanes) {
    tokio::join!(lanes.plain.commit(ledger), lanes.plain.commit(ledger), lanes.others.commit(ledger));
}

/// Conclusions of one kind. Several may commit from it.
struct Lane(Mutex<Waiting>);

struct Waiting {
    items: mpsc::Receiver<Item>,
    /// Taken, and too large for the batch that it was taken for.
    next: Option<Item>,
}

impl Lane {
    fn new(items: mpsc::Receiver<Item>) -> Self {
        Self(Mutex::new(Waiting { items, next: None }))
    }

    async fn commit(&self, ledger: &dyn Ledger) {
        while let Some(batch) = self.next_batch().await {
            commit_batch(ledger, batch).await;
        }
    }

    /// Whoever comes while another waits for the first conclusion waits for the second.
    async fn next_batch(&self) -> Option<Vec<Item>> {
        let mut waiting = self.0.lock().await;
        let Waiting { items, next } = &mut *waiting;
        let first = match next.take() {
            Some(item) => item,
            None => items.recv().await?,
        };
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        while batch.len() < ROWS {
            let Ok(item) = items.try_recv() else { break };
            bytes += item.bytes;
            if bytes > BYTES {
                *next = Some(item);
                break;
            }
            batch.push(item);
        }
        Some(batch)
    }
}

async fn commit_batch(ledger: &dyn Ledger, batch: Vec<Item>) {
    let mut batches = vec![batch];
    let mut pause = PAUSES.0;
    let mut refusals = 0;
    while let Some(mut batch) = batches.pop() {
        if batch.is_empty() {
            continue;
        }
        metrics::get().conclusion_batches.add(1, &[]);
        match ledger.conclude(batch.iter().map(|item| item.conclusion.clone()).collect()).await {
            Ok(written) => {
                pause = PAUSES.0;
                for (item, written) in batch.into_iter().zip(written) {
                    answer(item, written);
                }
            }
            Err(error) if error.is_retryable() && (refusals < REFUSALS || !error.is_of_a_row()) => {
                refusals += u32::from(error.is_of_a_row());
                warn!(
                    error = &error as &dyn std::error::Error,
                    "could not conclude {} runs; trying again",
                    batch.len()
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
                batches.push(drop_lapsed(batch));
            }
            Err(error) if batch.len() == 1 => {
                let item = batch.remove(0);
                conclude_refused(ledger, item, &error).await;
            }
            Err(_refused) => {
                let half = batch.split_off(batch.len() / 2);
                batches.extend([half, batch]);
            }
        }
    }
}

/// Those whose lease is over cannot be written any more; the rest.
fn drop_lapsed(batch: Vec<Item>) -> Vec<Item> {
    let now = Instant::now();
    let (kept, lapsed): (Vec<Item>, Vec<Item>) =
        batch.into_iter().partition(|item| item.orders.ends_at() > now && !item.orders.lost.is_cancelled());
    for item in lapsed {
        answer(item, Written::LeaseLost);
    }
    kept
}

/// The row at fault: its run fails, with what PostgreSQL said and without what it would not take.
async fn conclude_refused(ledger: &dyn Ledger, mut item: Item, refusal: &StoreError) {
    let run = item.conclusion.lease.run;
    error!(run.id = %run, error = refusal as &dyn std::error::Error, "run {run} could not be concluded as it was");
    let message = format!("the run's results could not be kept: {}", chain(refusal));
    item.conclusion.verdict = Verdict::Failed { error: StepFailure::new(ErrorKind::InvalidOutput, message) };
    item.conclusion.steps = Vec::new();
    match ledger.conclude(vec![item.conclusion.clone()]).await {
        Ok(written) => {
            let written = written.first().copied().unwrap_or(Written::LeaseLost);
            answer(item, written);
        }
        Err(error) => {
            error!(run.id = %run, error = &error as &dyn std::error::Error, "run {run} could not be concluded at all");
            answer(item, Written::LeaseLost);
        }
    }
}

fn answer(item: Item, written: Written) {
    // An attempt that stopped listening has nothing more to say.
    let _ = item.answer.send(written);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ordinaut_schema::id::{LeaseToken, RunId};
    use ordinaut_store::claims::Lease;
    use serde_json::json;

    use super::*;

    /// Refuses any batch that holds run 3 as succeeded, and loses its connection for the first `outages` calls.
    #[derive(Default)]
    struct Picky {
        outages: Mutex<u32>,
        batches: Mutex<Vec<usize>>,
        verdicts: Mutex<Vec<(u128, Verdict)>>,
    }

    #[async_trait]
    impl Ledger for Picky {
        async fn conclude(&self, conclusions: Vec<Conclusion>) -> Result<Vec<Written>, StoreError> {
            let mut outages = self.outages.lock().unwrap();
            if *outages > 0 {
                *outages -= 1;
                return Err(StoreError::Unknown { doing: "conclude", limit: Duration::ZERO });
            }
            self.batches.lock().unwrap().push(conclusions.len());
            let number = |conclusion: &Conclusion| conclusion.lease.run.uuid().as_u128();
            if conclusions.iter().any(|it| number(it) == 3 && matches!(it.verdict, Verdict::Succeeded { .. })) {
                return Err(StoreError::RunNotFound(conclusions[0].lease.run));
            }
            let written = conclusions.iter().map(|_| Written::Yes).collect();
            let verdicts = conclusions.into_iter().map(|it| (number(&it), it.verdict));
            self.verdicts.lock().unwrap().extend(verdicts);
            Ok(written)
        }
    }

    fn conclusion(n: u128) -> Conclusion {
        let id = uuid::Uuid::from_u128(n);
        Conclusion {
            lease: Lease { run: RunId::from_uuid(id), token: LeaseToken::from_uuid(id) },
            verdict: Verdict::Succeeded { output: json!(null) },
            steps: Vec::new(),
            ran_for: Duration::ZERO,
        }
    }

    async fn conclude_eight(ledger: &Picky, lease: Duration) -> Vec<Written> {
        let orders = Orders::new(Instant::now(), lease);
        let (committer, items) = Committer::channel();
        let asked = async {
            let committer = committer;
            let all = (0..8).map(|n| committer.conclude(conclusion(n), 10, &orders));
            futures_util::future::join_all(all).await
        };
        tokio::join!(asked, commit(ledger, items)).0
    }

    #[tokio::test]
    async fn one_bad_conclusion_fails_its_own_run_and_no_other() {
        let ledger = Picky::default();
        let written = conclude_eight(&ledger, Duration::from_secs(15)).await;
        assert!(written.iter().all(|it| *it == Written::Yes));

        let verdicts = ledger.verdicts.lock().unwrap();
        assert_eq!(verdicts.len(), 8);
        for (n, verdict) in verdicts.iter() {
            assert_eq!(matches!(verdict, Verdict::Failed { .. }), *n == 3, "run {n}: {verdict:?}");
        }
        assert_eq!(ledger.batches.lock().unwrap()[0], 8, "what was there at once is one transaction");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_shorter_than_the_lease_loses_no_conclusion() {
        let ledger = Picky { outages: Mutex::new(3), ..Picky::default() };
        let written = conclude_eight(&ledger, Duration::from_secs(15)).await;
        assert!(written.iter().all(|it| *it == Written::Yes));
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_end_of_its_lease_nothing_is_written_for_a_run() {
        let ledger = Picky { outages: Mutex::new(3), ..Picky::default() };
        let written = conclude_eight(&ledger, Duration::from_millis(40)).await;
        assert!(written.iter().all(|it| *it == Written::LeaseLost));
        assert!(ledger.verdicts.lock().unwrap().is_empty());
    }
}
