//! I3: a journaled step is never called again, nor one that must not be repeated. I4: the sink sees a key again only
//! where something had happened to the run, and none of a run that nobody knows.
//!
//! After an asynchronous failover the database has forgotten what was done since its replica was cut off. That may be
//! done again, once and under the same keys: so calls are judged as the one database could know of them, and as the
//! other.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use ordinaut_schema::id::{OccurrenceKey, RunId, Shard};

use super::{Finding, Wrong};
use crate::histories::{Call, Histories, Kept, Seen};

pub(super) fn check(histories: &Histories, findings: &mut Vec<Finding>) {
    let mut by_key: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in &histories.calls {
        if let Some(key) = &call.key {
            by_key.entry(key).or_default().push(call);
        }
    }
    check_journaled(histories, &by_key, findings);
    check_known(histories, &by_key, findings);
    for (key, calls) in by_key.into_iter().filter(|(_, calls)| calls.len() > 1) {
        findings.extend(sides(histories, &calls).into_iter().find_map(|calls| judge(histories, key, &calls)));
    }
}

/// What is wrong with the calls of one key.
fn judge(histories: &Histories, key: &str, calls: &[&Call]) -> Option<Finding> {
    let [first, .., last] = calls else { return None };
    // By the default of its method, which no step of the lab's overrules.
    if first.method == "POST" {
        let what = format!("{key} is not idempotent and was called {} times", calls.len());
        return Some(Finding { wrong: Wrong::StepRepeated, what });
    }
    if took_a_fault(histories, key, first.at, last.at) {
        return None;
    }
    let what = format!("{key} was called {} times, and nothing had happened to its run", calls.len());
    Some(Finding { wrong: Wrong::KeyRepeated, what })
}

/// The calls that the database knew of which was led to at first, and those that the one knows of which took over.
fn sides<'a>(histories: &Histories, calls: &[&'a Call]) -> Vec<Vec<&'a Call>> {
    let Some(lost) = histories.unreplicated else { return vec![calls.to_vec()] };
    let before = calls.iter().copied().filter(|call| call.at < lost.until).collect();
    let after = calls.iter().copied().filter(|call| !lost.has(call.at)).collect();
    vec![before, after]
}

/// A run that was forgotten keeps its name all the same: that of an occurrence that was expected, or what was answered.
fn check_known(histories: &Histories, by_key: &HashMap<&str, Vec<&Call>>, findings: &mut Vec<Finding>) {
    let ended = histories.ended.iter().map(|run| run.id);
    let known: HashSet<RunId> = ended.chain(histories.live.iter().map(|run| run.id)).collect();
    let mut forgotten: HashSet<RunId> = HashSet::new();
    if histories.unreplicated.is_some() {
        for expected in &histories.expected {
            let derived = |at| RunId::derive(expected.task, &OccurrenceKey::at(at), at, Shard::default());
            forgotten.extend(expected.times.instants().map(derived));
        }
        forgotten.extend(histories.doubtful.iter().filter_map(|kept| match kept {
            Kept::Run(run) => Some(*run),
            Kept::Task(_) | Kept::Event(_) => None,
        }));
    }
    for (key, calls) in by_key {
        let run = run_of(key);
        let is_lost = calls.iter().all(|call| histories.unreplicated.is_some_and(|lost| lost.has(call.at)));
        if !run.is_some_and(|run| known.contains(&run) || is_lost && forgotten.contains(&run)) {
            findings.push(Finding { wrong: Wrong::StrangeKey, what: format!("{key} is of no run that is known") });
        }
    }
}

fn run_of(key: &str) -> Option<RunId> {
    key.split('/').next()?.parse().ok()
}

fn check_journaled(histories: &Histories, by_key: &HashMap<&str, Vec<&Call>>, findings: &mut Vec<Finding>) {
    if histories.clocks_differ {
        return;
    }
    for note in &histories.notes {
        let Seen::Journaled { step, state, .. } = &note.seen else { continue };
        if state != "succeeded" {
            continue;
        }
        let key = format!("{}/{step}", note.run);
        let late = by_key.get(key.as_str()).into_iter().flatten().find(|call| call.at > note.at);
        if let Some(call) = late {
            let what = format!("{key} was journaled at {} and called again at {}", note.at, call.at);
            findings.push(Finding { wrong: Wrong::StepRepeated, what });
        }
    }
}

/// Its run was attempted again or failed a step, or something was done to the programs between its first and last call.
fn took_a_fault(histories: &Histories, key: &str, first: Timestamp, last: Timestamp) -> bool {
    let run = run_of(key);
    let counted = histories
        .ended
        .iter()
        .any(|ended| Some(ended.id) == run && (ended.attempts > 1 || ended.failures > 0 || ended.crashes > 0));
    counted || histories.disturbances.iter().any(|done| done.begun <= last && first <= done.over)
}

#[cfg(test)]
mod tests {
    use super::super::{planted::*, *};
    use super::{Call, Kept, OccurrenceKey, RunId, Shard};
    use crate::histories::Unreplicated;

    fn once() -> Histories {
        let mut histories = expecting(1);
        histories.ended = vec![ran(0)];
        histories
    }

    #[test]
    fn a_journaled_step_that_is_called_again_is_found() {
        let mut histories = once();
        let [left, ended] = concluded(9, "two", 2);
        histories.ended[0].attempts = 2;
        histories.disturbances = vec![disturbed(4, 4, Some("one"))];
        histories.notes = vec![
            claimed(1, "one", 1),
            journaled(3, "one", 1),
            recovered(5, "two", 1),
            claimed(6, "two", 2),
            left,
            ended,
        ];
        histories.calls = vec![called(1, 2, "PUT")];
        assert_eq!(check(&histories).findings, []);
        histories.calls.push(called(2, 7, "PUT"));
        assert_eq!(wrongs(&histories), [Wrong::StepRepeated]);
    }

    #[test]
    fn a_step_that_must_not_be_repeated_is_found_repeated() {
        let mut histories = once();
        histories.ended[0].attempts = 2;
        histories.disturbances = vec![disturbed(4, 4, Some("one"))];
        histories.calls = vec![called(1, 2, "POST"), called(2, 3, "POST")];
        assert_eq!(wrongs(&histories), [Wrong::StepRepeated]);
    }

    #[test]
    fn a_key_of_a_run_that_nobody_knows_is_strange() {
        let mut histories = once();
        histories.calls =
            vec![called(1, 2, "PUT"), Call { key: Some(format!("{}/one", run(7))), ..called(2, 3, "PUT") }];
        assert_eq!(wrongs(&histories), [Wrong::StrangeKey]);
        histories.doubtful = vec![Kept::Run(run(7))];
        assert_eq!(wrongs(&histories), [Wrong::StrangeKey], "nothing was lost");
        histories.unreplicated = Some(Unreplicated { since: second(3), until: second(5) });
        assert_eq!(check(&histories).findings, []);
        histories.calls.push(Call { call: 3, at: second(6), ..histories.calls[1].clone() });
        histories.disturbances = vec![disturbed(4, 5, None)];
        assert_eq!(wrongs(&histories), [Wrong::StrangeKey], "what took over knows it, or never heard of it");
    }

    #[test]
    fn an_occurrence_that_was_forgotten_keeps_its_name() {
        let mut histories = expecting(3);
        histories.ended = vec![ran(0), skipped(1, 2)];
        histories.unreplicated = Some(Unreplicated { since: second(1), until: second(9) });
        let of = |at| RunId::derive(task(), &OccurrenceKey::at(at), at, Shard::default());
        histories.calls = vec![Call { key: Some(format!("{}/one", of(second(1)))), ..called(1, 2, "POST") }];
        assert_eq!(check(&histories).findings, []);
        histories.calls[0].key = Some(format!("{}/one", of(second(7))));
        assert_eq!(wrongs(&histories), [Wrong::StrangeKey]);
    }

    #[test]
    fn what_was_forgotten_is_called_once_more_and_not_twice() {
        let mut histories = once();
        histories.unreplicated = Some(Unreplicated { since: second(3), until: second(6) });
        histories.disturbances = vec![disturbed(5, 6, None)];
        histories.calls = vec![called(1, 4, "POST"), called(2, 7, "POST")];
        assert_eq!(check(&histories).findings, []);
        histories.calls.push(called(3, 8, "POST"));
        assert_eq!(wrongs(&histories), [Wrong::StepRepeated], "twice by the one that took over");
        histories.calls = vec![called(1, 3, "POST"), called(2, 4, "POST")];
        assert_eq!(wrongs(&histories), [Wrong::StepRepeated], "twice by the one that knew");
        histories.calls = vec![called(1, 2, "POST"), called(2, 7, "POST")];
        assert_eq!(wrongs(&histories), [Wrong::StepRepeated], "the first was replicated");
    }

    #[test]
    fn a_key_comes_again_only_where_something_had_happened() {
        let mut histories = once();
        histories.calls = vec![called(1, 2, "PUT"), called(2, 4, "PUT")];
        assert_eq!(wrongs(&histories), [Wrong::KeyRepeated]);
        histories.disturbances = vec![disturbed(5, 6, None)];
        assert_eq!(wrongs(&histories), [Wrong::KeyRepeated], "what came later is no excuse");
        histories.disturbances = vec![disturbed(3, 3, None)];
        assert_eq!(check(&histories).findings, []);
        histories.disturbances.clear();
        histories.ended[0].failures = 1;
        assert_eq!(check(&histories).findings, []);
    }
}
