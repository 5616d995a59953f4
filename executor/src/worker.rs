//! The worker: takes permits, claims as many runs, and carries each through one attempt.
//!
//! A permit is taken before the claim, so nothing is claimed that cannot start at once; runs that only compute may be
//! claimed beyond the permits ([`ahead`]), as many as are started soon. A short batch is not an empty
//! queue (rows that changed meanwhile are skipped); two empty ones in a row are. Then it sleeps until the scheduler
//! wakes it, or polls.
//!
//! A run that is one crash away from being quarantined is a suspect. One of them at a time is in this process's hands:
//! the one that kills executors convicts itself, and not those that were beside it when it struck before.

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use ordinaut_store::{
    Store, StoreError,
    claims::{ClaimedRun, Room, Suspects},
    faults,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, warn};
use uuid::Uuid;

use self::{
    ahead::Pace,
    committer::{Committer, Ledger},
    lease::Leases,
};
use crate::{metrics, pipeline::Surroundings, revisions::Revisions, traces};

mod ahead;
mod attempt;
mod committer;
mod lease;
mod verdict;

pub(crate) use verdict::chain;

/// The most runs of one claim.
const BATCH: u16 = 500;
/// Runs in hand beyond the permits: what one commit takes, what waits for the next, and what is being claimed.
const AHEAD: u16 = 3 * BATCH;
/// Without a free permit a claim for fewer is not worth it.
const WORTH_A_CLAIM: u16 = BATCH / 4;
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
    /// A run whose executor died this often, with nothing of it done in between, is quarantined.
    pub max_crashes: u32,
}

/// What all attempts share.
pub(crate) struct Crew {
    store: Store,
    leases: Leases,
    revisions: Arc<Revisions>,
    committer: Committer,
    around: Surroundings,
    abort: CancellationToken,
    /// Pipelines walked so far.
    walked: AtomicU64,
}

/// Works until `drain`; then finishes what is in hand, or gives it back on `abort`.
pub(crate) async fn serve(
    store: Store,
    around: Surroundings,
    revisions: Arc<Revisions>,
    settings: Settings,
    wake: Arc<Notify>,
    drain: CancellationToken,
    abort: CancellationToken,
) -> anyhow::Result<()> {
    let ledger = store.clone();
    serve_with(ledger, store, (around, revisions), settings, wake, (drain, abort)).await
}

/// As [`serve`]; conclusions are written to `ledger`.
async fn serve_with(
    ledger: impl Ledger + 'static,
    store: Store,
    (around, revisions): (Surroundings, Arc<Revisions>),
    settings: Settings,
    wake: Arc<Notify>,
    (drain, abort): (CancellationToken, CancellationToken),
) -> anyhow::Result<()> {
    let (committer, conclusions) = Committer::channel();
    let leases = Leases::new(settings.lease);
    // Its own, besides the daemon's: a worker that broke down gives back what it has in hand.
    let abort = abort.child_token();
    let crew = Arc::new(Crew {
        store: store.clone(),
        leases: leases.clone(),
        revisions,
        committer,
        around,
        abort: abort.clone(),
        walked: AtomicU64::new(0),
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

/// What attempts hold: a permit, or a place ahead of them, and another one where the run is a suspect.
type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// What one claim may take.
struct Places {
    permits: Vec<OwnedSemaphorePermit>,
    ahead: Vec<OwnedSemaphorePermit>,
}

impl Places {
    fn room(&self) -> Room {
        let count = |places: &[_]| u16::try_from(places.len()).expect("no more than a batch");
        Room { permits: count(&self.permits), ahead: count(&self.ahead) }
    }
}

/// A run on its way into an attempt.
struct Claimed {
    run: ClaimedRun,
    /// When its lease was asked for.
    asked_at: Instant,
    /// It was claimed without a permit.
    ahead: bool,
}

struct Claiming {
    crew: Arc<Crew>,
    settings: Settings,
    permits: Arc<Semaphore>,
    /// Places beyond the permits.
    ahead: Arc<Semaphore>,
    pace: Pace,
    /// Something that needs a permit is pending: nothing is to be had without one.
    needs_permit: bool,
    /// One permit: for the suspect in hand.
    suspect: Arc<Semaphore>,
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
            ahead: Arc::new(Semaphore::new(AHEAD.into())),
            pace: Pace::default(),
            needs_permit: false,
            suspect: Arc::new(Semaphore::new(1)),
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
            let Some(places) = drain.run_until_cancelled(self.take_places()).await else { return };
            if drain.is_cancelled() {
                return;
            }
            match self.claim(places).await {
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
                self.empty_claims = tokio::select! {
                    () = drain.cancelled() => return,
                    // A wake-up that came since the last wait is stored: this returns at once.
                    () = self.wake.notified() => 0,
                    // What one claim skipped the next poll finds, unless somebody says so before.
                    () = tokio::time::sleep(jittered) => 1,
                };
            }
        }
    }

    /// Every free permit and, beyond them, as many places as the pace allows; at least one of either.
    async fn take_places(&mut self) -> Places {
        let mut permits = free(&self.permits, BATCH);
        let walked = self.crew.walked.load(Ordering::Relaxed);
        let allowed = self.pace.note(Instant::now(), walked).saturating_sub(self.attempts.len() as u64);
        let left = usize::from(BATCH) - permits.len();
        let mut ahead =
            free(&self.ahead, u16::try_from(allowed).unwrap_or(BATCH).min(u16::try_from(left).unwrap_or(0)));
        if permits.is_empty() && (self.needs_permit || ahead.len() < usize::from(WORTH_A_CLAIM)) {
            ahead.clear();
            permits.push(self.permits.clone().acquire_owned().await.expect("the semaphore is never closed"));
            permits.extend(free(&self.permits, BATCH - 1));
        }
        Places { permits, ahead }
    }

    async fn claim(&mut self, places: Places) -> Result<(), StoreError> {
        if self.mark_reset_at.elapsed() >= FROM_THE_START || self.empty_claims > 0 {
            self.mark = i64::MIN;
            self.mark_reset_at = Instant::now();
        }
        let room = places.room();
        let mut alone = self.suspect.clone().try_acquire_owned().ok();
        let suspects = Suspects::before(self.settings.max_crashes, alone.is_some().into());
        let (executor, lease) = (self.settings.executor, self.settings.lease);
        // The lease counts from before the statement: it cannot end earlier than this process believes.
        let asked_at = Instant::now();
        let claimed = self.crew.store.claim_runs_apart(executor, room, lease, self.mark, suspects).await?;
        if !claimed.is_empty() {
            faults::reached("after-claim");
        }
        match claimed.last() {
            // Not the queue is empty, but there is nothing in it for somebody without a permit.
            None if room.permits == 0 => self.needs_permit = true,
            None => {
                self.needs_permit = false;
                self.empty_claims += 1;
            }
            Some(last) => {
                self.needs_permit = false;
                self.empty_claims = 0;
                self.mark = last.rank;
            }
        }
        self.crew.revisions.learn(&self.crew.store, &claimed).await;
        let traced = traces::claimed(&claimed, asked_at.elapsed());
        let permits = places.permits.len();
        let places = places.permits.into_iter().chain(places.ahead).enumerate();
        for (run, (n, place)) in claimed.into_iter().zip(places) {
            let span = traces::attempt(&run, traced.as_ref());
            let alone = if suspects.include(&run) { alone.take() } else { None };
            let claimed = Claimed { run, asked_at, ahead: n >= permits };
            self.start(claimed, (place, alone), span);
        }
        metrics::get().attempts_running.record(self.attempts.len() as u64, &[]);
        Ok(())
    }

    /// Carries the run through its attempt.
    fn start(&mut self, claimed: Claimed, (permit, alone): Permits, span: Span) {
        let run = &claimed.run;
        metrics::get().runs_claimed.add(1, &[]);
        if run.attempt == 1 {
            let waited = run.started_at.duration_since(run.occurrence_at.max(run.planned_at)).as_secs_f64();
            metrics::get().pickup_seconds.record(waited.max(0.0), &[]);
        }
        let (crew, wake) = (self.crew.clone(), self.wake.clone());
        self.attempts.spawn(async move {
            attempt::attempt(crew, claimed).instrument(span).await;
            drop(permit);
            if alone.is_some() {
                drop(alone);
                // The next one may have been left where it was.
                wake.notify_one();
            }
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

/// As many as are free, up to `most`.
fn free(semaphore: &Arc<Semaphore>, most: u16) -> Vec<OwnedSemaphorePermit> {
    let mut taken = Vec::new();
    while taken.len() < usize::from(most) {
        let Ok(permit) = semaphore.clone().try_acquire_owned() else { break };
        taken.push(permit);
    }
    taken
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
            max_crashes: 3,
        };
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let working = serve_with(
            Broken,
            store.clone(),
            (around, Arc::default()),
            settings,
            Arc::default(),
            (drain.clone(), abort),
        );
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
