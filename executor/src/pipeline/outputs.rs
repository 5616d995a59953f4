//! What later steps see of earlier ones, by `save_as` and by id. Pure.

use std::collections::HashSet;

use ordinaut_schema::{
    pipeline::{Element, Step},
    run::{StepFailure, StepRecord, StepState},
};
use serde_json::{Map, Value, json};

/// The steps of an element, in order.
pub(crate) fn members(element: &Element) -> &[Step] {
    match element {
        Element::Step(step) => std::slice::from_ref(step),
        Element::Parallel(group) => &group.parallel,
    }
}

/// Puts a finished step's output where expressions find it.
///
/// Steps that share a `save_as` are the branches of a choice: the last that ran wins, and one that was skipped does
/// not hide it.
pub(crate) fn insert(steps: &mut Map<String, Value>, taken: &HashSet<&str>, step: &Step, record: &StepRecord) {
    let names = step.save_as.as_deref().into_iter().chain(Some(step.id.as_str()).filter(|id| !taken.contains(id)));
    for name in names {
        match record.state {
            StepState::Succeeded | StepState::Continued => {
                steps.insert(name.to_owned(), record.output.clone());
            }
            StepState::Skipped => {
                steps.entry(name).or_insert(Value::Null);
            }
            StepState::Started | StepState::Failed => {}
        }
    }
}

/// The output of the last step, in the order of the pipeline, that ran: the run's own output.
pub(crate) fn last(pipeline: &[Element], records: &[StepRecord]) -> Value {
    let ran = |step: &Step| {
        records.iter().find(|record| {
            record.step == step.id
                && record.index.is_none()
                && matches!(record.state, StepState::Succeeded | StepState::Continued)
        })
    };
    pipeline
        .iter()
        .rev()
        .flat_map(|element| members(element).iter().rev())
        .find_map(ran)
        .map_or(Value::Null, |record| record.output.clone())
}

/// What a failed step with `on_error: continue` leaves in the place of an output.
pub(crate) fn error_output(failure: &StepFailure) -> Value {
    json!({ "error": error_value(failure) })
}

/// `error`, as expressions see it.
pub(crate) fn error_value(failure: &StepFailure) -> Value {
    json!({ "kind": failure.kind, "message": failure.message, "step": failure.step })
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::pipeline::taken_names;

    use super::*;

    fn step(id: &str, save_as: Option<&str>) -> Step {
        serde_json::from_value(json!({ "id": id, "uses": "data.transform", "save_as": save_as })).unwrap()
    }

    fn record(id: &str, state: StepState, output: &Value) -> StepRecord {
        serde_json::from_value(
            json!({ "step": id, "uses": "data.transform", "state": state, "calls": 1, "output": output }),
        )
        .unwrap()
    }

    #[test]
    fn of_two_steps_that_share_a_name_the_last_that_ran_wins() {
        let (hot, cold) = (step("hot", Some("text")), step("cold", Some("text")));
        let pipeline = vec![Element::Step(hot.clone()), Element::Step(cold.clone())];
        let taken = taken_names(&pipeline);

        let mut steps = Map::new();
        insert(&mut steps, &taken, &hot, &record("hot", StepState::Succeeded, &json!("25")));
        insert(&mut steps, &taken, &cold, &record("cold", StepState::Skipped, &Value::Null));
        assert_eq!(Value::Object(steps), json!({ "text": "25", "hot": "25", "cold": null }));
    }

    #[test]
    fn a_save_as_takes_the_name_from_the_step_with_that_id() {
        let (a, b) = (step("a", None), step("b", Some("a")));
        let pipeline = vec![Element::Step(a.clone()), Element::Step(b.clone())];
        let taken = taken_names(&pipeline);

        let mut steps = Map::new();
        insert(&mut steps, &taken, &a, &record("a", StepState::Succeeded, &json!(1)));
        insert(&mut steps, &taken, &b, &record("b", StepState::Succeeded, &json!(2)));
        assert_eq!(Value::Object(steps), json!({ "a": 2, "b": 2 }));
    }

    #[test]
    fn a_runs_output_is_that_of_the_last_step_that_ran() {
        let pipeline = vec![Element::Step(step("a", None)), Element::Step(step("b", None))];
        let records = [record("a", StepState::Succeeded, &json!(1)), record("b", StepState::Skipped, &Value::Null)];
        assert_eq!(last(&pipeline, &records), json!(1));
    }
}
