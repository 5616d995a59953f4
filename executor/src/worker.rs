//! The worker: takes permits, claims as many runs, and carries each through one attempt.
//!
//! A permit is taken before the claim, so nothing is claimed that cannot start at once. A short batch is not an empty
//! queue (rows that changed meanwhile are skipped); two empty ones in a row are. Then it sleeps until the scheduler
//! wakes it, or polls.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use ordinaut_store::{Store, StoreError, claims::ClaimedRun};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, warn};
use uuid::Uuid;

use self::{
    committer::{Committer, Ledger},
    lease::Leases,
    revisions::Revisions,
};
use crate::{metrics, pipeline::Surroundings, traces};

mod attempt;
mod committer;
mod lease;
mod revisions;
mod verdict;

pub(crate) use verdict::chain;

/// The most runs of one claim.
const BATCH: u16 = 200;
/// How often the claim begins again at the head of the queue, where dead rows cost.
const FROM_THE_START: Duration = Duration::from_secs(1);
/// How long to sleep at most when nothing is pending.
const POLL: Duration = Duration::from_secs(1);

/// How this process works.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// This process, as the owner of leases.
    pub executor: Uuid,
    /// Attempts at once.
    pub permits: NonZeroU16,
    pub lease: Duration,
}

/// What all attempts share.
pub(crate) struct Crew {
    store: Store,
    leases: Leases,
    revisions: Revisions,
    committer: Committer,
    around: Surroundings,
    abort: CancellationToken,
}

/// Works until `drain`; then finishes what is in hand, or gives it back on `abort`.
pub async fn serve(
    store: Store,
    around: Surroundings,
    settings: Settings,
    wake: Arc<Notify>,
    drain: CancellationToken,
    abort: CancellationToken,
) -> anyhow::Result<()> {
    let ledger = store.clone();
    serve_with(ledger, store, around, settings, wake, drain, abort).await
}

/// As [`serve`]; conclusions are written to `ledger`.
async fn serve_with(
    ledger: impl Ledger + 'static,
    store: Store,
    around: Surroundings,
    settings: Settings,
    wake: Arc<Notify>,
    drain: CancellationToken,
    abort: CancellationToken,
) -> anyhow::Result<()> {
    let (committer, conclusions) = Committer::channel();
    let leases = Leases::new(settings.lease);
    // Its own, besides the daemon's: a worker that broke down gives back what it has in hand.
    let abort = abort.child_token();
    let crew = Arc::new(Crew {
        store: store.clone(),
        leases: leases.clone(),
        revisions: Revisions::default(),
        committer,
        around,
        abort: abort.clone(),
    });

    let finished = CancellationToken::new();
    let mut services = JoinSet::new();
    {
        let (store, finished) = (store.clone(), finished.clone());
        services.spawn(async move { leases.renew(&store, &finished).await });
    }
    services.spawn(async move { committer::commit(&ledger, conclusions).await });
    let mut claiming = Claiming::new(crew, settings, wake);
    let mut stood = beside(&mut services, claiming.serve(&drain)).await;
    if stood.is_ok() {
        stood = beside(&mut services, claiming.finish()).await;
    }
    if stood.is_err() {
        // A claim that was cut off is recovered like one of an executor that is gone.
        abort.cancel();
        if timeout(settings.lease, claiming.finish()).await.is_err() {
            warn!("the worker broke down and could not give back what it had in hand; its leases are over");
        }
        claiming.attempts.shutdown().await;
    }
    // The last sender of conclusions went with the crew: the committer ends when all is written.
    drop(claiming);
    finished.cancel();
    while let Some(ended) = services.join_next().await {
        stood = stood.and(ended.context("a service of the worker broke down"));
    }
    stood
}

/// Does `work` for as long as the services stand, all of which outlive it; else says that one did not.
async fn beside(services: &mut JoinSet<()>, work: impl Future<Output = ()>) -> anyhow::Result<()> {
    tokio::select! {
        () = work => Ok(()),
        Some(ended) = services.join_next() => match ended {
            Ok(()) => Err(anyhow!("a service of the worker stopped on its own")),
            Err(error) => Err(anyhow::Error::from(error).context("a service of the worker broke down")),
        },
    }
}

struct Claiming {
    crew: Arc<Crew>,
    settings: Settings,
    permits: Arc<Semaphore>,
    attempts: JoinSet<()>,
    wake: Arc<Notify>,
    /// The rank last seen; nothing claimable is expected before it.
    mark: i64,
    mark_reset_at: Instant,
    empty_claims: u32,
}

impl Claiming {
    fn new(crew: Arc<Crew>, settings: Settings, wake: Arc<Notify>) -> Self {
        Self {
            crew,
            settings,
            permits: Arc::new(Semaphore::new(settings.permits.get().into())),
            attempts: JoinSet::new(),
            wake,
            mark: i64::MIN,
            mark_reset_at: Instant::now(),
            empty_claims: 0,
        }
    }

    async fn serve(&mut self, drain: &CancellationToken) {
        let mut pause = Duration::from_millis(100);
        loop {
            self.reap();
            let Some(permits) = drain.run_until_cancelled(self.take_permits()).await else { return };
            if drain.is_cancelled() {
                return;
            }
            match self.claim(permits).await {
                Ok(()) => pause = Duration::from_millis(100),
                Err(error) => {
                    metrics::get().store_errors.add(1, &[opentelemetry::KeyValue::new("service", "worker")]);
                    warn!(error = &error as &dyn std::error::Error, "could not claim runs; trying again");
                    if drain.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return;
                    }
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
            if self.empty_claims >= 2 {
                let jittered = POLL.mul_f64(0.75 + rand::random::<f64>() / 4.0);
                tokio::select! {
                    () = drain.cancelled() => return,
                    // A wake-up that came since the last wait is stored: this returns at once.
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(jittered) => {}
                }
                self.empty_claims = 0;
            }
        }
    }

    /// At least one permit, and as many more as are free.
    async fn take_permits(&self) -> Vec<OwnedSemaphorePermit> {
        let first = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let mut permits = vec![first];
        while permits.len() < usize::from(BATCH) {
            let Ok(permit) = self.permits.clone().try_acquire_owned() else { break };
            permits.push(permit);
        }
        permits
    }

    async fn claim(&mut self, permits: Vec<OwnedSemaphorePermit>) -> Result<(), StoreError> {
        if self.mark_reset_at.elapsed() >= FROM_THE_START || self.empty_claims > 0 {
            self.mark = i64::MIN;
            self.mark_reset_at = Instant::now();
        }
        let wanted = u16::try_from(permits.len()).ok().and_then(NonZeroU16::new).expect("between 1 and BATCH permits");
        // The lease counts from before the statement: it cannot end earlier than this process believes.
        let asked_at = Instant::now();
        let claimed =
            self.crew.store.claim_runs(self.settings.executor, wanted, self.settings.lease, self.mark).await?;
        match claimed.last() {
            None => self.empty_claims += 1,
            Some(last) => {
                self.empty_claims = 0;
                self.mark = last.rank;
            }
        }
        let traced = traces::claimed(&claimed, asked_at.elapsed());
        for (run, permit) in claimed.into_iter().zip(permits) {
            let span = traces::attempt(&run, traced.as_ref());
            self.start(run, asked_at, permit, span);
        }
        metrics::get().attempts_running.record(self.attempts.len() as u64, &[]);
        Ok(())
    }

    fn start(&mut self, run: ClaimedRun, asked_at: Instant, permit: OwnedSemaphorePermit, span: Span) {
        metrics::get().runs_claimed.add(1, &[]);
        if run.attempt == 1 {
            let waited = run.started_at.duration_since(run.occurrence_at.max(run.planned_at)).as_secs_f64();
            metrics::get().pickup_seconds.record(waited.max(0.0), &[]);
        }
        let crew = self.crew.clone();
        self.attempts.spawn(async move {
            attempt::attempt(crew, run, asked_at).instrument(span).await;
            drop(permit);
        });
    }

    fn reap(&mut self) {
        while let Some(ended) = self.attempts.try_join_next() {
            note_end(ended);
        }
    }

    /// Waits for the attempts in hand; `abort` makes them give their runs back.
    async fn finish(&mut self) {
        if !self.attempts.is_empty() {
            info!("draining: {} attempts in hand", self.attempts.len());
        }
        while let Some(ended) = self.attempts.join_next().await {
            note_end(ended);
        }
    }
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // Steps are guarded inside the attempt; this is the engine's own mistake. The lease ends and recovery counts it.
        tracing::error!(error = &error as &dyn std::error::Error, "an attempt ended without a conclusion");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use async_trait::async_trait;
    use ordinaut_schema::{limits::Limits, run::RunState, schedule::ScheduleKind};
    use ordinaut_store::{
        Caller,
        conclusions::{Conclusion, Written},
        tasks::Inserted,
        testing::{Fixture, accepted},
    };

    use super::*;
    use crate::{actions::ActionRegistry, clock::DatabaseClock, progress::Progress};

    #[tokio::test]
    async fn a_service_that_breaks_down_ends_the_work_beside_it() {
        let mut services = JoinSet::new();
        services.spawn(pending());
        services.spawn(async { panic!("a mistake of ours") });
        let broken = beside(&mut services, pending()).await.unwrap_err();
        assert!(broken.to_string().contains("broke down"), "{broken:#}");

        let mut services = JoinSet::new();
        services.spawn(async {});
        assert!(beside(&mut services, pending()).await.is_err(), "none ends before the work does");
    }

    /// A ledger with a mistake of ours in it.
    struct Broken;

    #[async_trait]
    impl Ledger for Broken {
        async fn conclude(&self, _: Vec<Conclusion>) -> Result<Vec<Written>, StoreError> {
            panic!("a mistake of ours")
        }
    }

    #[tokio::test]
    async fn a_worker_whose_committer_breaks_down_ends_and_says_so() {
        let (fixture, _database) = Fixture::fresh().await;
        let (store, local) = (fixture.executor.clone(), Caller::local("test"));
        let now = store.now().await.unwrap();
        let task = match store.insert_task(&local, &accepted("a", (ScheduleKind::Manual, ""), now), None).await.unwrap()
        {
            Inserted::Created(task) | Inserted::Existed(task) => task.id,
        };
        let run = store.run_now(&local, task, "1", None).await.unwrap().run;
        let around = Surroundings {
            actions: ActionRegistry::default(),
            limits: Limits::DEFAULT,
            clock: DatabaseClock::new(now),
            progress: Progress::silent(),
        };
        let settings = Settings {
            executor: Uuid::now_v7(),
            permits: NonZeroU16::new(4).expect("4 is not 0"),
            lease: Duration::from_secs(15),
        };
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let working = serve_with(Broken, store.clone(), around, settings, Arc::default(), drain.clone(), abort);
        let ended = timeout(Duration::from_mins(1), working).await.expect("nobody asked it to go on");
        let ended = ended.expect_err("its committer broke down");
        assert!(format!("{ended:#}").contains("broke down"), "{ended:#}");
        assert!(!drain.is_cancelled(), "it ended by itself");
        // Its lease is left to end: nobody knows what became of the conclusion.
        assert_eq!(store.find_run(&local, run).await.unwrap().state, RunState::Running);
    }

    #[tokio::test]
    async fn work_that_ends_first_leaves_its_services_standing() {
        let mut services = JoinSet::new();
        services.spawn(pending());
        assert!(beside(&mut services, async {}).await.is_ok());
        assert_eq!(services.len(), 1);
    }
}
