//! Histories made up for the checker's tests: one task whose occurrences are the seconds from an instant on.

use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::id::{LeaseToken, RunId, TaskId};
use uuid::Uuid;

use super::{Wrong, check};
use crate::{
    expected::{Expected, Times},
    histories::{Call, Disturbance, EndedRun, Histories, Note, Seen},
};

pub(super) fn task() -> TaskId {
    TaskId::from_uuid(Uuid::from_u128(1))
}

pub(super) fn run(n: u32) -> RunId {
    RunId::from_uuid(Uuid::from_u128(100 + u128::from(n)))
}

pub(super) fn second(n: u32) -> Timestamp {
    "2027-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(n.into())
}

pub(super) fn expecting(occurrences: u32) -> Histories {
    let times = Times::every(1, second(0), second(occurrences));
    Histories { expected: vec![Expected { task: task(), times }], ..Histories::default() }
}

pub(super) fn ran(n: u32) -> EndedRun {
    EndedRun {
        id: run(n),
        task: task(),
        state: "succeeded".to_owned(),
        trigger: "schedule".to_owned(),
        key: format!("t:{}", second(n)),
        occurrence_at: second(n),
        stretch_to: None,
        stretch_count: None,
        attempts: 1,
        failures: 0,
        crashes: 0,
        answers: Vec::new(),
    }
}

pub(super) fn skipped(from: u32, to: u32) -> EndedRun {
    EndedRun {
        state: "skipped".to_owned(),
        stretch_to: Some(second(to)),
        stretch_count: Some(to - from + 1),
        attempts: 0,
        ..ran(from)
    }
}

pub(super) fn asked(n: u32, key: &str) -> EndedRun {
    EndedRun { trigger: "manual".to_owned(), key: key.to_owned(), ..ran(n) }
}

fn note(at: u32, by: &str, seen: Seen) -> Note {
    Note { at: second(at), by: by.to_owned(), run: run(0), seen }
}

fn token(n: u128) -> Option<LeaseToken> {
    (n > 0).then(|| LeaseToken::from_uuid(Uuid::from_u128(n)))
}

/// Run 0 goes from one state and lease to another; 0 is no lease, an empty state no row.
pub(super) fn moved(at: u32, by: &str, (before, old): (&str, u128), (after, new): (&str, u128)) -> Note {
    let state = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (before, after) = (state(before), state(after));
    note(at, by, Seen::Moved { before, after, token_before: token(old), token_after: token(new), crashed: false })
}

pub(super) fn claimed(at: u32, by: &str, lease: u128) -> Note {
    moved(at, by, ("pending", 0), ("running", lease))
}

/// Another took the lease from who had it.
pub(super) fn recovered(at: u32, by: &str, lease: u128) -> Note {
    let mut note = moved(at, by, ("running", lease), ("pending", 0));
    if let Seen::Moved { crashed, .. } = &mut note.seen {
        *crashed = true;
    }
    note
}

/// The two notes of a run's end.
pub(super) fn concluded(at: u32, by: &str, lease: u128) -> [Note; 2] {
    [moved(at, by, ("running", lease), ("", 0)), note(at, by, Seen::Ended { after: "succeeded".to_owned() })]
}

pub(super) fn journaled(at: u32, by: &str, call: u64) -> Note {
    note(at, by, Seen::Journaled { step: "one".to_owned(), state: "succeeded".to_owned(), call: Some(call) })
}

/// A call of step `one` of run 0.
pub(super) fn called(call: u64, at: u32, method: &str) -> Call {
    let (method, path) = (method.to_owned(), "/hit/one".to_owned());
    Call { call, at: second(at), left_at: Some(second(at)), method, path, key: Some(format!("{}/one", run(0))) }
}

pub(super) fn disturbed(begun: u32, over: u32, executor: Option<&str>) -> Disturbance {
    Disturbance { begun: second(begun), over: second(over), executor: executor.map(str::to_owned) }
}

pub(super) fn wrongs(histories: &Histories) -> Vec<Wrong> {
    check(histories).findings.into_iter().map(|finding| finding.wrong).collect()
}
