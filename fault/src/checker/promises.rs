//! I5: what a call acknowledged exists. I6: no run stays stuck, nor is it taken from who is well. I7: each event of the outbox reached the stream.

use super::{Finding, Wrong};
use crate::histories::Histories;

pub(super) fn check(histories: &Histories, findings: &mut Vec<Finding>) {
    let mut found = |wrong, what| findings.push(Finding { wrong, what });
    for said in histories.acknowledged.iter().filter(|said| !histories.kept.contains(said)) {
        found(Wrong::Forgotten, format!("{said:?} was acknowledged and is not there"));
    }
    for run in &histories.live {
        found(Wrong::Stuck, format!("run {} of task {} is still {}", run.id, run.task, run.state));
    }
    if histories.disturbances.is_empty() {
        for run in histories.ended.iter().filter(|run| run.crashes > 0 || run.attempts > run.failures + 1) {
            let what = format!("run {} was attempted {} times, and nothing was done to anybody", run.id, run.attempts);
            found(Wrong::TakenAway, what);
        }
    }
    for event in histories.outbox.difference(&histories.told) {
        found(Wrong::Untold, format!("event {event} is in the outbox and not in the stream"));
    }
}

#[cfg(test)]
mod tests {
    use ordinaut_schema::id::EventId;

    use super::super::{planted::*, *};
    use crate::histories::{EndedRun, Kept, LiveRun};

    #[test]
    fn what_was_acknowledged_and_is_gone_is_forgotten() {
        let mut histories = expecting(0);
        histories.acknowledged =
            vec![Kept::Task(task()), Kept::Run(run(1)), Kept::Event("e".to_owned()), Kept::Run(run(2))];
        histories.kept = histories.acknowledged[..3].iter().cloned().collect();
        assert_eq!(wrongs(&histories), [Wrong::Forgotten]);
    }

    #[test]
    fn a_run_that_is_not_over_is_stuck_but_not_lost() {
        let mut histories = expecting(1);
        histories.live = vec![LiveRun {
            id: run(0),
            task: task(),
            state: "running".to_owned(),
            trigger: "schedule".to_owned(),
            occurrence_at: second(0),
        }];
        assert_eq!(wrongs(&histories), [Wrong::Stuck]);
    }

    #[test]
    fn a_run_is_taken_away_only_where_something_was_done() {
        let mut histories = expecting(1);
        histories.ended = vec![EndedRun { attempts: 2, ..ran(0) }];
        assert_eq!(wrongs(&histories), [Wrong::TakenAway]);
        histories.disturbances = vec![disturbed(0, 1, Some("one"))];
        assert_eq!(check(&histories).findings, []);
        histories.disturbances.clear();
        histories.ended[0].failures = 1;
        assert_eq!(check(&histories).findings, [], "a retry is an attempt, too");
    }

    #[test]
    fn an_event_that_the_stream_never_got_is_untold() {
        let mut histories = expecting(0);
        let (told, untold) = (EventId::new(), EventId::new());
        histories.outbox = [told, untold].into();
        histories.told = [told, EventId::new()].into();
        assert_eq!(wrongs(&histories), [Wrong::Untold]);
    }
}
