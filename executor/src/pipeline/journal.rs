//! The journal of one attempt: the run's timeline in memory, and what of it is durable.
//!
//! A record is [`put`](Journal::put) when something happened and durable after the next [`flush`](Journal::flush).
//! So a finished step and the start of the next one are one write, and steps that run side by side share writes:
//! whoever comes while one is in flight is written by the next. The journal outlives the walk, so that an aborted
//! walk loses nothing that was put.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ordinaut_schema::{
    action::data::is_pure,
    run::{ErrorKind, StepFailure, StepRecord, StepState},
};
use ordinaut_store::{Store, StoreError, claims::Lease, faults};
use tracing::warn;

use super::output::json_bytes;

/// Where records go. The store, except in tests that kill an attempt between two writes.
#[async_trait]
pub trait Pages: Send + Sync {
    async fn write(&self, records: &[StepRecord]) -> Result<(), StoreError>;
}

/// The journal in the store, under a lease.
#[derive(Debug)]
pub struct LeasedPages {
    pub store: Store,
    pub lease: Lease,
}

#[async_trait]
impl Pages for LeasedPages {
    async fn write(&self, records: &[StepRecord]) -> Result<(), StoreError> {
        faults::reached("before-journal");
        let written = self.store.write_steps(self.lease, records).await;
        faults::reached("after-journal");
        written
    }
}

/// See the module.
pub struct Journal {
    pages: Arc<dyn Pages>,
    book: Mutex<Book>,
    /// One writer at a time; held across the write on purpose: those who wait are written together.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("records", &self.book().records.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Book {
    /// In the order in which steps were first written.
    records: Vec<StepRecord>,
    bytes: Vec<usize>,
    places: HashMap<(String, Option<u32>), usize>,
    /// Not durable yet, with the change that made them so.
    unwritten: BTreeMap<usize, u64>,
    changes: u64,
}

impl Book {
    fn set(&mut self, record: StepRecord) -> usize {
        let bytes = json_bytes(&record.input) + json_bytes(&record.output);
        let key = (record.step.clone(), record.index);
        if let Some(&place) = self.places.get(&key) {
            self.records[place] = record;
            self.bytes[place] = bytes;
            place
        } else {
            self.records.push(record);
            self.bytes.push(bytes);
            self.places.insert(key, self.records.len() - 1);
            self.records.len() - 1
        }
    }
}

impl Journal {
    /// Opens at what earlier attempts wrote.
    pub fn open(pages: Arc<dyn Pages>, written: Vec<StepRecord>) -> Self {
        let mut book = Book::default();
        for record in written {
            book.set(record);
        }
        Self { pages, book: Mutex::new(book), turn: tokio::sync::Mutex::default() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn find(&self, step: &str, index: Option<u32>) -> Option<StepRecord> {
        let book = self.book();
        book.places.get(&(step.to_owned(), index)).map(|place| book.records[*place].clone())
    }

    /// Puts a record, in the place of an earlier one of the same step and item.
    pub fn put(&self, record: StepRecord) {
        let mut book = self.book();
        let place = book.set(record);
        book.changes += 1;
        let change = book.changes;
        book.unwritten.insert(place, change);
    }

    /// Inputs and outputs so far, as JSON.
    pub fn bytes(&self) -> usize {
        self.book().bytes.iter().sum()
    }

    /// Everything, in the order in which steps were first written.
    pub fn timeline(&self) -> Vec<StepRecord> {
        self.book().records.clone()
    }

    /// Looks at the records without copying them.
    pub fn read<T>(&self, look: impl FnOnce(&[StepRecord]) -> T) -> T {
        look(&self.book().records)
    }

    /// Makes everything durable that was put before. Waits out what may pass; whoever holds the lease ends the wait.
    ///
    /// # Errors
    /// The lease is lost, or PostgreSQL refuses a record.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let (records, changes): (Vec<StepRecord>, BTreeMap<usize, u64>) = {
            let book = self.book();
            let records = book.unwritten.keys().map(|place| book.records[*place].clone()).collect();
            (records, book.unwritten.clone())
        };
        if records.is_empty() {
            return Ok(());
        }
        let mut delay = Duration::from_millis(50);
        while let Err(error) = self.pages.write(&records).await {
            if !error.is_retryable() {
                return Err(error);
            }
            warn!(error = &error as &dyn std::error::Error, "could not write to a run's journal; trying again");
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(1));
        }
        let mut book = self.book();
        book.unwritten.retain(|place, change| changes.get(place) != Some(change));
        Ok(())
    }

    /// As [`Journal::flush`], unless all there is to write are results that may as well be computed again.
    pub async fn flush_effects(&self) -> Result<(), StoreError> {
        let worth_it = {
            let book = self.book();
            book.unwritten.keys().any(|place| !is_pure(&book.records[*place].uses))
        };
        if worth_it { self.flush().await } else { Ok(()) }
    }

    /// Ends what is still open, because the run ends: nothing in history is left as `started`. What failed before keeps
    /// its error; the others get the one that `cause` has for them.
    pub fn close_open(&self, now: jiff::Timestamp, cause: impl Fn(&StepRecord) -> StepFailure) {
        let mut book = self.book();
        let open: Vec<usize> =
            (0..book.records.len()).filter(|place| book.records[*place].state == StepState::Started).collect();
        for place in open {
            let record = &mut book.records[place];
            record.state = StepState::Failed;
            record.finished_at = Some(now);
            if record.error.is_none() {
                record.error = Some(cause(record).at_step(&record.step));
            }
            book.changes += 1;
            let change = book.changes;
            book.unwritten.insert(place, change);
        }
    }

    /// The failure that ended the run in an earlier attempt, if one did (`on_failure` may still be owed): one whose
    /// outcome is unknown before any other.
    pub fn failure_of(&self, is_in_pipeline: impl Fn(&str) -> bool) -> Option<StepFailure> {
        self.read(|records| {
            let failures = records
                .iter()
                .filter(|record| record.state == StepState::Failed && is_in_pipeline(&record.step))
                .map(|record| {
                    record.error.clone().unwrap_or_else(|| {
                        StepFailure::new(ErrorKind::OutcomeUnknown, "the step failed").at_step(&record.step)
                    })
                });
            failures.min_by_key(|failure| failure.kind != ErrorKind::OutcomeUnknown)
        })
    }
}
