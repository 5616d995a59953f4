//! The measuring core: subjects take turns, each figure is the median of its rounds.

use std::{hint::black_box, time::Duration};

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
    round: Box<dyn FnMut() -> f64 + 'a>,
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
        round: impl FnMut() -> f64 + 'a,
    ) -> Self {
        Self { case, name, unit, goal: None, round: Box::new(round) }
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
            each
        })
    }
}

/// In one round, however short a call is.
const MOST_CALLS: u32 = 10_000_000;

/// Runs every subject once a round, round after round; the first round only warms up.
pub(crate) fn interleaved(rounds: usize, mut subjects: Vec<Subject<'_>>) -> Vec<Figure> {
    let mut values = vec![Vec::with_capacity(rounds); subjects.len()];
    for round in 0..=rounds {
        for (subject, values) in subjects.iter_mut().zip(&mut values) {
            let value = (subject.round)();
            if round > 0 {
                values.push(value);
            }
        }
    }
    subjects.into_iter().zip(values).map(|(subject, values)| Figure::new(&subject, values)).collect()
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

    pub(crate) fn to_json(&self, bench: &str) -> Value {
        json!({
            "bench": bench, "case": self.case, "subject": self.subject, "unit": self.unit, "median": self.median,
            "p10": self.spread.0, "p90": self.spread.1, "rounds": self.rounds, "goal": self.goal.map(Goal::value),
        })
    }
}

/// The value below which so many of a hundred lie; the last, of all.
pub(crate) fn percentile(values: &mut [f64], of_a_hundred: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * of_a_hundred / 100]
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
