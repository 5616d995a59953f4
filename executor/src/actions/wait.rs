//! `wait.for` and `wait.until`: the run is parked until an instant that follows from the step's first call.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use ordinaut_schema::{
    action::parking::{LONGEST_WAIT, Until, wait_for, wait_until},
    run::{ErrorKind, StepFailure},
    time::short,
};
use ordinaut_store::Store;
use serde_json::json;

use super::{Action, Answer, StepCall, store_failure};
use crate::clock::DatabaseClock;

/// A wait that short is waited out in the slot: parking a run costs more.
const HAIR: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub struct Wait {
    store: Store,
    clock: DatabaseClock,
}

impl Wait {
    pub fn new(store: Store, clock: DatabaseClock) -> Self {
        Self { store, clock }
    }

    async fn end(&self, call: &StepCall) -> Result<Timestamp, StepFailure> {
        if call.uses == "wait.for" {
            let duration = wait_for(&call.input).map_err(refused)?;
            return call.started_at.checked_add(duration).map_err(|error| refused(error.to_string()));
        }
        let end = match wait_until(&call.input).map_err(refused)? {
            Until::At(at) => Some(at),
            civil @ Until::Civil(_) => {
                let zone = self.store.zone_of_run(call.run).await.map_err(|error| store_failure(&error))?;
                civil.instant(&zone)
            }
        };
        let longest = call.started_at.saturating_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX);
        end.filter(|end| *end <= longest).ok_or_else(|| {
            let message = format!(
                "`until` is {}, which is more than {} ahead; schedule a task for then instead",
                call.input["until"],
                short(LONGEST_WAIT)
            );
            refused(message)
        })
    }
}

#[async_trait]
impl Action for Wait {
    async fn execute(&self, call: StepCall) -> Result<Answer, StepFailure> {
        let end = self.end(&call).await?;
        // As the database keeps instants.
        let end = Timestamp::from_microsecond(end.as_microsecond()).unwrap_or(end);
        let left = Duration::try_from(end.duration_since(self.clock.now())).unwrap_or(Duration::ZERO);
        if left > HAIR {
            return Ok(Answer::Parked { until: end, waiting: json!({ "waiting_for": "instant", "until": end }) });
        }
        tokio::time::sleep(left).await;
        Ok(json!({ "waited_until": end }).into())
    }
}

fn refused(message: String) -> StepFailure {
    StepFailure::new(ErrorKind::ClientError, message)
}
