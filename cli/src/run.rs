//! `run`: a task, now, whatever its schedule says.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ordinaut_schema::{
    id::{EventId, RunId},
    time::{parse_duration, short},
};
use ordinaut_store::tasks::{TaskRecord, TaskRef};
use serde_json::{Map, Value, json};

use crate::{
    failure::{Exit, Failure},
    out::{Out, clean},
    rehearse::{rehearsal, show},
    session::Session,
    timeline::see_through,
};

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The task, by title or id
    task: String,
    /// Overrides one of the task's params: `city=Chisinau`, `days=3` (JSON where it is JSON, else text)
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, Value)>,
    /// Asked again under the same id, the answer is the same run
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Wait until it is over, showing its steps; exits 1 unless it succeeded
    #[arg(long)]
    wait: bool,
    /// Show each call that the run would make, secrets masked; nothing is started or sent. Exits 1 if a step is sure to fail
    #[arg(long = "dry-run", conflicts_with_all = ["wait", "request_id"])]
    rehearse: bool,
    /// How long to wait at most, such as 5m; without, until it is over
    #[arg(long, requires = "wait", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

fn param(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.trim().to_owned(), value))
}

pub(crate) async fn run(session: &Session, options: &Run, out: Out) -> Result<ExitCode, Failure> {
    let Session { store, caller, .. } = session;
    let task = store.find_task(caller, &TaskRef::from(options.task.as_str())).await?;
    let request = options.request_id.clone().unwrap_or_else(|| format!("cli-{}", EventId::new()));
    let params: Map<String, Value> = options.params.iter().cloned().collect();
    if options.rehearse {
        return rehearsed(session, &task, &params, out).await;
    }
    let params = Some(params).filter(|params| !params.is_empty());
    let asked = store.run_now(caller, task.id, &request, params).await?;
    if let Some(first) = asked.duplicate_of {
        return duplicate(&task, asked.run, first, out);
    }
    let (id, existed) = (asked.run, asked.existed);
    if !options.wait {
        if out.is_json() {
            out.json(&json!({ "id": id, "task_id": task.id, "task": task.spec.title, "existed": existed }))?;
        } else {
            let is = if existed { "was asked for before" } else { "is planned" };
            out.line(format!("{}: run {id} {is}; `ordinaut runs {id}` shows it", clean(&task.spec.title)))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    see_through(session, &clean(&task.spec.title), id, options.timeout, out).await
}

async fn rehearsed(
    session: &Session,
    task: &TaskRecord,
    params: &Map<String, Value>,
    out: Out,
) -> Result<ExitCode, Failure> {
    let terms = session.terms().await?;
    let rehearsal = rehearsal(session, &terms, &task.spec, Some(task.id), params).await?;
    if out.is_json() {
        let mut answer = json!({ "task_id": task.id, "task": task.spec.title, "dry_run": true });
        answer.as_object_mut().expect("just built as an object").extend(rehearsal.to_fields());
        out.json(&answer)?;
    } else {
        show(&rehearsal, out)?;
        out.line(match &rehearsal.fails_at {
            Some(step) => format!("the run would fail at `{step}`; nothing was started or sent"),
            None => "nothing was started or sent".to_owned(),
        })?;
    }
    Ok(if rehearsal.fails_at.is_some() { ExitCode::from(Exit::Failed as u8) } else { ExitCode::SUCCESS })
}

/// The task's `dedupe_key` was taken: nothing runs, and nothing is waited for.
fn duplicate(task: &TaskRecord, skipped: RunId, first: RunId, out: Out) -> Result<ExitCode, Failure> {
    if out.is_json() {
        let answer = json!({ "id": skipped, "task_id": task.id, "task": task.spec.title, "duplicate_of": first });
        out.json(&answer)?;
    } else {
        let (title, window) = (clean(&task.spec.title), short(task.spec.dedupe_window()));
        out.line(format!(
            "{title}: nothing was started; run {first} took its dedupe_key less than {window} ago; \
             `ordinaut runs {first}` shows it"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_param_is_json_where_it_can_be() {
        assert_eq!(param("days=3").unwrap(), ("days".to_owned(), json!(3)));
        assert_eq!(param("city=Chisinau").unwrap(), ("city".to_owned(), json!("Chisinau")));
        assert_eq!(param("note=a=b").unwrap(), ("note".to_owned(), json!("a=b")));
        assert!(param("city").unwrap_err().contains("city"));
    }
}
