//! `retry`: a run that is over and did not succeed, once more, as a new run.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ordinaut_schema::{id::RunId, time::parse_duration};
use ordinaut_store::runs::RetryFrom;
use serde_json::json;

use crate::{
    failure::Failure,
    out::{Out, clean},
    session::Session,
    timeline::see_through,
};

#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The run's id, as `ordinaut runs` shows it
    run: RunId,
    /// Begin anew, with the latest definition and new keys, instead of going on at the step that failed
    #[arg(long)]
    from_start: bool,
    /// Wait until it is over, showing its steps; exits 1 unless it succeeded
    #[arg(long)]
    wait: bool,
    /// How long to wait at most, such as 5m; without, until it is over
    #[arg(long, requires = "wait", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

pub(crate) async fn retry(session: &Session, options: &Retry, out: Out) -> Result<ExitCode, Failure> {
    let Session { store, caller, .. } = session;
    let from = if options.from_start { RetryFrom::Start } else { RetryFrom::FailedStep };
    let former = store.find_run(caller, options.run).await?;
    let id = store.retry_run(caller, former.id, from).await?;
    let title = clean(&former.task_title);
    if options.wait {
        return see_through(session, &title, id, options.timeout, out).await;
    }
    if out.is_json() {
        out.json(&json!({ "id": id, "task_id": former.task, "task": former.task_title, "retry_of": former.id }))?;
    } else {
        out.line(format!("{title}: run {id} is planned, a retry of {}; `ordinaut runs {id}` shows it", former.id))?;
    }
    Ok(ExitCode::SUCCESS)
}
