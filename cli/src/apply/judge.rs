//! What is to become of each document, decided for all of them before anything is stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ordinaut_schema::{
    fault::{Fault, FaultCode, Faults},
    task::{Acceptance, Accepted, TaskSpec, TaskState, accept, title_key},
};
use ordinaut_store::{
    StoreError,
    tasks::{TaskRecord, TaskRef},
};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, Located},
    session::{Session, Terms},
};

use super::Document;

pub(super) struct Judged {
    pub(super) file: String,
    pub(super) title: String,
    pub(super) now: Timestamp,
    pub(super) fate: Fate,
}

pub(super) enum Fate {
    Create(Box<Accepted>),
    Update { task: Box<TaskRecord>, accepted: Box<Accepted>, changed: Vec<String> },
    Unchanged(Box<TaskRecord>),
}

/// # Errors
/// Every fault of every document.
pub(super) async fn judge(
    session: &Session,
    terms: &Terms<'_>,
    documents: Vec<Document>,
) -> Result<Vec<Judged>, Failure> {
    let mut judged = Vec::with_capacity(documents.len());
    let mut faults = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for Document { file, definition, lines } in documents {
        let standing = standing(session, &definition).await?;
        let mut found = Faults::default();
        if let Some(title) = definition.get("title").and_then(Value::as_str)
            && let Some(other) = seen.insert(title_key(title), file.clone())
        {
            let message = format!("another definition in {other} has the title `{title}`; `apply` is keyed by title");
            found.add("$.title", FaultCode::InvalidValue, message);
        }
        match fate(&definition, standing, terms.acceptance()) {
            Ok((title, fate)) => judged.push(Judged { file: file.clone(), title, now: terms.now, fate }),
            Err(refused) => found.extend(refused),
        }
        let locate = |fault: Fault| Located { file: file.clone(), line: lines.line_of(&fault.path), fault };
        faults.extend(found.into_iter().map(locate));
    }
    if faults.is_empty() { Ok(judged) } else { Err(Failure::Faults(faults)) }
}

/// The task that a definition is about: the one with its title, unless that is cancelled, which is final.
async fn standing(session: &Session, definition: &Value) -> Result<Option<TaskRecord>, Failure> {
    let Some(title) = definition.get("title").and_then(Value::as_str) else { return Ok(None) };
    match session.store.find_task(&session.caller, &TaskRef::Title(title.to_owned())).await {
        Ok(task) => Ok(Some(task).filter(|task| task.state != TaskState::Cancelled)),
        Err(StoreError::TaskNotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn fate(definition: &Value, standing: Option<TaskRecord>, against: Acceptance<'_>) -> Result<(String, Fate), Faults> {
    let Some(task) = standing.map(Box::new) else {
        let accepted = accept(definition, against)?;
        return Ok((accepted.spec.title.clone(), Fate::Create(Box::new(accepted))));
    };
    // Judged as of then: a `once` that has run by now is what the file says, not a fault.
    if task.spec.is_made_by(definition, against) {
        return Ok((task.spec.title.clone(), Fate::Unchanged(task)));
    }
    let accepted = keeping_anchor(definition, &task.spec, against).map_or_else(|| accept(definition, against), Ok)?;
    let changed = changed(&task.spec, &accepted.spec);
    let title = accepted.spec.title.clone();
    if changed.is_empty() {
        return Ok((title, Fate::Unchanged(task)));
    }
    Ok((title, Fate::Update { task, accepted: Box::new(accepted), changed }))
}

/// Accepts an edit that leaves the schedule alone as counting from when the task's does: its occurrences stay.
fn keeping_anchor(definition: &Value, stored: &TaskSpec, against: Acceptance<'_>) -> Option<Accepted> {
    let mut fields = definition.as_object()?.clone();
    if fields.contains_key("anchored_at") || fields.contains_key("starts_at") {
        return None;
    }
    fields.insert("anchored_at".to_owned(), json!(stored.anchored_at));
    let accepted = accept(&Value::Object(fields), against).ok()?;
    let schedule = |spec: &TaskSpec| (spec.schedule_kind, spec.schedule_expr.clone(), spec.timezone.clone());
    (schedule(&accepted.spec) == schedule(stored)).then_some(accepted)
}

/// The fields by which two specs differ.
fn changed(old: &TaskSpec, new: &TaskSpec) -> Vec<String> {
    let (Value::Object(old), Value::Object(new)) = (old.to_stored(), new.to_stored()) else {
        unreachable!("a spec is stored as an object")
    };
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let other = new.iter().filter(|(name, value)| old.get(*name) != Some(value)).map(|(name, _)| name);
    other.chain(gone).cloned().collect()
}
