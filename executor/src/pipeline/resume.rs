//! What the journal says about a step when an attempt comes to it. Pure.

use ordinaut_schema::{
    action::Effect,
    run::{StepFailure, StepRecord, StepState},
};

/// Where a step stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// It has its result; it is never called again.
    Done,
    /// It failed for good, and the run with it.
    Failed(StepFailure),
    /// To be called, with the input that is pinned, under the same key.
    Again,
    /// A call may have left, nobody knows what became of it, and a repeat may do harm.
    Unknown,
}

/// Judges a record.
///
/// `started` with an error is a failed call that is to be retried; `started` without one is a call whose answer
/// nobody has, unless it is parked: that call was answered, with "not yet".
pub(crate) fn standing(record: &StepRecord, effect: Effect) -> Standing {
    if record.is_parked() {
        return Standing::Again;
    }
    match (record.state, &record.error, effect) {
        (StepState::Succeeded | StepState::Skipped | StepState::Continued, _, _) => Standing::Done,
        (StepState::Failed, Some(error), _) => Standing::Failed(error.clone()),
        (StepState::Failed, None, _) | (StepState::Started, None, Effect::Once) => Standing::Unknown,
        (StepState::Started, Some(_), _) | (StepState::Started, None, Effect::Pure | Effect::Idempotent) => {
            Standing::Again
        }
    }
}

/// Calls of this record that failed.
pub(crate) fn failed_calls(record: &StepRecord) -> u32 {
    match record.state {
        StepState::Succeeded => record.calls.saturating_sub(1),
        StepState::Skipped => 0,
        StepState::Started | StepState::Continued | StepState::Failed => record.calls,
    }
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::run::ErrorKind;

    use super::*;

    fn record(state: StepState, error: Option<StepFailure>) -> StepRecord {
        StepRecord {
            step: "a".to_owned(),
            index: None,
            uses: "http.post".to_owned(),
            state,
            calls: 1,
            input: serde_json::Value::Null,
            output: serde_json::Value::Null,
            error,
            started_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn a_started_step_without_a_result_is_repeated_only_where_that_does_no_harm() {
        let started = record(StepState::Started, None);
        assert_eq!(standing(&started, Effect::Once), Standing::Unknown);
        assert_eq!(standing(&started, Effect::Idempotent), Standing::Again);
        assert_eq!(standing(&started, Effect::Pure), Standing::Again);
    }

    #[test]
    fn a_call_that_is_known_to_have_failed_may_be_repeated_whatever_it_does() {
        let failure = StepFailure::new(ErrorKind::RateLimited, "slow down");
        assert_eq!(standing(&record(StepState::Started, Some(failure)), Effect::Once), Standing::Again);
    }

    #[test]
    fn a_step_with_a_result_is_never_called_again() {
        for state in [StepState::Succeeded, StepState::Skipped, StepState::Continued] {
            for effect in [Effect::Pure, Effect::Idempotent, Effect::Once] {
                assert_eq!(standing(&record(state, None), effect), Standing::Done);
            }
        }
    }
}
