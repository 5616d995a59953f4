//! One step, run for real: how `channel test` and `llm test` see what a task would see, reload, grants and all.
//!
//! A task of its own, kept for the length of the run and cancelled afterwards; its run stays in the history.

use std::time::Duration;

use ordinaut_schema::{action::Offered, id::EventId, run::RunState, task::accept};
use ordinaut_store::tasks::Inserted;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    failure::{Exit, Failure, Located},
    out::{Out, cut},
    session::Session,
    timeline::watch,
};

/// Executors read the file within five seconds; a loaded machine gets some more.
const RELOAD_LIMIT: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Longer than one call may take, with its retries left out.
const RUN_LIMIT: Duration = Duration::from_mins(4);

/// Waits until an executor has read what the file says.
pub(crate) async fn offered(session: &Session, is_there: impl Fn(&Offered) -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + RELOAD_LIMIT;
    while !is_there(&session.store.offered().await?) {
        if Instant::now() >= deadline {
            return Err(Failure::new(Exit::TimedOut, "no executor has read the file yet").mend(
                "is one running, and does it read this file? `ordinaut doctor` says; ORDINAUT_CONFIG_DIR says where",
            ));
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Runs one step and says what came of it.
pub(crate) async fn step(session: &Session, uses: &str, with: &Value, title: &str, out: Out) -> Result<(), Failure> {
    // Two tests at once are two tasks.
    let title = format!("{title} ({})", EventId::new());
    let definition = json!({
        "title": title,
        "schedule_kind": "manual",
        "pipeline": [{ "id": "test", "uses": uses, "with": with, "retry": { "max_attempts": 1 } }],
    });
    let Session { store, caller, .. } = session;
    let terms = session.terms().await?;
    let accepted = accept(&definition, terms.acceptance()).map_err(|faults| {
        let located = |fault| Located { file: "test".to_owned(), line: None, fault };
        Failure::Faults(faults.into_iter().map(located).collect())
    })?;
    let (Inserted::Created(task) | Inserted::Existed(task)) = store.insert_task(caller, &accepted, None).await?;
    let asked = async {
        let run = store.run_now(caller, task.id, &format!("cli-{}", EventId::new()), None).await?.run;
        watch(session, run, Some(RUN_LIMIT), |_| Ok(())).await
    };
    let over = asked.await;
    store.cancel_task(caller, task.id).await?;
    let over = over?;
    let record = over.steps.iter().find(|record| record.step == "test");
    let output = record.map_or(Value::Null, |record| record.output.clone());
    if over.state != RunState::Succeeded {
        let error = record.and_then(|record| record.error.as_ref()).or(over.error.as_ref());
        let why = error.map_or_else(|| over.state.to_string(), |error| format!("{}: {}", error.kind, error.message));
        return Err(Failure::new(Exit::Failed, format!("it does not work: {why}")));
    }
    if out.is_json() {
        return out.json(&output);
    }
    out.line(format!("it works: {}", cut(&output.to_string(), 500)))
}
