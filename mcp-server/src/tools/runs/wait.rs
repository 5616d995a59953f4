//! Waiting for the end of a run: bounded, told as it goes, ended by the caller.

use std::time::Duration;

use ordinaut_schema::{id::RunId, run::StepState};
use ordinaut_store::{StoreError, runs::RunRecord};
use rmcp::{RoleServer, model::ProgressNotificationParam, service::RequestContext};
use tokio::time::{Instant, sleep_until};

use super::super::call::Desk;

/// The longest wait, in seconds: clients give up a call not much later.
pub(super) const LONGEST_WAIT: u32 = 60;

const FIRST_LOOK: Duration = Duration::from_millis(100);
const SLOWEST_LOOK: Duration = Duration::from_secs(1);

/// The run as it is when it is over, when patience ends, or when the caller gives up.
pub(super) async fn wait_for_end(
    context: &RequestContext<RoleServer>,
    desk: &Desk,
    run: RunId,
    patience: Duration,
) -> Result<RunRecord, StoreError> {
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_LOOK;
    let mut told = Told::default();
    loop {
        let record = desk.store.find_run(&desk.caller, run).await?;
        let now = Instant::now();
        if record.state.is_terminal() || now >= deadline {
            return Ok(record);
        }
        told.tell(context, &record).await;
        let look = (now + pause).min(deadline);
        if context.ct.run_until_cancelled(sleep_until(look)).await.is_none() {
            return Ok(record);
        }
        pause = (pause * 3 / 2).min(SLOWEST_LOOK);
    }
}

/// What the caller was told last.
#[derive(Debug, Default)]
struct Told {
    message: String,
    times: u32,
}

impl Told {
    /// Tells a caller who asked for it how far the run is, when that changed.
    async fn tell(&mut self, context: &RequestContext<RoleServer>, run: &RunRecord) {
        let Some(token) = context.meta.get_progress_token() else { return };
        let done = run.steps.iter().filter(|step| step.state != StepState::Started).count();
        let message = format!("{}, {done} steps done", run.state);
        if message == self.message {
            return;
        }
        self.times += 1;
        let progress = ProgressNotificationParam::new(token, f64::from(self.times)).with_message(message.clone());
        self.message = message;
        // A client that does not listen any more will not miss it.
        let _ = context.peer.notify_progress(progress).await;
    }
}
