//! I1: each expected occurrence is covered by exactly one history row (ran, or skipped with a reason) or the open
//! stretch; and nothing else is there.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use ordinaut_schema::id::TaskId;

use super::{Finding, Wrong};
use crate::histories::Histories;

/// Occurrences of one task, from the first to the last, with how many it claims to be.
struct Cover {
    from: Timestamp,
    to: Timestamp,
    count: usize,
}

pub(super) fn check(histories: &Histories, findings: &mut Vec<Finding>) {
    let covers = covers(histories);
    let none = Vec::new();
    for expected in &histories.expected {
        let mut times: BTreeMap<Timestamp, usize> = expected.times.instants().map(|at| (at, 0)).collect();
        for cover in covers.get(&expected.task).unwrap_or(&none) {
            let mut named = 0;
            for (_, seen) in times.range_mut(cover.from..=cover.to) {
                *seen += 1;
                named += 1;
            }
            if named != cover.count {
                let Cover { from, to, count } = cover;
                let what = format!(
                    "task {}: {count} occurrences from {from} to {to} are in the ledger, its schedule names {named}",
                    expected.task
                );
                findings.push(Finding { wrong: Wrong::MadeUp, what });
            }
        }
        for (at, seen) in times {
            let wrong = match seen {
                0 => Wrong::Lost,
                1 => continue,
                _ => Wrong::Doubled,
            };
            let what = format!("task {}: occurrence {at} is covered {seen} times", expected.task);
            findings.push(Finding { wrong, what });
        }
    }
    check_keys(histories, findings);
}

/// Whatever started a run, it started one: no two rows have one task and key.
fn check_keys(histories: &Histories, findings: &mut Vec<Finding>) {
    let mut seen: HashMap<(TaskId, &str), usize> = HashMap::new();
    for run in histories.ended.iter().filter(|run| run.stretch_to.is_none()) {
        *seen.entry((run.task, &run.key)).or_default() += 1;
    }
    // Those of a schedule are judged above, by their instants.
    for ((task, key), count) in seen.into_iter().filter(|((_, key), count)| *count > 1 && !key.starts_with("t:")) {
        let what = format!("task {task}: {count} runs have the key {key}");
        findings.push(Finding { wrong: Wrong::Doubled, what });
    }
}

fn covers(histories: &Histories) -> HashMap<TaskId, Vec<Cover>> {
    let mut covers: HashMap<TaskId, Vec<Cover>> = HashMap::new();
    for run in histories.ended.iter().filter(|run| run.trigger == "schedule") {
        covers.entry(run.task).or_default().push(Cover {
            from: run.occurrence_at,
            to: run.stretch_to.unwrap_or(run.occurrence_at),
            count: run.stretch_count.unwrap_or(1) as usize,
        });
    }
    for run in histories.live.iter().filter(|run| run.trigger == "schedule") {
        let (from, to) = (run.occurrence_at, run.occurrence_at);
        covers.entry(run.task).or_default().push(Cover { from, to, count: 1 });
    }
    for stretch in &histories.stretches {
        let (from, to) = (stretch.from, stretch.to);
        covers.entry(stretch.task).or_default().push(Cover { from, to, count: stretch.count as usize });
    }
    covers
}

#[cfg(test)]
mod tests {
    use super::super::{planted::*, *};
    use crate::histories::Stretch;

    #[test]
    fn a_ledger_in_which_each_occurrence_is_covered_once_is_right() {
        let mut histories = expecting(5);
        histories.ended = vec![ran(0), ran(1), skipped(2, 3)];
        histories.stretches = vec![Stretch { task: task(), from: second(4), to: second(4), count: 1 }];
        assert_eq!(check(&histories).findings, []);
    }

    #[test]
    fn an_occurrence_that_nothing_covers_is_lost() {
        let mut histories = expecting(3);
        histories.ended = vec![ran(0), ran(2)];
        assert_eq!(wrongs(&histories), [Wrong::Lost]);
    }

    #[test]
    fn a_run_inside_a_skipped_stretch_is_doubled() {
        let mut histories = expecting(3);
        histories.ended = vec![skipped(0, 2), ran(1)];
        assert_eq!(wrongs(&histories), [Wrong::Doubled]);
    }

    #[test]
    fn an_occurrence_that_ran_and_is_in_the_open_stretch_is_doubled() {
        let mut histories = expecting(2);
        histories.ended = vec![ran(0), ran(1)];
        histories.stretches = vec![Stretch { task: task(), from: second(1), to: second(1), count: 1 }];
        assert_eq!(wrongs(&histories), [Wrong::Doubled]);
    }

    #[test]
    fn an_occurrence_that_the_schedule_does_not_name_is_made_up() {
        let mut histories = expecting(2);
        histories.ended = vec![ran(0), ran(1), ran(7)];
        assert_eq!(wrongs(&histories), [Wrong::MadeUp]);
    }

    #[test]
    fn a_stretch_that_counts_more_than_it_spans_is_made_up() {
        let mut histories = expecting(3);
        let mut stretch = skipped(0, 2);
        stretch.stretch_count = Some(4);
        histories.ended = vec![stretch];
        assert_eq!(wrongs(&histories), [Wrong::MadeUp]);
    }

    #[test]
    fn one_request_with_two_runs_is_doubled() {
        let mut histories = expecting(0);
        histories.ended = vec![asked(1, "m:again"), asked(2, "m:again"), asked(3, "m:other")];
        assert_eq!(wrongs(&histories), [Wrong::Doubled]);
    }
}
