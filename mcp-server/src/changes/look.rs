//! Looks at what is followed: when an event came, and every few seconds whether one came or not.

use std::{collections::HashMap, time::Duration};

use ordinaut_schema::id::{AgentId, RunId, TaskId};
use ordinaut_store::{Caller, Store, StoreError};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{SETTLED, Shared, Subject};

/// How often everything followed is looked at, at least, while no events come in.
const WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// Tasks and runs of one statement.
const BATCH: usize = 500;

pub(super) async fn serve(shared: &Shared) {
    let mut all_looked_at = Instant::now();
    let mut failing = false;
    loop {
        let (net, fed, unsettled) = {
            let state = shared.lock();
            (state.net, state.fed, state.followers.is_unsettled())
        };
        let net = all_looked_at + if fed { net } else { net.min(WITHOUT_EVENTS) };
        let settled = Instant::now() + SETTLED;
        let wanted = tokio::select! {
            () = shared.stirred.notified() => shared.lock().followers.take_stirred(),
            () = sleep_until(settled), if unsettled && settled < net => shared.lock().followers.settle(),
            () = sleep_until(net) => {
                all_looked_at = Instant::now();
                shared.lock().followers.all()
            }
        };
        match look(shared, wanted).await {
            Ok(()) => failing = false,
            // One line an outage; the next round looks at everything.
            Err(error) if !failing => {
                failing = true;
                warn!(error = &error as &dyn std::error::Error, "what subscribers follow cannot be looked at");
            }
            Err(_) => {}
        }
    }
}

async fn look(shared: &Shared, wanted: HashMap<AgentId, Vec<Subject>>) -> Result<(), StoreError> {
    // Services that are not there change nothing; what they did meanwhile is seen when they are.
    let Ok(services) = shared.backend.now() else { return Ok(()) };
    for (agent, subjects) in wanted {
        let caller = Caller { agent, ..Caller::local("subscriptions") };
        for batch in subjects.chunks(BATCH) {
            look_as(shared, &services.store, &caller, batch).await?;
        }
    }
    Ok(())
}

/// Row-level security is what keeps one agent from hearing of another's.
async fn look_as(shared: &Shared, store: &Store, caller: &Caller, subjects: &[Subject]) -> Result<(), StoreError> {
    let (mut tasks, mut runs, mut list): (Vec<TaskId>, Vec<RunId>, bool) = Default::default();
    for subject in subjects {
        match *subject {
            Subject::Task(task) => tasks.push(task),
            Subject::Run(run) => runs.push(run),
            Subject::List => list = true,
        }
    }
    if list {
        let version = store.version_of_list(caller).await?;
        shared.lock().followers.saw(caller.agent, Subject::List, Some(&version));
    }
    if tasks.is_empty() && runs.is_empty() {
        return Ok(());
    }
    let versions = store.versions(caller, &tasks, &runs).await?;
    let mut state = shared.lock();
    for task in tasks {
        state.followers.saw(caller.agent, Subject::Task(task), versions.of_task(task));
    }
    for run in runs {
        state.followers.saw(caller.agent, Subject::Run(run), versions.of_run(run));
    }
    Ok(())
}
