//! How often a failed step is tried again, and how long it waits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{run::ErrorKind, time::duration_text};

/// `retry` of a task or a step, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Calls in all, the first included; at least 1.
    pub max_attempts: u32,
    pub backoff: Backoff,
    #[serde(with = "duration_text")]
    pub initial: Duration,
    #[serde(with = "duration_text")]
    pub max: Duration,
    /// Only these kinds are retried; empty means all that [`ErrorKind::is_transient`] names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorKind>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            backoff: Backoff::ExponentialJitter,
            initial: Duration::from_secs(1),
            max: Duration::from_mins(5),
            errors: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    #[default]
    ExponentialJitter,
    Exponential,
    Linear,
    Fixed,
}

impl Retry {
    /// Whether a failure of this kind is worth another call, the budget aside.
    pub fn covers(&self, kind: ErrorKind) -> bool {
        if self.errors.is_empty() { kind.is_transient() } else { self.errors.contains(&kind) && kind.may_retry() }
    }

    /// The wait before the next call after `failures` failed ones (at least 1).
    ///
    /// `spread` in `0.0..1.0` is the caller's randomness; only `exponential_jitter` uses it, for half of the wait.
    pub fn delay(&self, failures: u32, spread: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let doubled = self.initial.saturating_mul(1 << doublings).min(self.max);
        match self.backoff {
            Backoff::Fixed => self.initial.min(self.max),
            Backoff::Linear => self.initial.saturating_mul(failures.max(1)).min(self.max),
            Backoff::Exponential => doubled,
            Backoff::ExponentialJitter => doubled.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retries() -> impl Strategy<Value = Retry> {
        let backoffs = prop_oneof![
            Just(Backoff::ExponentialJitter),
            Just(Backoff::Exponential),
            Just(Backoff::Linear),
            Just(Backoff::Fixed)
        ];
        (backoffs, 1_u64..100, 1_u64..10_000).prop_map(|(backoff, initial, max)| Retry {
            backoff,
            initial: Duration::from_secs(initial),
            max: Duration::from_secs(max),
            ..Retry::default()
        })
    }

    proptest! {
        #[test]
        fn a_delay_never_passes_the_maximum(retry in retries(), failures in 0_u32.., spread in 0.0..1.0) {
            prop_assert!(retry.delay(failures, spread) <= retry.max);
        }

        #[test]
        fn a_delay_never_shrinks_with_more_failures(retry in retries(), failures in 1_u32..100, spread in 0.0..1.0) {
            prop_assert!(retry.delay(failures, spread) <= retry.delay(failures + 1, spread));
        }
    }
}
