//! What the answers of several tools have in them: tasks, runs, steps, occurrences.

use ordinaut_schema::{
    rehearsal::{InputFrom, SampleOf},
    run::{ErrorKind, RunState, SkipReason, StepState, Trigger},
    schedule::ScheduleKind,
    task::{TaskState, ZoneSource},
};
use serde_json::Value;

use super::{Field, always, any, count, flag, id, instant, list, maybe, number, object, one_of, text, untrusted_text};

pub(in super::super) fn warnings() -> Field {
    maybe("warnings", list("What to beware of; tell the person", text("")))
}

/// How a task stands: the fields with which it begins everywhere.
fn standing() -> [Field; 9] {
    [
        maybe("id", id("Left out of a dry run, as `revision` is")),
        always("title", text("")),
        always("state", one_of("", TaskState::ALL.iter().map(|state| state.as_str()))),
        maybe("revision", count("")),
        maybe("paused_because", text("")),
        maybe("resume_at", instant("When a pause ends by itself")),
        maybe("snoozed_until", instant("")),
        maybe("skip_next", count("How many occurrences will be passed over")),
        maybe("failures_in_row", count("")),
    ]
}

/// A task as it is stored, with what comes next.
pub(in super::super) fn task() -> Value {
    let more = [
        always("schedule", schedule()),
        always("next", list("What will run, at most three", occurrence())),
        maybe("runs_per_day", number("On average, of a schedule of the clock")),
    ];
    object("", standing().into_iter().chain(more))
}

/// A task in a list.
pub(in super::super) fn listed_task() -> Value {
    let more = [always("schedule", text("In plain words")), maybe("next", instant("The next occurrence"))];
    object("", standing().into_iter().chain(more))
}

/// A schedule as it was understood.
pub(in super::super) fn schedule() -> Value {
    object(
        "",
        [
            always("kind", one_of("", ScheduleKind::ALL.iter().map(|kind| kind.as_str()))),
            always("expr", text("Normalised")),
            always("sentence", text("In plain words")),
            always("timezone", text("IANA name")),
            always("timezone_because", text("Why this one")),
            maybe("timezone_source", one_of("", ZoneSource::ALL.iter().map(|source| source.as_str()))),
        ],
    )
}

pub(in super::super) fn occurrence() -> Value {
    object(
        "",
        [
            always("local", instant("In the zone of the schedule")),
            always("utc", instant("The same instant")),
            maybe("dst", one_of("How a change of the clocks moved it", ["gap", "fold"])),
            maybe("warning", text("The same in words")),
            maybe("snoozed_until", instant("When it will run instead")),
        ],
    )
}

/// What a run is, without its steps; `more` is what an answer shows of it besides.
pub(in super::super) fn run(more: impl IntoIterator<Item = Field>) -> Value {
    let fields = [
        always("id", id("")),
        always("task", object("", [always("id", id("")), always("title", text("As it was when it was planned"))])),
        always("state", one_of("", RunState::ALL.iter().map(|state| state.as_str()))),
        always("trigger", one_of("", Trigger::ALL.iter().map(|trigger| trigger.as_str()))),
        always("scheduled_at", instant("The occurrence that it is for")),
        maybe("skip_reason", one_of("", SkipReason::ALL.iter().map(|reason| reason.as_str()))),
        maybe("meaning", text("The reason in words")),
        maybe(
            "covers",
            object(
                "Of a stretch of skipped occurrences",
                [always("occurrences", count("")), always("through", instant("The last of them"))],
            ),
        ),
        maybe("started_at", instant("")),
        maybe("finished_at", instant("")),
        maybe("wakes_at", instant("When a waiting run goes on")),
        maybe("waiting_for", waiting_for()),
        maybe("attempts", count("Left out while it is one at most")),
        maybe("crashes", count("How often its executor died")),
        maybe("retry_of", id("The run that it retries")),
        maybe("cancel_asked_at", instant("")),
        maybe("error_kind", one_of("", ErrorKind::ALL.iter().map(|kind| kind.as_str()))),
        maybe("error_step", text("")),
        maybe("untrusted_error", untrusted_text("")),
    ];
    object("", fields.into_iter().chain(more))
}

fn waiting_for() -> Value {
    let fields = [
        maybe("waiting_for", text("approval, run or instant")),
        maybe("approval", id("The approval that a person is asked for")),
        maybe("run", id("The run that it waits for")),
        maybe("until", text("When it goes on at the latest")),
    ];
    object("What a parked run waits for", fields)
}

/// A step of a run, or one item of a step over a list.
pub(in super::super) fn step() -> Value {
    object(
        "",
        [
            always("step", text("Its id")),
            always("uses", text("")),
            always("state", one_of("", StepState::ALL.iter().map(|state| state.as_str()))),
            maybe("item", count("Which item of a `foreach`, from 0")),
            maybe("calls", count("Left out while it is one at most")),
            maybe("started_at", instant("")),
            maybe("took_ms", count("")),
            maybe("untrusted_input", any("Cut at 2 KB: the beginning of its text, then")),
            maybe("untrusted_output", any("Likewise")),
            maybe("error_kind", one_of("", ErrorKind::ALL.iter().map(|kind| kind.as_str()))),
            maybe("untrusted_error", untrusted_text("")),
        ],
    )
}

/// Occurrences that are being skipped and are not in the history yet; `more` is what is said of them besides.
pub(in super::super) fn stretch(more: impl IntoIterator<Item = Field>) -> Field {
    let fields = [
        always("reason", one_of("", SkipReason::ALL.iter().map(|reason| reason.as_str()))),
        always("occurrences", count("So far")),
        always("through", instant("The latest of them")),
    ];
    maybe("open_stretch", object("Skipped, and still being counted", fields.into_iter().chain(more)))
}

/// What an edit changed.
pub(in super::super) fn changed(about: &str) -> Value {
    let change = object(
        "",
        [
            always("field", text("A field, or `pipeline.<step>`")),
            maybe("from", any("Left out where it was not there")),
            maybe("to", any("Left out where it is gone")),
        ],
    );
    list(about, change)
}

/// A call that a run would make, or would not.
pub(in super::super) fn call() -> Value {
    object(
        "",
        [
            always("step", text("")),
            always("uses", text("")),
            maybe("group", text("The `parallel` group that it is in")),
            maybe("item", object("Of a `foreach`", [always("index", count("From 0")), always("of", count(""))])),
            always("verdict", one_of("", ["would_call", "would_skip", "depends", "would_fail"])),
            maybe("condition", text("Its `if`")),
            maybe("reason", text("Why it would fail")),
            maybe("call", text("What it would be outwardly")),
            maybe("input", any("Secrets are marks, templates over what is not known yet stand as written")),
            maybe("from", one_of("How far `input` is known", InputFrom::ALL.iter().map(|from| from.as_str()))),
            always("idempotent", flag("Whether a repeat does no harm")),
            maybe("sample", one_of("What later steps see as its output", SampleOf::ALL.iter().map(|of| of.as_str()))),
            maybe("notes", list("", text(""))),
        ],
    )
}

/// An approval that waits for a person; `more` is what an answer shows of it besides.
pub(in super::super) fn approval(more: impl IntoIterator<Item = Field>) -> Value {
    let fields = [
        always("id", id("")),
        always("until", instant("Then it counts as its step says")),
        always("untrusted_message", untrusted_text("What the person is asked")),
    ];
    object("", fields.into_iter().chain(more))
}
