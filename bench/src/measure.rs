//! The measuring core: subjects take turns, each figure is the median of its rounds.

use std::{cell::RefCell, hint::black_box, rc::Rc, time::Duration};

use anyhow::Context as _;
use nix::time::ClockId;
use serde_json::{Value, json};

/// Something to be measured: which case, by whom.
pub(crate) struct Subject<'a> {
    case: &'static str,
    name: &'static str,
    unit: &'static str,
    /// What the project promises, in the same unit: the median is at most so much, or at least.
    goal: Option<Goal>,
    /// One round, in `unit`.
    round: Box<dyn FnMut() -> anyhow::Result<f64> + 'a>,
}

/// On which side of a value the median is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    pub(crate) const fn value(self) -> f64 {
        match self {
            Self::AtMost(value) | Self::AtLeast(value) => value,
        }
    }

    pub(crate) const fn is_met(self, median: f64) -> bool {
        match self {
            Self::AtMost(value) => median <= value,
            Self::AtLeast(value) => median >= value,
        }
    }
}

/// What one subject's rounds came to.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) case: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<Goal>,
    pub(crate) median: f64,
    /// The tenth and the ninetieth of a hundred.
    pub(crate) spread: (f64, f64),
    pub(crate) rounds: usize,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(
        case: &'static str,
        name: &'static str,
        unit: &'static str,
        round: impl FnMut() -> anyhow::Result<f64> + 'a,
    ) -> Self {
        Self { case, name, unit, goal: None, round: Box::new(round) }
    }

    /// What else the values are that an earlier subject of the round left in `told`.
    pub(crate) fn told(case: &'static str, name: &'static str, told: &Told, of_a_hundred: usize) -> Self {
        let told = told.clone();
        Self::new(case, name, "ns", move || Ok(told.at(of_a_hundred)))
    }

    /// How many times the second one's value the first one's is, in the same round.
    pub(crate) fn ratio(case: &'static str, name: &'static str, (of, to): (&Told, &Told), of_a_hundred: usize) -> Self {
        let (of, to) = (of.clone(), to.clone());
        Self::new(case, name, "", move || Ok(of.at(of_a_hundred) / to.at(of_a_hundred)))
    }

    pub(crate) fn goal(self, goal: f64) -> Self {
        Self { goal: Some(Goal::AtMost(goal)), ..self }
    }

    pub(crate) fn at_least(self, goal: f64) -> Self {
        Self { goal: Some(Goal::AtLeast(goal)), ..self }
    }

    /// Nanoseconds of this thread's processor time for one `call`, which is told how many came before it; a round has as many as fill `fill`.
    pub(crate) fn per_call<T>(
        case: &'static str,
        name: &'static str,
        fill: Duration,
        mut call: impl FnMut(usize) -> T + 'a,
    ) -> Self {
        let mut done = 0_usize;
        let mut calls = 1_u32;
        Self::new(case, name, "ns", move || {
            let began = Began::now();
            for _ in 0..calls {
                black_box(call(done));
                done = done.wrapping_add(1);
            }
            let took = began.elapsed();
            let each = took.as_secs_f64() * 1e9 / f64::from(calls);
            let fitting = fill.as_nanos() * u128::from(calls) / took.as_nanos().max(1);
            calls = u32::try_from(fitting).unwrap_or(MOST_CALLS).clamp(1, MOST_CALLS);
            Ok(each)
        })
    }
}

/// In one round, however short a call is.
const MOST_CALLS: u32 = 10_000_000;

/// What a subject measured in this round, for those that tell more of it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Rc<RefCell<Vec<f64>>>);

impl Told {
    /// The round as a whole: keeps what it measures, and is the value below which so many of a hundred lie.
    pub(crate) fn keep<'a>(
        &self,
        of_a_hundred: usize,
        mut round: impl FnMut() -> anyhow::Result<Vec<f64>> + 'a,
    ) -> impl FnMut() -> anyhow::Result<f64> + 'a {
        let told = self.clone();
        move || {
            *told.0.borrow_mut() = round()?;
            Ok(told.at(of_a_hundred))
        }
    }

    /// A round that measures one value.
    pub(crate) fn keep_one<'a>(
        &self,
        mut round: impl FnMut() -> anyhow::Result<f64> + 'a,
    ) -> impl FnMut() -> anyhow::Result<f64> + 'a {
        self.keep(MIDDLE, move || Ok(vec![round()?]))
    }

    /// The value below which so many of a hundred lie; [`LAST`]: the greatest.
    pub(crate) fn at(&self, of_a_hundred: usize) -> f64 {
        let mut values = self.0.borrow_mut();
        values.sort_by(f64::total_cmp);
        values.len().checked_sub(1).map_or(f64::NAN, |last| values[last * of_a_hundred / 100])
    }

    pub(crate) fn set(&self, values: Vec<f64>) {
        *self.0.borrow_mut() = values;
    }

    /// How many values there are.
    #[expect(clippy::cast_precision_loss, reason = "some millions at most")]
    pub(crate) fn count(&self) -> f64 {
        self.0.borrow().len() as f64
    }
}

/// Places in a hundred.
pub(crate) const MIDDLE: usize = 50;
pub(crate) const WORST: usize = 99;
pub(crate) const LAST: usize = 100;

/// Runs every subject once a round, round after round; the first round only warms up. Measured in the order given, shown
/// case by case.
pub(crate) fn interleaved(rounds: usize, mut subjects: Vec<Subject<'_>>) -> anyhow::Result<Vec<Figure>> {
    let mut values = vec![Vec::with_capacity(rounds); subjects.len()];
    for round in 0..=rounds {
        for (subject, values) in subjects.iter_mut().zip(&mut values) {
            let value = (subject.round)().with_context(|| format!("{}, {}", subject.case, subject.name))?;
            if round > 0 {
                values.push(value);
            }
        }
    }
    Ok(by_case(subjects.iter().zip(values).map(|(subject, values)| Figure::new(subject, values)).collect()))
}

/// Cases in the order in which they come first, each with all its subjects.
pub(crate) fn by_case(mut figures: Vec<Figure>) -> Vec<Figure> {
    let cases: Vec<&str> = figures.iter().map(|figure| figure.case).collect();
    figures.sort_by_key(|figure| cases.iter().position(|case| *case == figure.case));
    figures
}

impl Figure {
    fn new(subject: &Subject<'_>, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: usize| values[(values.len() - 1) * share / 100];
        Self {
            case: subject.case,
            subject: subject.name,
            unit: subject.unit,
            goal: subject.goal,
            median: at(50),
            spread: (at(10), at(90)),
            rounds: values.len(),
        }
    }

    /// What was measured once.
    pub(crate) fn once(case: &'static str, subject: &'static str, unit: &'static str, value: f64) -> Self {
        Self { case, subject, unit, goal: None, median: value, spread: (value, value), rounds: 1 }
    }

    pub(crate) fn to_json(&self, bench: &str) -> Value {
        json!({
            "bench": bench, "case": self.case, "subject": self.subject, "unit": self.unit, "median": self.median,
            "p10": self.spread.0, "p90": self.spread.1, "rounds": self.rounds, "goal": self.goal.map(Goal::value),
        })
    }
}

/// A stopwatch over what this thread has had of a processor: other programs on the machine do not count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began(Duration);

impl Began {
    pub(crate) fn now() -> Self {
        Self(ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("Linux and macOS have the clock").into())
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}
