//! Whether a failed step is called again, and when. Pure.
//!
//! A step with its own `retry` spends that; the others share the task's. Budgets never multiply: when the one that
//! pays is spent, the run fails. Items and members that run side by side do not pay for each other: of a `foreach`
//! or a group, the one with the most failures counts.

use std::time::Duration;

use ordinaut_schema::{
    pipeline::{Element, Step},
    retry::Retry,
    run::{StepFailure, StepRecord},
};

use super::resume::failed_calls;

/// A remote side may ask for no longer than this.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// How long to wait before the next call, or `None` when there is none. `failures` includes this one.
pub(crate) fn next_call(failure: &StepFailure, retry: &Retry, failures: u32, spread: f64) -> Option<Duration> {
    let worth_it = retry.covers(failure.kind) && failures < retry.max_attempts;
    worth_it.then(|| {
        let asked = failure.retry_after.unwrap_or_default().min(LONGEST_WAIT);
        retry.delay(failures, spread).max(asked)
    })
}

/// Failures that the task's own budget has paid for.
pub(crate) fn spent_by_task(pipeline: &[Element], records: &[StepRecord]) -> u32 {
    let most = |steps: &[&Step]| {
        records
            .iter()
            .filter(|record| steps.iter().any(|step| step.retry.is_none() && step.id == record.step))
            .map(failed_calls)
            .max()
            .unwrap_or(0)
    };
    pipeline
        .iter()
        .map(|element| match element {
            Element::Step(step) => most(&[step]),
            Element::Parallel(group) => most(&group.parallel.iter().collect::<Vec<_>>()),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::run::{ErrorKind, StepState};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn failed(step: &str, index: Option<u32>, calls: u32) -> StepRecord {
        StepRecord {
            step: step.to_owned(),
            index,
            uses: "http.get".to_owned(),
            state: StepState::Started,
            calls,
            input: json!(null),
            output: json!(null),
            error: Some(StepFailure::new(ErrorKind::Timeout, "late")),
            started_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn the_task_pays_for_steps_without_a_budget_of_their_own() {
        let pipeline: Vec<Element> = serde_json::from_value(json!([
            { "id": "a", "uses": "http.get" },
            { "id": "b", "uses": "http.get", "retry":
                { "max_attempts": 9, "backoff": "fixed", "initial": "1s", "max": "1s" } },
            { "id": "g", "parallel": [{ "id": "c", "uses": "http.get" }, { "id": "d", "uses": "http.get" }] },
        ]))
        .unwrap();
        let records = [
            failed("a", Some(0), 1),
            failed("a", Some(1), 2),
            failed("b", None, 7),
            failed("c", None, 1),
            failed("d", None, 1),
        ];
        assert_eq!(spent_by_task(&pipeline, &records), 3);
    }

    #[test]
    fn a_remote_side_that_asks_for_a_pause_gets_it() {
        let mut failure = StepFailure::new(ErrorKind::RateLimited, "slow down");
        failure.retry_after = Some(Duration::from_secs(40));
        assert_eq!(next_call(&failure, &Retry::default(), 1, 0.5), Some(Duration::from_secs(40)));
    }

    proptest! {
        #[test]
        fn no_step_is_called_more_often_than_its_budget(attempts in 1_u32..50, spread in 0.0..1.0) {
            let retry = Retry { max_attempts: attempts, ..Retry::default() };
            let failure = StepFailure::new(ErrorKind::ServerError, "500");
            let calls = 1 + (1..100).take_while(|n| next_call(&failure, &retry, *n, spread).is_some()).count();
            prop_assert_eq!(calls, attempts as usize);
        }
    }

    #[test]
    fn an_unknown_outcome_is_never_retried_by_itself() {
        let retry = Retry { errors: vec![ErrorKind::OutcomeUnknown, ErrorKind::Timeout], ..Retry::default() };
        assert_eq!(next_call(&StepFailure::new(ErrorKind::OutcomeUnknown, "?"), &retry, 1, 0.5), None);
        assert!(next_call(&StepFailure::new(ErrorKind::Timeout, "late"), &retry, 1, 0.5).is_some());
    }
}
