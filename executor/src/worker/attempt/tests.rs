//! Attempts over a real database, with what happens to their leases meanwhile.

use std::{
    num::NonZeroU16,
    sync::{Mutex, atomic::AtomicU64},
};

use async_trait::async_trait;
use ordinaut_schema::{
    id::RunId,
    limits::Limits,
    run::{RunState, Verdict},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, Store,
    tasks::Inserted,
    testing::{Database, Fixture, accepted_with},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::{
    actions::ActionRegistry,
    clock::DatabaseClock,
    pipeline::Surroundings,
    progress::Progress,
    worker::{
        Claiming, Places, Settings,
        committer::{Committer, Lanes, Ledger, commit},
        free,
        lease::Leases,
    },
};

const LEASE: Duration = Duration::from_mins(1);

/// A crew over a database of its own, whose conclusions nobody has begun to write.
struct Scene {
    crew: Arc<Crew>,
    items: Lanes,
    f: Fixture,
    local: Caller,
    _database: Database,
}

impl Scene {
    async fn new() -> Self {
        let (f, database) = Fixture::fresh().await;
        let (committer, items) = Committer::channel();
        let around = Surroundings {
            actions: ActionRegistry::default(),
            limits: Limits::DEFAULT,
            clock: DatabaseClock::new(f.executor.now().await.unwrap()),
            progress: Progress::silent(),
        };
        let crew = Crew {
            store: f.executor.clone(),
            leases: Leases::new(LEASE),
            revisions: Arc::default(),
            committer,
            around,
            abort: CancellationToken::new(),
            walked: AtomicU64::new(0),
        };
        Self { crew: Arc::new(crew), items, f, local: Caller::local("test"), _database: database }
    }

    /// A run of the task that does nothing at all.
    async fn planned(&self) -> RunId {
        let store = &self.f.executor;
        let definition =
            accepted_with("a", (ScheduleKind::Manual, ""), store.now().await.unwrap(), json!({ "overlap": "allow" }));
        let task = match store.insert_task(&self.local, &definition, None).await.unwrap() {
            Inserted::Created(task) | Inserted::Existed(task) => task.id,
        };
        store.run_now(&self.local, task, &Uuid::now_v7().to_string(), None).await.unwrap().run
    }
}

async fn claim(store: &Store) -> ClaimedRun {
    let one = NonZeroU16::new(1).expect("1 is not 0");
    store.claim_runs(Uuid::now_v7(), one, LEASE, i64::MIN).await.unwrap().remove(0)
}

/// The store, which renews all leases once before a conclusion's answer reaches its attempt.
struct Renewing {
    store: Store,
    leases: Leases,
    /// Before the conclusion is written, the run is given to another attempt.
    takes_over: bool,
    lost: Mutex<Vec<RunId>>,
    written: Mutex<Vec<Written>>,
}

#[async_trait]
impl Ledger for Renewing {
    async fn conclude(&self, conclusions: Vec<Conclusion>) -> Result<Vec<Written>, StoreError> {
        if self.takes_over {
            let given_back = Conclusion { verdict: Verdict::Released, ..conclusions[0].clone() };
            self.store.conclude_runs(vec![given_back]).await?;
            claim(&self.store).await;
        }
        let written = self.store.conclude_runs(conclusions).await?;
        let lost = self.leases.renew_once(&self.store).await?;
        self.lost.lock().unwrap().extend(lost);
        self.written.lock().unwrap().extend(&written);
        Ok(written)
    }
}

/// What a renewal said was lost, and what became of the conclusion, of a run whose lease was renewed in between.
async fn renewed_while_it_concludes(takes_over: bool) -> (Vec<RunId>, Vec<Written>, RunState) {
    let scene = Scene::new().await;
    let id = scene.planned().await;
    let run = claim(&scene.f.executor).await;
    let (lost, written) = Default::default();
    let leases = scene.crew.leases.clone();
    let ledger = Renewing { store: scene.f.executor.clone(), leases, takes_over, lost, written };
    let claimed = Claimed { run, asked_at: Instant::now(), ahead: false };
    tokio::join!(attempt(scene.crew, claimed), commit(&ledger, scene.items));
    let state = scene.f.executor.find_run(&scene.local, id).await.unwrap().state;
    (ledger.lost.into_inner().unwrap(), ledger.written.into_inner().unwrap(), state)
}

#[tokio::test]
async fn a_run_that_is_concluded_while_its_lease_is_renewed_has_lost_nothing() {
    let seen = renewed_while_it_concludes(false).await;
    assert_eq!(seen, (vec![], vec![Written::Yes], RunState::Succeeded));
}

#[tokio::test]
async fn a_conclusion_whose_lease_another_attempt_has_is_not_written() {
    let seen = renewed_while_it_concludes(true).await;
    assert_eq!(seen, (vec![], vec![Written::LeaseLost], RunState::Running));
}

#[tokio::test]
async fn what_was_claimed_ahead_and_not_started_in_time_is_given_back_untouched() {
    let scene = Scene::new().await;
    let runs = [scene.planned().await, scene.planned().await, scene.planned().await];
    let settings = Settings {
        executor: Uuid::now_v7(),
        permits: NonZeroU16::new(1).expect("1 is not 0"),
        lease: LEASE,
        max_crashes: 3,
    };
    let mut claiming = Claiming::new(scene.crew.clone(), settings, Arc::default());
    let places = Places { permits: free(&claiming.permits, 1), ahead: free(&claiming.ahead, 2) };
    claiming.claim(places).await.unwrap();
    // Nothing was waited for since they were started, and this is the only thread: none of them has begun.
    tokio::time::pause();
    tokio::time::advance(GIVEN_BACK * 2).await;
    tokio::time::resume();
    let Scene { items, f, local, _database, .. } = scene;
    tokio::select! {
        () = claiming.finish() => {}
        () = commit(&f.executor, items) => panic!("the crew is still there"),
    }

    let mut states = Vec::new();
    for run in runs {
        let run = f.executor.find_run(&local, run).await.unwrap();
        states.push((run.state, run.attempts));
    }
    states.sort_by_key(|(state, _)| state.as_str());
    assert_eq!(states, [(RunState::Pending, 1), (RunState::Pending, 1), (RunState::Succeeded, 1)]);
}
