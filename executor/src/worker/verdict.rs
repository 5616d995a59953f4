//! From how a walk ended to what is written about the run. Pure.

use std::error::Error;

use ordinaut_schema::run::{ErrorKind, StepFailure, Verdict};
use serde_json::Value;

use crate::pipeline::Halt;

/// `None`: the attempt must be silent.
pub(crate) fn verdict(walked: Result<Value, Halt>) -> Option<Verdict> {
    match walked {
        Ok(output) => Some(Verdict::Succeeded { output }),
        Err(Halt::Lost) => None,
        Err(Halt::Cancelled) => Some(Verdict::Cancelled { reason: "cancelled on request".to_owned() }),
        Err(Halt::Released) => Some(Verdict::Released),
        Err(Halt::Failed(error)) => Some(Verdict::Failed { error }),
        Err(Halt::Retry { delay, error }) => Some(Verdict::RetryAfter { delay, error }),
        Err(Halt::Parked { until }) => Some(Verdict::Parked { until }),
        Err(Halt::Broken(error)) => Some(Verdict::Failed {
            error: StepFailure::new(
                ErrorKind::InvalidOutput,
                format!("what a step returned could not be kept: {}", chain(&error)),
            ),
        }),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether the verdict ends the run, so that its timeline goes to history.
pub(crate) const fn is_final(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Succeeded { .. } | Verdict::Failed { .. } | Verdict::Cancelled { .. } => true,
        Verdict::RetryAfter { .. } | Verdict::Parked { .. } | Verdict::Released => false,
    }
}

/// The failure that steps still open end with.
pub(crate) fn cause(verdict: &Verdict) -> StepFailure {
    match verdict {
        Verdict::Failed { error } | Verdict::RetryAfter { error, .. } => error.clone(),
        Verdict::Cancelled { reason } => StepFailure::new(ErrorKind::Cancelled, reason.clone()),
        Verdict::Succeeded { .. } | Verdict::Parked { .. } | Verdict::Released => {
            StepFailure::new(ErrorKind::Cancelled, "the run ended before this step did")
        }
    }
}

/// For logs and metrics.
pub(crate) const fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded { .. } => "succeeded",
        Verdict::Failed { .. } => "failed",
        Verdict::Cancelled { .. } => "cancelled",
        Verdict::RetryAfter { .. } => "retry",
        Verdict::Parked { .. } => "parked",
        Verdict::Released => "released",
    }
}
