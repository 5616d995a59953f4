//! Judges the names that templates use: whether anything is called so where they stand, and what was meant if not.

use super::{Checker, Place, secrets};
use crate::{
    fault::{Fault, FaultCode, nearest},
    template::{Reference, Scope},
};

/// What `event` is, as the store hands it to a run.
const EVENT_FIELDS: [&str; 3] = ["id", "topic", "payload"];

impl<'a> Checker<'a> {
    pub(super) fn references(&mut self, references: Vec<Reference>, path: &str, place: Place) {
        let mut seen = Vec::new();
        for reference in references {
            if !seen.contains(&reference) {
                if let Some(fault) = self.judge(&reference, path, place) {
                    self.faults.push(fault);
                }
                seen.push(reference);
            }
        }
    }

    fn judge(&mut self, reference: &Reference, path: &str, place: Place) -> Option<Fault> {
        let fault = |message: String| Some(Fault::new(path, FaultCode::UnknownReference, message));
        let field = reference.field.as_deref();
        match (reference.name.as_str(), field) {
            ("steps", Some(field)) => self.judge_step(field, path, place),
            ("params", Some(field)) => {
                known("params", field, self.params.keys().map(String::as_str), "add it to `params` of the task", path)
            }
            ("run", Some(field)) => known("run", field, ["id", "scheduled_at", "attempt", "trigger"], "", path),
            ("task", Some(field)) => known("task", field, ["id", "title"], "", path),
            ("previous", Some(field)) => known("previous", field, ["run", "steps"], "", path),
            ("error", _) if !place.on_failure => fault("`error` exists only in the steps of `on_failure`".to_owned()),
            ("error", Some(field)) => known("error", field, ["kind", "message", "step"], "", path),
            (name @ ("item" | "index"), _) if !place.in_foreach => {
                fault(format!("`{name}` exists only in `with` of a step that has `foreach`"))
            }
            // Whether a task is started by an event is known only when it is.
            ("event", Some(field)) if !EVENT_FIELDS.contains(&field) => {
                self.warnings.push(format!(
                    "{path}: an event has {}; `event.{field}` is null, unless `event.payload.{field}` was meant",
                    EVENT_FIELDS.join(", ")
                ));
                None
            }
            ("now", Some(field)) => fault(format!("`now` is a text and has no `{field}`; try format_time(now, '%F')")),
            ("secrets", _) => Some(secrets::misplaced(path)),
            (name, _) if Scope::NAMES.contains(&name) => None,
            (name, field) => Some(self.unknown(name, field, path, place)),
        }
    }

    fn judge_step(&self, name: &str, path: &str, place: Place) -> Option<Fault> {
        let fault = |message: String| Fault::new(path, FaultCode::UnknownReference, message);
        match self.names.get(name) {
            Some(positions) if positions.iter().any(|at| *at < place.position) => None,
            Some(positions) if positions.contains(&place.position) => Some(fault(format!(
                "`steps.{name}` is this step, or runs beside it: its output is there only for the steps after"
            ))),
            Some(_) => Some(fault(format!("`steps.{name}` runs later than this step, so it has no output yet"))),
            None if self.groups.contains(&name) => {
                Some(fault(format!("`steps.{name}` is a `parallel` group and has no output; name one of its steps")))
            }
            None => {
                let earlier: Vec<_> = self.earlier(place).collect();
                let known = match earlier.as_slice() {
                    [] => "no step runs before this one".to_owned(),
                    names => format!("the steps before this one are {}", names.join(", ")),
                };
                let fault = fault(format!("`steps.{name}` names no step; {known}"));
                Some(match nearest(name, earlier.iter().copied()) {
                    Some(near) => fault.suggest(format!("steps.{near}")),
                    None => fault,
                })
            }
        }
    }

    fn earlier(&self, place: Place) -> impl Iterator<Item = &'a str> {
        let before = move |positions: &[usize]| positions.iter().any(|at| *at < place.position);
        self.names.iter().filter(move |(_, positions)| before(positions)).map(|(name, _)| *name)
    }

    fn unknown(&self, name: &str, field: Option<&str>, path: &str, place: Place) -> Fault {
        let rest = field.map(|field| format!(".{field}")).unwrap_or_default();
        let near = if self.earlier(place).any(|step| step == name) {
            Some(format!("steps.{name}{rest}"))
        } else if self.params.contains_key(name) {
            Some(format!("params.{name}{rest}"))
        } else if name == "env" && field.is_some() {
            // What other programs keep in their environment, a task is given as a secret.
            Some(format!("secrets{rest}"))
        } else if place.of_event {
            Some(format!("event.payload.{name}{rest}"))
        } else {
            nearest(name, Scope::NAMES.into_iter().chain(["secrets"])).map(|near| format!("{near}{rest}"))
        };
        let payload = if place.of_event { " what the event carries is in `event.payload`;" } else { "" };
        let fault = Fault::new(
            path,
            FaultCode::UnknownReference,
            format!(
                "`{name}` names nothing here;{payload} a text is written '{name}'; names start with {}",
                Scope::NAMES.join(", ")
            ),
        );
        match near {
            Some(near) => fault.suggest(near),
            None => fault,
        }
    }
}

fn known<'k>(
    of: &str,
    field: &str,
    fields: impl IntoIterator<Item = &'k str>,
    mend: &str,
    path: &str,
) -> Option<Fault> {
    let fields: Vec<_> = fields.into_iter().collect();
    if fields.contains(&field) {
        return None;
    }
    let has = if fields.is_empty() { "is empty".to_owned() } else { format!("has {}", fields.join(", ")) };
    let mend = if mend.is_empty() { String::new() } else { format!("; {mend}") };
    let fault =
        Fault::new(path, FaultCode::UnknownReference, format!("`{of}.{field}` does not exist: `{of}` {has}{mend}"));
    Some(match nearest(field, fields) {
        Some(near) => fault.suggest(format!("{of}.{near}")),
        None => fault,
    })
}
