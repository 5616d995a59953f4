//! Waiting for the end of a run: bounded, told as it goes, ended by the caller.
//!
//! A change wakes the wait where events come in; where they do not, it looks by itself. Giving up, by
//! `notifications/cancelled` or by a connection that closes, ends the wait and never the run.

use std::time::Duration;

use ordinaut_schema::id::RunId;
use ordinaut_store::{StoreError, runs::RunRecord, tasks::TaskRef};
use rmcp::model::ProgressNotificationParam;
use tokio::time::{Instant, sleep_until};

use crate::changes::Subject;

use super::super::call::{Call, Desk};

/// The longest wait, in seconds: clients give up a call not much later.
pub(super) const LONGEST_WAIT: u32 = 60;

const FIRST_LOOK: Duration = Duration::from_millis(100);
const SLOWEST_LOOK: Duration = Duration::from_secs(1);

/// The run as it is when it is over, when patience ends, or when the caller gives up.
pub(super) async fn wait_for_end(
    call: &Call,
    desk: &Desk,
    run: RunId,
    patience: Duration,
) -> Result<RunRecord, StoreError> {
    let context = &call.context;
    let deadline = Instant::now() + patience;
    // Before the first look: what changes after it wakes.
    let following = if patience.is_zero() { None } else { call.follow(desk) };
    if let Some(following) = &following {
        following.hint(Subject::Run(run)).expect("one subject is not too many");
    }
    let changed = async || match &following {
        Some(following) => drop(following.next().await),
        None => std::future::pending().await,
    };
    let mut pause = FIRST_LOOK;
    let mut told = Told::default();
    loop {
        let record = desk.store.find_run(&desk.caller, run).await?;
        let now = Instant::now();
        if record.state.is_terminal() || now >= deadline {
            return Ok(record);
        }
        told.tell(call, desk, &record).await;
        let look = (now + pause).min(deadline);
        let next = async {
            tokio::select! {
                () = context.ct.cancelled() => None,
                // Steps are told of before they are written: another look follows soon.
                () = changed() => Some(FIRST_LOOK),
                () = sleep_until(look) => Some((pause * 3 / 2).min(SLOWEST_LOOK)),
            }
        };
        match call.rest(next).await {
            Some(next) => pause = next,
            None => return Ok(record),
        }
    }
}

/// What the caller was told last.
#[derive(Debug, Default)]
struct Told {
    message: String,
    times: u32,
    /// How many steps the run's definition has, where that is known.
    steps: Option<usize>,
}

impl Told {
    /// Tells a caller who asked for it how far the run is, when that changed.
    async fn tell(&mut self, call: &Call, desk: &Desk, run: &RunRecord) {
        let Some(token) = call.context.meta.get_progress_token() else { return };
        if self.times == 0 {
            self.steps = steps_of(desk, run).await;
        }
        let message = message(run, self.steps);
        if message == self.message {
            return;
        }
        // How often something was told: the one number that only grows, whatever a retry takes back.
        self.times += 1;
        let progress = ProgressNotificationParam::new(token, f64::from(self.times)).with_message(message.clone());
        self.message = message;
        // A client that does not listen any more will not miss it.
        let _ = call.rest(call.context.peer.notify_progress(progress)).await;
    }
}

/// The steps of the definition that the run has, where it is still the task's.
async fn steps_of(desk: &Desk, run: &RunRecord) -> Option<usize> {
    let task = desk.store.find_task(&desk.caller, &TaskRef::Id(run.task)).await.ok()?;
    (task.revision == run.revision).then_some(task.spec.pipeline.len())
}

/// `running`, then `running, 2 of 5: weather`.
fn message(run: &RunRecord, steps: Option<usize>) -> String {
    // A step over a list has a record for each item, all beside each other.
    let mut begun: Vec<&str> = run.steps.iter().map(|record| record.step.as_str()).collect();
    begun.dedup();
    match (begun.last(), steps) {
        (None, _) => run.state.to_string(),
        (Some(step), Some(steps)) => format!("{}, {} of {steps}: {step}", run.state, begun.len()),
        (Some(step), None) => format!("{}, step {}: {step}", run.state, begun.len()),
    }
}
