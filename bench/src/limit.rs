//! The limit: what this PostgreSQL gives to a program that does nothing but move rows.
//!
//! The same tables with the same columns, indexes and triggers, the same rows. It keeps what a queue with history cannot
//! do without (a claim under a lease, the row out of the queue and into history in one transaction, durably), and leaves
//! out everything else: pipelines, journals, renewals, gates, cancel requests, concurrency, fences. *Bare* writes the
//! history row; *full* writes the outbox row with it, which Ordinaut owes for every run. Two connections, batches of 500:
//! of what was tried on two cores, the best.

pub(crate) mod drain;
pub(crate) mod pickup;
pub(crate) mod planning;
