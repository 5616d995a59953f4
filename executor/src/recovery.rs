//! Recovery: runs of executors that are gone are given to others, blocked runs that have room are let in, old rows go.
//!
//! A lease is taken only after this process watched it stay unrenewed for a full lease by its own monotonic clock: a
//! leap of the database's clock expires nothing. A full lease is the longer of this process's own and what was left of
//! the row's: executors of one fleet may be set differently. Any executor may do any of this at any time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use ordinaut_store::{Store, StoreError, claims::Lease, recovery::HeldLease, retention::Retention};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{config::LONGEST_LEASE, metrics};

/// Runs let in at once.
const ADMITTED: u32 = 500;
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Often enough that an hour of events which is too large goes soon after it is over.
const RETENTION: Duration = Duration::from_mins(10);
/// Sooner after a failure.
const RETENTION_RETRY: Duration = Duration::from_mins(1);

/// How this process recovers and keeps.
#[derive(Debug, Clone)]
pub struct Settings {
    pub executor: Uuid,
    pub name: String,
    pub lease: Duration,
    /// A run whose executor died this often, with nothing of it done in between, is quarantined.
    pub max_crashes: u32,
    pub kept: Retention,
}

/// Watches until `drain`.
pub async fn serve(
    store: Store,
    settings: Settings,
    wake: Arc<Notify>,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    tokio::join!(
        watch(store.clone(), settings.clone(), wake, drain.clone()),
        beat(store.clone(), settings.clone(), drain.clone()),
        tidy(store.clone(), settings.kept, drain),
    );
    // Whoever asks whether anything will happen should know that this one is leaving.
    if let Err(error) = report(&store, &settings, "draining").await {
        warn!(error = &error as &dyn std::error::Error, "could not say that this executor is draining");
    }
    Ok(())
}

/// Says how this executor is: `running`, `draining`, `stopped`.
pub async fn report(store: &Store, settings: &Settings, state: &str) -> Result<(), StoreError> {
    store.report_executor(settings.executor, &settings.name, env!("CARGO_PKG_VERSION"), state).await
}

async fn watch(store: Store, settings: Settings, wake: Arc<Notify>, drain: CancellationToken) {
    let mut watched = Watch::default();
    loop {
        // Each on its own: runs that cannot be taken over keep no blocked one waiting.
        let recovered = recover(&store, &settings, &mut watched).await;
        let admitted = store.admit_blocked(ADMITTED).await;
        for freed in [recovered, admitted] {
            match freed {
                Ok(0) => {}
                Ok(_freed) => wake.notify_one(),
                Err(error) => note("recovery", &error),
            }
        }
        if !rest(settings.lease / 4, &drain).await {
            return;
        }
    }
}

async fn beat(store: Store, settings: Settings, drain: CancellationToken) {
    loop {
        if let Err(error) = report(&store, &settings, "running").await {
            note("heartbeat", &error);
        }
        if !rest(HEARTBEAT, &drain).await {
            return;
        }
    }
}

async fn tidy(store: Store, kept: Retention, drain: CancellationToken) {
    loop {
        let pause = match keep(&store, kept).await {
            Ok(()) => RETENTION,
            Err(error) => {
                note("retention", &error);
                RETENTION_RETRY
            }
        };
        if !rest(pause, &drain).await {
            return;
        }
    }
}

async fn keep(store: &Store, kept: Retention) -> Result<(), StoreError> {
    store.make_partitions().await?;
    store.drop_old(kept).await
}

/// `false` when `drain` came first.
async fn rest(pause: Duration, drain: &CancellationToken) -> bool {
    drain.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
}

fn note(service: &'static str, error: &StoreError) {
    metrics::get().store_errors.add(1, &[opentelemetry::KeyValue::new("service", service)]);
    warn!(error = error as &dyn std::error::Error, "{service} failed; it is tried again");
}

/// Takes what is over; answers how many runs may be claimable now.
async fn recover(store: &Store, settings: &Settings, watched: &mut Watch) -> Result<u32, StoreError> {
    // Read before the leases and counted from after them: what is left of one is never believed to be less than it is.
    let read_at = store.now().await?;
    let held = store.held_leases().await?;
    let over = watched.observe(&held, Look { at: Instant::now(), read_at, lease: settings.lease });
    if over.is_empty() {
        return Ok(0);
    }
    let (recovered, quarantined) = take_over(store, settings, &over).await?;
    metrics::get().runs_recovered.add(recovered.into(), &[]);
    metrics::get().runs_quarantined.add(quarantined.into(), &[]);
    info!(recovered, quarantined, "took {} runs from executors that are gone", recovered + quarantined);
    Ok(recovered)
}

/// All at once; where one cannot be taken over, it alone is left.
async fn take_over(store: &Store, settings: &Settings, over: &[HeldLease]) -> Result<(u32, u32), StoreError> {
    match store.recover_runs(over, settings.max_crashes).await {
        Err(error) if !error.is_retryable() && over.len() > 1 => {
            note("recovery", &error);
            let (mut recovered, mut quarantined) = (0, 0);
            for one in over {
                match store.recover_runs(std::slice::from_ref(one), settings.max_crashes).await {
                    Ok((one_recovered, one_quarantined)) => {
                        recovered += one_recovered;
                        quarantined += one_quarantined;
                    }
                    Err(error) => {
                        warn!(run.id = %one.lease.run, error = &error as &dyn std::error::Error,
                            "run {} cannot be taken over", one.lease.run);
                    }
                }
            }
            Ok((recovered, quarantined))
        }
        done => done,
    }
}

/// One look at the leases.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    /// The same by the database's clock.
    read_at: Timestamp,
    /// This process's own.
    lease: Duration,
}

/// A lease as it was last seen to change.
#[derive(Debug, Clone, Copy)]
struct Unrenewed {
    expires_at: Timestamp,
    since: Instant,
    /// How long it must stay unrenewed to be over.
    needed: Duration,
}

impl Unrenewed {
    fn new(held: &HeldLease, look: Look, needed_before: Duration) -> Self {
        let left = Duration::try_from(held.expires_at.duration_since(look.read_at)).unwrap_or_default();
        // Nobody's lease is longer, whatever a clock that leapt back makes of it.
        let needed = left.min(LONGEST_LEASE).max(look.lease).max(needed_before);
        Self { expires_at: held.expires_at, since: look.at, needed }
    }
}

/// The leases seen, and since when each has not been renewed.
#[derive(Debug, Default)]
struct Watch(HashMap<Lease, Unrenewed>);

impl Watch {
    /// Those that were seen unrenewed for a whole lease.
    fn observe(&mut self, held: &[HeldLease], look: Look) -> Vec<HeldLease> {
        let before = std::mem::take(&mut self.0);
        let mut over = Vec::new();
        for seen in held {
            let unrenewed = match before.get(&seen.lease) {
                Some(same) if same.expires_at == seen.expires_at => *same,
                Some(renewed) => Unrenewed::new(seen, look, renewed.needed),
                None => Unrenewed::new(seen, look, Duration::ZERO),
            };
            if look.at.duration_since(unrenewed.since) >= unrenewed.needed {
                over.push(*seen);
            }
            self.0.insert(seen.lease, unrenewed);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::{
        id::{LeaseToken, RunId},
        run::RunState,
        schedule::ScheduleKind,
    };
    use ordinaut_store::{
        Caller,
        tasks::Inserted,
        testing::{Fixture, accepted},
    };

    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn held(n: u128, expires_at: &str) -> HeldLease {
        let id = Uuid::from_u128(n);
        let lease = Lease { run: RunId::from_uuid(id), token: LeaseToken::from_uuid(id) };
        HeldLease { lease, expires_at: expires_at.parse().unwrap() }
    }

    /// A look `after` the first one, by both clocks.
    fn look(begun: Instant, after: Duration) -> Look {
        let read_at = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + after;
        Look { at: begun + after, read_at, lease: LEASE }
    }

    #[test]
    fn a_lease_is_taken_after_a_full_lease_without_renewal_and_not_before() {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        // Long past by the database's clock, which may have leapt: that alone means nothing.
        let seen = [held(1, "2000-01-01T00:00:00Z")];
        assert!(watch.observe(&seen, look(begun, Duration::ZERO)).is_empty());
        assert!(watch.observe(&seen, look(begun, Duration::from_millis(14_999))).is_empty());
        assert_eq!(watch.observe(&seen, look(begun, LEASE)), seen);
    }

    #[test]
    fn a_renewal_begins_the_watch_anew() {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        watch.observe(&[held(1, "2026-01-01T00:00:10Z")], look(begun, Duration::ZERO));
        let renewed = [held(1, "2026-01-01T00:00:15Z")];
        assert!(watch.observe(&renewed, look(begun, LEASE)).is_empty());
        assert_eq!(watch.observe(&renewed, look(begun, LEASE * 2)), renewed);
    }

    #[test]
    fn a_lease_that_is_longer_than_our_own_is_watched_for_its_own_length() {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        let minute = Duration::from_mins(1);
        // A lease of a minute, renewed every twenty seconds by an executor in good health.
        let first = [held(1, "2026-01-01T00:01:00Z")];
        assert!(watch.observe(&first, look(begun, Duration::ZERO)).is_empty());
        assert!(watch.observe(&first, look(begun, Duration::from_secs(19))).is_empty());
        let renewed = [held(1, "2026-01-01T00:01:20Z")];
        assert!(watch.observe(&renewed, look(begun, Duration::from_secs(24))).is_empty());
        assert!(watch.observe(&renewed, look(begun, Duration::from_secs(83))).is_empty());
        assert_eq!(watch.observe(&renewed, look(begun, Duration::from_secs(24) + minute)), renewed);
    }

    #[test]
    fn a_clock_that_leapt_back_keeps_no_lease_longer_than_the_longest() {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        let seen = [held(1, "2026-01-02T00:00:00Z")];
        assert!(watch.observe(&seen, look(begun, Duration::ZERO)).is_empty());
        assert_eq!(watch.observe(&seen, look(begun, LONGEST_LEASE)), seen);
    }

    #[test]
    fn a_lease_that_is_gone_is_forgotten() {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        watch.observe(&[held(1, "2026-01-01T00:00:00Z")], look(begun, Duration::ZERO));
        watch.observe(&[], look(begun, Duration::ZERO));
        assert!(watch.0.is_empty());
    }

    #[tokio::test]
    async fn a_run_that_cannot_be_taken_over_holds_up_neither_the_others_nor_the_blocked() {
        let (fixture, _database) = Fixture::fresh().await;
        let (store, local) = (fixture.executor.clone(), Caller::local("test"));
        let now = store.now().await.unwrap();
        let mut runs = Vec::new();
        for title in ["refused", "other", "blocked"] {
            let definition = accepted(title, (ScheduleKind::Manual, ""), now);
            let task = match store.insert_task(&local, &definition, None).await.unwrap() {
                Inserted::Created(task) | Inserted::Existed(task) => task.id,
            };
            runs.push(store.run_now(&local, task, title, None).await.unwrap().run);
        }
        fixture.block_run(runs[2]).await;
        fixture.refuse_recovery(runs[0]).await;
        // An executor that dies at once.
        let limit = std::num::NonZeroU16::new(10).expect("10 is not 0");
        assert_eq!(store.claim_runs(Uuid::now_v7(), limit, Duration::from_millis(1), i64::MIN).await.unwrap().len(), 2);

        let settings = Settings {
            executor: Uuid::now_v7(),
            name: "test".to_owned(),
            lease: Duration::from_millis(100),
            max_crashes: 3,
            kept: Retention { history: Duration::MAX, outbox: Duration::MAX, outbox_bytes: u64::MAX },
        };
        let drain = CancellationToken::new();
        let watching = tokio::spawn(watch(store.clone(), settings, Arc::default(), drain.clone()));
        let deadline = Instant::now() + Duration::from_secs(30);
        let states = async || {
            let mut states = Vec::new();
            for run in &runs {
                states.push(store.find_run(&local, *run).await.unwrap().state);
            }
            states
        };
        while states().await != [RunState::Running, RunState::Pending, RunState::Pending] {
            assert!(Instant::now() < deadline, "{:?}", states().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drain.cancel();
        watching.await.unwrap();
    }
}
