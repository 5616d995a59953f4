//! I2: a run ends once, and only the attempt that has its lease writes it; and how long runs took to recover.
//!
//! A witness sees a write, not the token that it named. So two other things are looked at, which no statement can get
//! right by accident: each executor logs in under its own name, so a write by another one than who claimed last is
//! stale; and the sink numbers its answers, so a result that was kept under a lease, and was called for before that
//! lease began, is an earlier attempt's.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use ordinaut_schema::id::RunId;

use super::{Finding, Wrong};
use crate::histories::{Call, EndedRun, Histories, Note, Seen};

/// What is known of a run while its notes are read in order.
#[derive(Default)]
struct Run<'a> {
    holder: Option<&'a Note>,
    ended: bool,
    /// Which calls' answers were journaled already.
    journaled: Vec<u64>,
}

/// What the notes are compared with.
struct Known<'a> {
    ended: HashMap<RunId, &'a EndedRun>,
    calls: HashMap<u64, &'a Call>,
    clocks_differ: bool,
}

pub(super) fn check(histories: &Histories, findings: &mut Vec<Finding>) {
    let known = Known {
        ended: histories.ended.iter().map(|run| (run.id, run)).collect(),
        calls: histories.calls.iter().map(|call| (call.call, call)).collect(),
        clocks_differ: histories.clocks_differ,
    };
    let mut runs: HashMap<RunId, Run<'_>> = HashMap::new();
    for note in &histories.notes {
        let run = runs.entry(note.run).or_default();
        match &note.seen {
            Seen::Moved { .. } => move_on(run, note, &known, findings),
            Seen::Journaled { state, call, .. } => {
                if run.holder.is_none_or(|holder| holder.by != note.by) {
                    findings.push(stale(note, run, "journaled a step"));
                }
                if let (Some(call), "succeeded") = (call, state.as_str()) {
                    judge_answer(*call, run, &known, note, findings);
                    run.journaled.push(*call);
                }
            }
            Seen::Ended { after } => {
                if run.ended {
                    let what = format!("run {} ended a second time, as {after}, by {}", note.run, note.by);
                    findings.push(Finding { wrong: Wrong::SecondEnd, what });
                }
                run.ended = true;
            }
        }
    }
}

fn move_on<'a>(run: &mut Run<'a>, note: &'a Note, known: &Known<'_>, findings: &mut Vec<Finding>) {
    let Seen::Moved { before, after, token_before, token_after, crashed } = &note.seen else { return };
    if before.is_none() && run.ended {
        let what = format!("run {} came back after its end, by {}", note.run, note.by);
        findings.push(Finding { wrong: Wrong::SecondEnd, what });
    }
    if before.as_deref() == Some("running") && token_before != token_after {
        // Who recovers or quarantines takes the lease; who cancels over MCP may end a run that nobody is at.
        let ended = known.ended.get(&note.run).filter(|_| after.is_none());
        let is_taken = *crashed || ended.is_some_and(|run| run.state == "quarantined");
        if !is_taken && run.holder.is_none_or(|holder| holder.by != note.by) {
            findings.push(stale(note, run, "ended an attempt"));
        }
        if let Some(ended) = ended {
            // What was journaled was judged under the lease of then.
            let fresh = ended.answers.iter().filter(|answer| !run.journaled.contains(&answer.call));
            for call in fresh.map(|answer| answer.call).collect::<Vec<_>>() {
                judge_answer(call, run, known, note, findings);
            }
        }
        run.holder = None;
    }
    if after.as_deref() == Some("running") && token_before != token_after {
        run.holder = Some(note);
    }
}

fn judge_answer(call: u64, run: &Run<'_>, known: &Known<'_>, note: &Note, findings: &mut Vec<Finding>) {
    let (Some(holder), Some(call)) = (run.holder, known.calls.get(&call)) else { return };
    if !known.clocks_differ && call.at < holder.at {
        let what = format!(
            "run {}: the answer to call {} of {} was kept by {} under a lease that began at {}",
            note.run, call.call, call.at, note.by, holder.at
        );
        findings.push(Finding { wrong: Wrong::StaleWrite, what });
    }
}

fn stale(note: &Note, run: &Run<'_>, did: &str) -> Finding {
    let holder = run.holder.map_or("nobody", |holder| &holder.by);
    let what = format!("run {}: {} {did} at {} while {holder} had the lease", note.run, note.by, note.at);
    Finding { wrong: Wrong::StaleWrite, what }
}

/// From a disturbance to the end of each run that was in flight with those it met.
pub(super) fn recoveries(histories: &Histories) -> Vec<Duration> {
    if histories.clocks_differ || histories.disturbances.is_empty() {
        return Vec::new();
    }
    // By run: the attempts with who made them, and the end.
    let mut attempts: BTreeMap<RunId, Vec<(Timestamp, Option<&str>)>> = BTreeMap::new();
    let mut ends: HashMap<RunId, Timestamp> = HashMap::new();
    for note in &histories.notes {
        match &note.seen {
            Seen::Moved { token_before, token_after, .. } if token_before != token_after => {
                let holder = token_after.as_ref().map(|_| note.by.as_str());
                attempts.entry(note.run).or_default().push((note.at, holder));
            }
            Seen::Ended { .. } => drop(ends.insert(note.run, note.at)),
            Seen::Moved { .. } | Seen::Journaled { .. } => {}
        }
    }
    let mut recoveries = Vec::new();
    for disturbance in &histories.disturbances {
        for (run, attempts) in &attempts {
            let last = attempts.iter().rfind(|(at, _)| *at <= disturbance.begun);
            let Some((_, Some(holder))) = last else { continue };
            let is_met = disturbance.executor.as_deref().is_none_or(|executor| executor == *holder);
            if let (true, Some(end)) = (is_met, ends.get(run)) {
                recoveries.push(Duration::try_from(end.duration_since(disturbance.begun)).unwrap_or_default());
            }
        }
    }
    recoveries
}

#[cfg(test)]
mod tests {
    use super::super::{planted::*, *};
    use crate::histories::Answer;

    fn noted(notes: impl IntoIterator<Item = Note>) -> Histories {
        let mut histories = expecting(1);
        histories.ended = vec![ran(0)];
        histories.notes = notes.into_iter().collect();
        histories
    }

    use crate::histories::Note;

    #[test]
    fn a_run_that_was_recovered_and_concluded_by_the_other_is_right() {
        let [left, ended] = concluded(9, "two", 2);
        let histories = noted([claimed(1, "one", 1), recovered(5, "two", 1), claimed(6, "two", 2), left, ended]);
        assert_eq!(check(&histories).findings, []);
    }

    #[test]
    fn a_conclusion_by_who_lost_the_lease_is_stale() {
        let [left, ended] = concluded(9, "one", 2);
        let histories = noted([claimed(1, "one", 1), recovered(5, "two", 1), claimed(6, "two", 2), left, ended]);
        assert_eq!(wrongs(&histories), [Wrong::StaleWrite]);
    }

    #[test]
    fn a_step_journaled_by_who_lost_the_lease_is_stale() {
        let [left, ended] = concluded(9, "two", 2);
        let stale = journaled(7, "one", 1);
        let mut histories =
            noted([claimed(1, "one", 1), recovered(5, "two", 1), claimed(6, "two", 2), stale, left, ended]);
        histories.calls = vec![called(1, 7, "PUT")];
        assert_eq!(wrongs(&histories), [Wrong::StaleWrite]);
    }

    #[test]
    fn an_answer_of_before_the_lease_is_an_earlier_attempts() {
        // The same executor made both attempts, so its name tells nothing.
        let [left, ended] = concluded(9, "one", 2);
        let mut histories = noted([claimed(1, "one", 1), recovered(5, "two", 1), claimed(6, "one", 2), left, ended]);
        histories.ended[0].answers = vec![Answer { step: "one".to_owned(), call: 1 }];
        histories.ended[0].attempts = 2;
        histories.disturbances = vec![disturbed(4, 4, Some("one"))];
        histories.calls = vec![called(1, 2, "PUT"), called(2, 7, "PUT")];
        assert_eq!(wrongs(&histories), [Wrong::StaleWrite]);

        // Journaled under its own lease, it is what the later attempt had to keep.
        histories.notes.insert(1, journaled(3, "one", 1));
        histories.calls.pop();
        assert_eq!(check(&histories).findings, []);
    }

    #[test]
    fn a_second_end_and_a_return_after_the_end_are_found() {
        let [left, ended] = concluded(2, "one", 1);
        let again = ended.clone();
        assert_eq!(wrongs(&noted([claimed(1, "one", 1), left.clone(), ended.clone(), again])), [Wrong::SecondEnd]);
        let back = moved(3, "two", ("", 0), ("pending", 0));
        assert_eq!(wrongs(&noted([claimed(1, "one", 1), left, ended, back])), [Wrong::SecondEnd]);
    }

    #[test]
    fn recovery_is_counted_from_what_was_done_to_who_had_the_run() {
        let [left, ended] = concluded(9, "two", 2);
        let mut histories = noted([claimed(1, "one", 1), recovered(5, "two", 1), claimed(6, "two", 2), left, ended]);
        histories.disturbances = vec![disturbed(2, 2, Some("one")), disturbed(2, 2, Some("two"))];
        assert_eq!(check(&histories).recoveries, [Duration::from_secs(7)]);
        histories.disturbances = vec![disturbed(7, 8, None), disturbed(0, 0, None)];
        assert_eq!(check(&histories).recoveries, [Duration::from_secs(2)]);
    }
}
