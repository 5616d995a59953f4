//! `create_task` with `dry_run`: what would be kept, and each call that its runs would make.
//!
//! Nothing that a step returned is read: outputs are made from `expect` where it says what they are, so all text comes
//! from the caller's own definition and the operator's names.

use ordinaut_schema::{
    action::Catalogue,
    limits::Limits,
    rehearsal::{Given, Rehearsal, Rehearsed, rehearse},
    task::Accepted,
    time::Zone,
};
use ordinaut_store::tasks::{Standing, TaskRecord};
use serde_json::{Map, Value, json};

use super::super::{answer::Answer, call::Desk, show};

/// The most of all calls, as JSON.
const MOST_BYTES: usize = 16 * 1024;
/// The most of an input on its line of text; the structured content has all that is shown of it.
const LINE_CHARS: usize = 240;

/// The answer about a task that would be created.
pub(super) async fn answer(desk: &Desk, task: &TaskRecord, accepted: &Accepted, catalogue: &Catalogue) -> Answer {
    let rehearsal = rehearse(
        &accepted.spec,
        &Given {
            now: desk.now,
            task: None,
            params: None,
            event: None,
            previous: &Value::Null,
            last: &[],
            catalogue,
            limits: &Limits::DEFAULT,
            most_bytes: MOST_BYTES,
        },
    );
    let answer = Answer::new()
        .with("outcome", "would_create")
        .with("dry_run", true)
        .line(format!("Dry run: nothing was stored or sent. \"{}\" would be created.", task.spec.title));
    let (answer, mut warnings) = super::echo_fields(answer, desk, task, unkept_fields);
    if let Some(step) = &rehearsal.fails_at {
        warnings.push(format!("As far as is known, every run would fail at step `{step}`."));
    }
    warnings.extend(accepted.warnings.iter().cloned());
    warnings.extend(desk.warnings().await);
    calls(answer, &rehearsal).warn(&warnings)
}

/// A task that is not kept has no id and no revision.
fn unkept_fields(task: &Standing, zone: &Zone) -> Map<String, Value> {
    let mut fields = show::standing(task, zone);
    fields.retain(|name, _| !matches!(name.as_str(), "id" | "revision"));
    fields
}

fn calls(answer: Answer, rehearsal: &Rehearsal) -> Answer {
    let handlers = (!rehearsal.on_failure.is_empty()).then(|| json!(rehearsal.on_failure));
    answer
        .with("calls", json!(rehearsal.calls))
        .with("calls_on_failure", handlers)
        .with("left_out", rehearsal.left_out.clone())
        .line("Calls:")
        .lines(rehearsal.calls.iter().map(line))
        .line(if rehearsal.on_failure.is_empty() { "" } else { "Only if the run fails:" })
        .lines(rehearsal.on_failure.iter().map(line))
        .line(rehearsal.left_out.clone().unwrap_or_default())
}

/// `- tell (inbox.post) would be called: leaves a message in the inbox; input (known): {"text": …}`
fn line(call: &Rehearsed) -> String {
    let mut parts = vec![format!("- {} ({}) {}", call.name(), call.uses, call.verdict)];
    if !call.call.is_empty() {
        parts[0] = format!("{}: {}", parts[0], call.call);
    }
    if let Some(from) = call.from {
        let text = call.input.to_string();
        let input = match text.char_indices().nth(LINE_CHARS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        parts.push(format!("input ({}): {input}", from.as_str().replace('_', " ")));
    }
    parts.extend(call.notes.iter().cloned());
    parts.join("; ")
}
