//! `apply`: tasks made to be as files say, keyed by title.
//!
//! Every document of every file is judged before anything is stored: with one fault nothing is, and all faults of
//! all documents are told at once. What is stored then is stored task by task; if the database goes away in the
//! middle, applying again goes on where it stopped, because what is there already is left as it is.

mod judge;
mod lines;
mod source;

use std::path::PathBuf;

use clap::Args;
use ordinaut_schema::{limits::Limits, rehearsal::Rehearsal, schedule::Upcoming};
use ordinaut_store::tasks::{Inserted, TaskRecord};
use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    out::{Out, clean, note},
    rehearse::{rehearsal, show},
    session::{Session, Terms},
    tasks::sentence,
    times::local,
};

use judge::{Fate, Judged, judge};
pub(crate) use source::{Document, read};

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// A file of definitions, YAML or JSON, one or several (`-` for stdin); may be given more than once
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Judge everything, say what would become of it and show each call that would be made; store and send nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of one document.
struct Applied {
    file: String,
    title: String,
    outcome: &'static str,
    /// The fields that are another than before.
    changed: Vec<String>,
    warnings: Vec<String>,
    task: Option<TaskRecord>,
    sentence: String,
    next: Vec<Upcoming>,
    /// What its steps would do, in a dry run that changes something.
    rehearsal: Option<Rehearsal>,
}

pub(crate) async fn apply(
    session: &Session,
    documents: Vec<Document>,
    options: &Apply,
    out: Out,
) -> Result<(), Failure> {
    let terms = session.terms().await?;
    let judged = judge(session, &terms, documents).await?;
    let mut applied = Vec::with_capacity(judged.len());
    for document in judged {
        applied.push(store(session, &terms, document, options.dry_run).await?);
    }
    for Applied { file, warnings, .. } in &applied {
        for warning in warnings {
            note(format!("{file}: {warning}"));
        }
    }
    if out.is_json() {
        return out.json(&applied.iter().map(|it| it.to_json(options.dry_run)).collect::<Vec<_>>());
    }
    let next = |it: &Applied| it.next.first().map_or_else(String::new, |next| local(next.at, &session.zone));
    let rows = applied.iter().map(|it| {
        let outcome = match (options.dry_run, it.outcome) {
            (true, "created") => "would be created".to_owned(),
            (true, "updated") => format!("would be updated ({})", it.changed.join(", ")),
            (false, "updated") => format!("updated ({})", it.changed.join(", ")),
            (_, outcome) => outcome.to_owned(),
        };
        vec![outcome, it.title.clone(), it.sentence.clone(), next(it)]
    });
    out.table(&["OUTCOME", "TITLE", "SCHEDULE", "NEXT"], rows.collect(), "")?;
    for Applied { title, rehearsal, .. } in &applied {
        if let Some(rehearsal) = rehearsal {
            out.line(format!("\n{}:", clean(title)))?;
            show(rehearsal, out)?;
        }
    }
    Ok(())
}

async fn store(session: &Session, terms: &Terms<'_>, document: Judged, dry_run: bool) -> Result<Applied, Failure> {
    let Session { store, caller, .. } = session;
    let Judged { file, title, now, fate } = document;
    let (outcome, changed, accepted, task) = match fate {
        Fate::Unchanged(task) => {
            let schedule = task.spec.schedule(&Limits::DEFAULT).ok();
            let next = schedule.and_then(|it| it.upcoming(now, task.spec.ends_at, 3).ok()).unwrap_or_default();
            return Ok(Applied {
                file,
                title,
                outcome: "unchanged",
                changed: Vec::new(),
                warnings: Vec::new(),
                sentence: sentence(&task.spec),
                next,
                task: Some(*task),
                rehearsal: None,
            });
        }
        Fate::Create(accepted) if dry_run => ("created", Vec::new(), accepted, None),
        Fate::Create(accepted) => match store.insert_task(caller, &accepted, None).await? {
            Inserted::Created(task) => ("created", Vec::new(), accepted, Some(task)),
            // Somebody else was as quick, with the same.
            Inserted::Existed(task) => ("unchanged", Vec::new(), accepted, Some(task)),
        },
        Fate::Update { task, accepted, changed } if dry_run => ("updated", changed, accepted, Some(*task)),
        Fate::Update { task, accepted, changed } => {
            let task = store.update_task(caller, task.id, &accepted, Some(task.revision), false).await?;
            ("updated", changed, accepted, Some(task))
        }
    };
    let rehearsal = if dry_run {
        let standing = task.as_ref().map(|task| task.id);
        Some(rehearsal(session, terms, &accepted.spec, standing, &Map::new()).await?)
    } else {
        None
    };
    let next = accepted.schedule.upcoming(now, accepted.spec.ends_at, 3).unwrap_or_default();
    let sentence = accepted.schedule.describe();
    Ok(Applied { file, title, outcome, changed, warnings: accepted.warnings, task, sentence, next, rehearsal })
}

impl Applied {
    fn to_json(&self, dry_run: bool) -> Value {
        let mut applied = json!({
            "file": self.file,
            "title": self.title,
            "outcome": self.outcome,
            "dry_run": dry_run,
            "id": self.task.as_ref().map(|task| task.id),
            "state": self.task.as_ref().map(|task| task.state),
            "revision": self.task.as_ref().map(|task| task.revision),
            "changed": self.changed,
            "schedule": self.sentence,
            "next": self.next,
            "warnings": self.warnings,
        });
        let calls = self.rehearsal.iter().flat_map(Rehearsal::to_fields);
        applied.as_object_mut().expect("just built as an object").extend(calls);
        applied
    }
}
