//! One call of an action, under its limit.

use std::{sync::Arc, time::Duration};

use ordinaut_schema::{
    run::{ErrorKind, StepFailure},
    time::short,
};
use tokio::time::timeout;

use crate::actions::{Action, Answer, StepCall};

/// An action that keeps its limit itself knows better whether the request left: it gets this much longer to say so.
const GRACE: Duration = Duration::from_secs(1);
/// A cancelled call gets this long to tell its remote side.
const FAREWELL: Duration = Duration::from_secs(2);

/// Calls once. Ends at the limit, or soon after `call.cancelled`.
pub(crate) async fn call(action: Arc<dyn Action>, call: StepCall) -> Result<Answer, StepFailure> {
    let limit = call.limit;
    let cancelled = call.cancelled.clone();
    // When the engine is dropped in the middle (the lease ended, an abort), the action's own tasks hear of it.
    let _told = cancelled.clone().drop_guard();
    let answer = timeout(limit + GRACE, action.execute(call));
    tokio::pin!(answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        () = cancelled.cancelled() => {
            // Whatever it answers now, the run is cancelled.
            drop(timeout(FAREWELL, answer).await);
            return Err(StepFailure::new(ErrorKind::Cancelled, "the run was cancelled during this call"));
        }
    };
    answer.unwrap_or_else(|_elapsed| {
        Err(StepFailure::new(ErrorKind::Timeout, format!("no answer within {}", short(limit))).sent(true))
    })
}
