//! What later steps see of earlier ones, and how far each name is known.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use crate::{
    pipeline::{Step, taken_names},
    run::Trigger,
    schedule::ScheduleKind,
    task::TaskSpec,
    template::{Certainty, Fuel, Partial, Reference, Scope},
    time::{Zone, with_offset},
};

use super::{Given, SampleOf};

/// What a step would leave behind.
#[derive(Debug, Clone)]
pub(super) enum Output {
    Value { value: Value, certainty: Certainty, sample: Option<SampleOf> },
    Unknown,
}

/// Whether a step is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    Surely,
    Never,
    /// As far as a sample tells, where one does.
    Perhaps(Option<bool>),
}

/// The scope of a walk.
pub(super) struct Seen<'a> {
    scope: Scope,
    steps: BTreeMap<String, Certainty>,
    taken: HashSet<&'a str>,
    event: Certainty,
    /// Of `item`.
    item: Certainty,
    is_kept: bool,
}

impl<'a> Seen<'a> {
    pub(super) fn new(spec: &'a TaskSpec, given: &Given<'_>, zone: &Zone) -> Self {
        let mut params = spec.params.clone();
        params.extend(given.params.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        let trigger = match spec.schedule_kind {
            ScheduleKind::Event => Trigger::Event,
            ScheduleKind::Manual => Trigger::Manual,
            ScheduleKind::Cron | ScheduleKind::Rrule | ScheduleKind::Once | ScheduleKind::Interval => Trigger::Schedule,
        };
        let scope = Scope {
            params: Value::Object(params),
            event: given.event.cloned().unwrap_or_default(),
            now: with_offset(given.now, zone),
            run: json!({ "scheduled_at": given.now, "attempt": 1, "trigger": trigger }),
            task: json!({ "id": given.task, "title": spec.title }),
            previous: given.previous.clone(),
            ..Scope::default()
        };
        let event = match (spec.schedule_kind, given.event) {
            (_, Some(_)) => Certainty::Sample,
            (ScheduleKind::Event, None) => Certainty::Unknown,
            (_, None) => Certainty::Known,
        };
        Self {
            scope,
            steps: BTreeMap::new(),
            taken: taken_names(&spec.pipeline),
            event,
            item: Certainty::Unknown,
            is_kept: given.task.is_some(),
        }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Calls `look` with the scope as the steps see it now.
    pub(super) fn with<T>(&self, fuel: &Fuel, look: impl FnOnce(Partial<'_>) -> T) -> T {
        look(Partial { scope: &self.scope, fuel, certainty: &|reference| self.certainty(reference) })
    }

    fn certainty(&self, reference: &Reference) -> Certainty {
        match (reference.name.as_str(), reference.field.as_deref()) {
            ("steps", Some(name)) => self.steps.get(name).copied().unwrap_or(Certainty::Unknown),
            ("steps", None) => self.steps.values().copied().max().unwrap_or(Certainty::Known),
            // A run has its id once it is planned.
            ("run", Some("id") | None) | ("error", _) => Certainty::Unknown,
            ("task", Some("id") | None) if !self.is_kept => Certainty::Unknown,
            ("event", _) => self.event,
            ("item" | "index", _) => self.item,
            _ => Certainty::Known,
        }
    }

    /// Sets `item` and `index` for one call.
    pub(super) fn take_item(&mut self, item: Option<(usize, Value)>, certainty: Certainty) {
        let (index, item) = item.map_or((Value::Null, Value::Null), |(n, item)| (n.into(), item));
        (self.scope.item, self.scope.index, self.item) = (item, index, certainty);
    }

    /// Shows a step's output to what comes after it. As in a run, of steps that share a name the last that ran counts,
    /// and one that was skipped hides nothing.
    pub(super) fn note(&mut self, step: &Step, called: Called, output: &Output) {
        let id = Some(step.id.as_str()).filter(|id| !self.taken.contains(id));
        for name in step.save_as.as_deref().into_iter().chain(id) {
            let earlier = self.steps.get(name).copied();
            let (value, certainty) = match (called, output) {
                (Called::Never, _) if earlier.is_some() => continue,
                (Called::Never, _) => (Value::Null, Certainty::Known),
                (Called::Perhaps(Some(false)), _) => match earlier {
                    Some(earlier) => (self.scope.steps[name].clone(), earlier.max(Certainty::Sample)),
                    None => (Value::Null, Certainty::Sample),
                },
                (_, Output::Unknown) => (Value::Null, Certainty::Unknown),
                (Called::Surely, Output::Value { value, certainty, .. }) => (value.clone(), *certainty),
                (Called::Perhaps(_), Output::Value { value, certainty, sample }) => {
                    // What it made in the last run it may make again; what was computed for this one may not be made.
                    let is_told = called == Called::Perhaps(Some(true)) || *sample == Some(SampleOf::LastRun);
                    let certainty = if is_told { Certainty::Sample.max(*certainty) } else { Certainty::Unknown };
                    (value.clone(), certainty)
                }
            };
            self.scope.steps.insert(name.to_owned(), value);
            self.steps.insert(name.to_owned(), certainty);
        }
    }

    /// From here on nobody knows which steps ran.
    pub(super) fn forget_steps(&mut self) {
        self.steps.values_mut().for_each(|certainty| *certainty = Certainty::Unknown);
    }
}
