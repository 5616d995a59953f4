//! The engine: walks a pipeline, from wherever its journal says the last attempt got.
//!
//! What it promises: a finished step is never called again; a step's input is rendered once and pinned before its
//! first call; a step whose repeat may do harm is written as started, durably, before its call, and when nobody
//! knows how that call ended it fails with `outcome_unknown` instead of being repeated. The engine never waits for a
//! retry, an instant or a person: it answers [`Halt::Retry`] or [`Halt::Parked`] and the run gives its slot back.
//!
//! Decisions are pure and lie in [`resume`], [`budget`], [`outputs`] and [`output`]; [`step`], [`foreach`] and this
//! file act on them.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use ordinaut_schema::{
    action::{Effect, Grants},
    limits::Limits,
    pipeline::{Element, Step, taken_names},
    run::{ErrorKind, StepFailure, StepRecord, StepState},
    task::TaskSpec,
    template::Scope,
    time::short,
};
use ordinaut_store::{StoreError, claims::ClaimedRun};
use serde_json::Value;
use tokio::time::timeout;

use self::{journal::Journal, orders::Orders, scope::Pinned, side_by_side::side_by_side, step::Place};
use crate::{actions::ActionRegistry, clock::DatabaseClock, progress::Progress};

mod budget;
mod call;
mod effect;
mod foreach;
pub mod journal;
pub mod orders;
mod output;
pub(crate) mod outputs;
mod resume;
pub mod scope;
mod side_by_side;
mod step;
#[cfg(test)]
mod tests;

/// How long `on_failure` may take.
const AFTERMATH: Duration = Duration::from_mins(5);

/// Why a walk stopped short of its end, from the gravest to the least.
#[derive(Debug)]
pub enum Halt {
    /// The lease ended or is another attempt's: nothing may be written or said.
    Lost,
    /// The journal could not be written.
    Broken(StoreError),
    /// A cancel was asked.
    Cancelled,
    /// The gate is shut: the run is given back.
    Released,
    /// The run failed.
    Failed(StepFailure),
    /// A step failed and is worth another call, after a while.
    Retry { delay: Duration, error: StepFailure },
    /// A step waits for an instant or an answer.
    Parked { until: Timestamp },
}

impl Halt {
    const fn weight(&self) -> u8 {
        match self {
            Self::Lost => 6,
            Self::Broken(_) => 5,
            Self::Cancelled => 4,
            Self::Released => 3,
            Self::Failed(_) => 2,
            Self::Retry { .. } => 1,
            Self::Parked { .. } => 0,
        }
    }

    /// What several come to: the gravest; of retries the longest wait, of parked steps the shortest. Only a failure of
    /// one step waits for what others are parked for: they have started.
    fn of_all(halts: Vec<Self>) -> Option<Self> {
        let is_parked = |halt: &Self| matches!(halt, Self::Parked { .. });
        let whole = halts.iter().any(|halt| !halt.is_of_a_step());
        let waits = !whole && halts.iter().any(|halt| matches!(halt, Self::Failed(_))) && halts.iter().any(is_parked);
        halts.into_iter().filter(|halt| !waits || is_parked(halt)).reduce(|one, other| match (one, other) {
            (Self::Retry { delay, error }, Self::Retry { delay: longer, error: its }) => {
                if longer > delay {
                    Self::Retry { delay: longer, error: its }
                } else {
                    Self::Retry { delay, error }
                }
            }
            (Self::Parked { until }, Self::Parked { until: its }) => Self::Parked { until: until.min(its) },
            (earlier, later) if later.weight() > earlier.weight() => later,
            (earlier, _) => earlier,
        })
    }

    /// One step's own trouble, rather than the whole attempt's.
    const fn is_of_a_step(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Retry { .. } | Self::Parked { .. })
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::LeaseLost { .. } => Self::Lost,
            error => Self::Broken(error),
        }
    }
}

/// What a walk needs, and where it leaves what it finds.
pub struct Engine<'a> {
    run: &'a ClaimedRun,
    spec: &'a TaskSpec,
    journal: &'a Journal,
    orders: &'a Orders,
    around: &'a Surroundings,
    grants: &'a Grants,
    /// Locked only while an expression is evaluated.
    scope: Mutex<Scope>,
    taken: HashSet<&'a str>,
}

/// What all attempts of this process share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub actions: ActionRegistry,
    pub limits: Limits,
    pub clock: DatabaseClock,
    pub progress: Progress,
}

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("run", &self.run.id).finish_non_exhaustive()
    }
}

/// One attempt's own things, for [`Engine::new`].
#[derive(Debug, Clone, Copy)]
pub struct Attempted<'a> {
    pub run: &'a ClaimedRun,
    pub spec: &'a TaskSpec,
    pub journal: &'a Journal,
    pub orders: &'a Orders,
    pub grants: &'a Grants,
}

impl<'a> Engine<'a> {
    pub fn new(attempted: Attempted<'a>, pinned: Pinned, around: &'a Surroundings) -> Self {
        let Attempted { run, spec, journal, orders, grants } = attempted;
        let taken = taken_names(&spec.pipeline);
        Self { run, spec, journal, orders, around, grants, scope: Mutex::new(scope::scope(run, spec, pinned)), taken }
    }

    /// Walks to the end, or as far as it goes; answers the run's output.
    ///
    /// # Errors
    /// Why it stopped. After [`Halt::Failed`], `on_failure` has run.
    pub async fn run(&self) -> Result<Value, Halt> {
        let failure = match self.walk_in_time().await {
            Err(Halt::Failed(failure)) => failure,
            other => return other,
        };
        if !self.spec.on_failure.is_empty() {
            self.run_on_failure(&failure).await?;
        }
        Err(Halt::Failed(failure))
    }

    /// The walk, within what is left of `run_timeout`; waiting between attempts does not count.
    async fn walk_in_time(&self) -> Result<Value, Halt> {
        let in_pipeline = |id: &str| self.steps().any(|step| step.id == id);
        let is_parked = |record: &StepRecord| record.is_parked() && in_pipeline(&record.step);
        // Beside what failed, something may have been started that is waited for: the walk comes to it.
        if let Some(failure) = self.journal.failure_of(in_pipeline)
            && !self.journal.read(|records| records.iter().any(is_parked))
        {
            return Err(Halt::Failed(failure));
        }
        let left = self.spec.run_timeout.saturating_sub(self.run.ran_for);
        if let Ok(walked) = timeout(left, self.walk()).await {
            return walked;
        }
        let why = format!("the run took longer than its run_timeout of {}", short(self.spec.run_timeout));
        self.cut_off(&why);
        let unknown = self.journal.failure_of(in_pipeline).filter(|failure| failure.kind == ErrorKind::OutcomeUnknown);
        Err(Halt::Failed(unknown.unwrap_or_else(|| StepFailure::new(ErrorKind::Timeout, why))))
    }

    /// Ends what is in hand because time is up. A call whose repeat may do harm may have left, and nobody knows what
    /// became of it.
    fn cut_off(&self, why: &str) {
        self.journal.close_open(self.around.clock.now(), |record| {
            let harmful = self
                .calls(record)
                .any(|step| effect::effect(step, &record.input, &self.around.actions) == Effect::Once);
            if harmful { step::unknown(why) } else { StepFailure::new(ErrorKind::Timeout, why) }
        });
    }

    /// The step whose call a record is; a `foreach` as a whole is none, its items are.
    fn calls<'s>(&'s self, record: &StepRecord) -> impl Iterator<Item = &'s Step> {
        let (id, index) = (record.step.clone(), record.index);
        let all = self.steps().chain(&self.spec.on_failure);
        all.filter(move |step| step.id == id && step.foreach.is_some() == index.is_some())
    }

    async fn walk(&self) -> Result<Value, Halt> {
        for element in &self.spec.pipeline {
            match element {
                Element::Step(step) => self.step(step).await?,
                Element::Parallel(group) => self.group(&group.parallel).await?,
            }
            self.note(element);
        }
        Ok(self.journal.read(|records| outputs::last(&self.spec.pipeline, records)))
    }

    /// A step of the pipeline, with all its items.
    async fn step(&self, step: &Step) -> Result<(), Halt> {
        match &step.foreach {
            Some(list) => self.foreach(step, list).await,
            None => self.call_step(Place::alone(step)).await,
        }
    }

    async fn group(&self, members: &[Step]) -> Result<(), Halt> {
        let places: Vec<_> = members.iter().map(Place::member).collect();
        self.side_by_side(&places, places.len(), false).await
    }

    /// Calls several. Once one has failed, in an earlier attempt, only those that are parked are called still.
    async fn side_by_side(&self, places: &[Place<'_>], limit: usize, keep_going: bool) -> Result<(), Halt> {
        let record = |place: &Place<'_>| self.journal.find(place.id(), place.index());
        let has_failed = |place: &&Place<'_>| record(place).is_some_and(|record| record.state == StepState::Failed);
        if keep_going || !places.iter().any(|place| has_failed(&place)) {
            return side_by_side(places.len(), limit, keep_going, |n| self.call_step(places[n])).await;
        }
        let is_parked = |place: &&Place<'_>| record(place).is_some_and(|record| record.is_parked());
        let left: Vec<_> = places.iter().filter(|place| has_failed(place) || is_parked(place)).collect();
        side_by_side(left.len(), left.len(), true, |n| self.call_step(*left[n])).await
    }

    /// Runs `on_failure` once, under a limit of its own. Its failure is in the journal and changes nothing.
    async fn run_on_failure(&self, failure: &StepFailure) -> Result<(), Halt> {
        // Also what ended well beside what failed, in this attempt or in one before.
        self.note_all();
        self.scope().error = outputs::error_value(failure);
        let steps = async {
            for step in &self.spec.on_failure {
                self.call_step(Place::aftermath(step)).await?;
                if let Some(record) = self.journal.find(&step.id, None) {
                    outputs::insert(&mut self.scope().steps, &self.taken, step, &record);
                }
            }
            Ok::<(), Halt>(())
        };
        match timeout(AFTERMATH, steps).await {
            Ok(Err(halt)) if !halt.is_of_a_step() => Err(halt),
            Ok(_) => Ok(()),
            Err(_elapsed) => {
                self.cut_off(&format!("on_failure took longer than {}", short(AFTERMATH)));
                Ok(())
            }
        }
    }

    fn steps(&self) -> impl Iterator<Item = &'a Step> {
        self.spec.pipeline.iter().flat_map(outputs::members)
    }

    fn scope(&self) -> std::sync::MutexGuard<'_, Scope> {
        self.scope.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows an element's outputs to what comes after it; members of a group never see each other.
    fn note(&self, element: &Element) {
        for step in outputs::members(element) {
            if let Some(record) = self.journal.find(&step.id, None) {
                outputs::insert(&mut self.scope().steps, &self.taken, step, &record);
            }
        }
    }

    fn note_all(&self) {
        self.spec.pipeline.iter().for_each(|element| self.note(element));
    }
}
