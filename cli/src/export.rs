//! `export`: tasks as definitions that `apply` takes. What stands at its default is left out.

use clap::Args;
use ordinaut_schema::task::TaskState;
use ordinaut_store::tasks::{TaskFilter, TaskRef};
use serde_json::Value;

use crate::{
    failure::{Exit, Failure},
    out::Out,
    session::Session,
};

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Titles or ids; without any, every active and paused task
    tasks: Vec<String>,
    /// With those that have ended and those that are cancelled
    #[arg(long, conflicts_with = "tasks")]
    all: bool,
}

pub(crate) async fn export(session: &Session, options: &Export, out: Out) -> Result<(), Failure> {
    let mut tasks = Vec::new();
    for task in &options.tasks {
        tasks.push(session.store.find_task(&session.caller, &TaskRef::from(task.as_str())).await?);
    }
    if options.tasks.is_empty() {
        let states = if options.all { TaskState::ALL.to_vec() } else { Vec::new() };
        tasks = session.list_tasks(&TaskFilter { states, text: None }).await?;
    }
    let definitions: Vec<_> = tasks.iter().map(|task| task.spec.to_definition()).collect();
    if out.is_json() {
        return out.json(&definitions);
    }
    for (n, definition) in definitions.iter().enumerate() {
        out.line(format!("{}{}", if n > 0 { "---\n" } else { "" }, yaml(definition)?.trim_end()))?;
    }
    Ok(())
}

pub(crate) fn yaml(definition: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(definition)
        .map_err(|error| Failure::new(Exit::Failed, format!("could not write the definition as YAML: {error}")))
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::{limits::Limits, task};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_as_yaml_is_read_as_it_was() {
        let definition = json!({
            "title": "yes", "n": "1e3", "empty": "", "null": "null", "colon": "a: b", "hash": "a #b",
            "expr": "*/5 * * * *", "instant": "2026-11-23T08:00:00Z", "list": [[], {}, "- x"],
            "text": "two\nlines\n", "template": "${steps.a.body} is '${now}'", "at": "@daily", "off": "off",
        });
        let written = yaml(&definition).unwrap();
        assert_eq!(task::read(&written, &Limits::DEFAULT).unwrap(), [definition], "{written}");
    }
}
