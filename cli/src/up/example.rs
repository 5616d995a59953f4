//! The example task: asked for over MCP, run by the executor, shown step by step.
//!
//! It is due two seconds after it is created, so that what is seen is the schedule firing. Found under its title
//! later it has ended, and is run again by request. Where the set may not reach the example's server (it was not
//! started by `up`), the fetching step is skipped, by the same definition.

use std::net::SocketAddr;
use std::time::Duration;

use ordinaut_schema::{
    id::{EventId, RunId},
    task::TaskState,
};
use ordinaut_store::{
    StoreError,
    runs::{RunFilter, RunRecord},
    tasks::{TaskRecord, TaskRef},
};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    config::Config,
    failure::{Exit, Failure},
    out::{Out, clean},
    session::Session,
    tasks::sentence,
    timeline::{state_line, step_line, watch},
    times::local,
};

use super::client::Client;

pub(super) const TITLE: &str = "Example: is it warm in Chisinau?";
const PLAN_LIMIT: Duration = Duration::from_secs(30);
const RUN_LIMIT: Duration = Duration::from_mins(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The definition, as an assistant would send it.
fn definition(server: Option<SocketAddr>) -> Value {
    json!({
        "title": TITLE,
        "description": "Made by `ordinaut up`: fetches, decides, and leaves a message.",
        "schedule_kind": "once",
        "schedule_expr": "+2s",
        "params": { "city": "Chisinau", "server": url(server) },
        "pipeline": [
            {
                "id": "forecast",
                "if": "params.server",
                "uses": "http.get",
                "with": { "url": "${params.server}/forecast", "query": { "city": "${params.city}" } },
                "timeout": "10s",
            },
            {
                "id": "verdict",
                "uses": "data.transform",
                "with": {
                    "input": { "temperature": "${steps.forecast.body.temperature}" },
                    "expr": "temperature > 20 && 'warm' || 'not warm'",
                },
                "if": "steps.forecast",
            },
            {
                "id": "tell",
                "uses": "inbox.post",
                "with": {
                    "title": "It is ${default(steps.verdict, 'not known to be warm')} in ${params.city}",
                    "text": "${default(steps.forecast.body.summary, 'Nothing was fetched: this set was not started by `ordinaut up`.')}",
                },
            },
        ],
    })
}

fn url(server: Option<SocketAddr>) -> String {
    server.map(|address| format!("http://{address}")).unwrap_or_default()
}

/// Creates the task, or finds it, and shows a run of it to its end.
pub(super) async fn example(
    config: &Config,
    session: &Session,
    server: Option<SocketAddr>,
    out: Out,
) -> Result<RunRecord, Failure> {
    let tell = |text: String| if out.is_json() { Ok(()) } else { out.line(text) };
    let client = Client::connect(config).await?;
    let run = match find(session).await? {
        None => {
            client.call("create_task", fields(definition(server))).await?;
            let created = find(session).await?;
            let task =
                created.ok_or_else(|| Failure::new(Exit::Failed, "`create_task` answered, and no task is there"))?;
            tell(format!("\nCreated over MCP: \"{TITLE}\", {}", sentence(&task.spec)))?;
            if let Some(at) = task.next_occurrence_at {
                tell(format!("  due {}", local(at, &session.zone)))?;
            }
            newest_run(session, &task, None).await?
        }
        Some(task) => {
            tell(format!("\n\"{TITLE}\" is there already; it is run once more, over MCP"))?;
            let before = runs(session, &task).await?;
            let arguments = json!({
                "task": task.id,
                "params": { "server": url(server) },
                "request_id": format!("up-{}", EventId::new()),
            });
            client.call("run_now", fields(arguments)).await?;
            newest_run(session, &task, before).await?
        }
    };
    client.close().await;
    let over = watch(session, run, Some(RUN_LIMIT), |step| tell(step_line(step))).await?;
    tell(format!("  {}", state_line(&over)))?;
    for message in session.store.check_inbox(&session.caller, None, 1000).await? {
        if message.run == Some(run) {
            let title = message.title.as_deref().unwrap_or_default();
            tell(format!("\nIn the inbox: {}: {}", clean(title), clean(&message.body)))?;
        }
    }
    Ok(over)
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("arguments are objects"),
    }
}

/// The task under the example's title, unless it was cancelled.
async fn find(session: &Session) -> Result<Option<TaskRecord>, Failure> {
    match session.store.find_task(&session.caller, &TaskRef::Title(TITLE.to_owned())).await {
        Ok(task) => Ok(Some(task).filter(|task| task.state != TaskState::Cancelled)),
        Err(StoreError::TaskNotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn runs(session: &Session, task: &TaskRecord) -> Result<Option<RunId>, Failure> {
    let filter = RunFilter { task: Some(task.id), ..RunFilter::default() };
    let runs = session.store.list_runs(&session.caller, &filter, None, 1).await?;
    Ok(runs.first().map(|run| run.id))
}

/// Waits for a run that is newer than `before`.
async fn newest_run(session: &Session, task: &TaskRecord, before: Option<RunId>) -> Result<RunId, Failure> {
    let deadline = Instant::now() + PLAN_LIMIT;
    loop {
        if let Some(run) = runs(session, task).await?.filter(|run| Some(*run) != before) {
            return Ok(run);
        }
        if Instant::now() >= deadline {
            let message = format!("no run of the example was planned within {PLAN_LIMIT:?}");
            return Err(
                Failure::new(Exit::TimedOut, message).mend("`ordinaut doctor` says whether an executor is alive")
            );
        }
        sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::{
        action::{Catalogue, Grants},
        limits::Limits,
        task::{Acceptance, ZoneSource, accept},
        time::Zone,
    };

    use super::*;

    #[test]
    fn the_example_is_a_definition_without_a_fault_with_a_server_and_without() {
        let catalogue = Catalogue { grants: Grants::local(), ..Catalogue::default() };
        let against = Acceptance {
            now: "2026-11-23T08:00:00Z".parse().unwrap(),
            default_zone: Some((&Zone::utc(), ZoneSource::Machine)),
            catalogue: &catalogue,
            limits: &Limits::DEFAULT,
        };
        for server in [None, Some("127.0.0.1:7449".parse().unwrap())] {
            let accepted = accept(&definition(server), against).unwrap();
            assert!(accepted.warnings.is_empty(), "{:?}", accepted.warnings);
        }
    }
}
