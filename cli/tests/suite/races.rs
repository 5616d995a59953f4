//! Overlap, queues, concurrency keys and priorities hold while four executors race for the same runs.
//!
//! Who was inside, how many at once and in which order is what the sink saw, which knows nothing of the database.

use std::{collections::BTreeSet, ffi::OsString};

use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::{
    id::TaskId,
    run::{RunState, SkipReason},
};
use ordinaut_store::inbound::NewEvent;
use serde_json::json;
use tokio::{process::Child, task::JoinSet};

use crate::support::lab::{Lab, me, until};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const EXECUTORS: [&str; 4] = ["one", "two", "three", "four"];

fn four(lab: &Lab) -> [Child; 4] {
    EXECUTORS.map(|name| lab.executor(name))
}

/// A task with one step, which calls the sink; `more` are fields of the definition.
fn calls(title: &str, schedule: &str, more: &str, sink: &str) -> String {
    format!(
        "{{title: '{title}', {schedule}, {more}, pipeline: [{{id: call, uses: http.post, with: {{url: 'SINK/{sink}'}}}}]}}"
    )
}

const MANUAL: &str = "schedule_kind: manual";
const EVERY_MINUTE: &str = "schedule_kind: cron, schedule_expr: '* * * * *', timezone: UTC";

/// Asks for one run of each task, all at once: who asks for runs of one task waits for the others, so it takes many.
async fn burst(lab: &Lab, tasks: &[TaskId], round: usize) {
    let mut callers = JoinSet::new();
    for task in tasks.iter().copied() {
        let store = lab.store.clone();
        callers.spawn(async move { store.run_now(&me(), task, &format!("{task} {round}"), None).await.unwrap() });
    }
    callers.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrency_key_is_held_by_no_more_runs_than_its_limit() {
    let lab = Lab::fast().await;
    let _executors = four(&lab);
    let keyed = |key: &str, limit: u32| format!("overlap: allow, concurrency_key: {key}, concurrency_limit: {limit}");
    let mut keys = Vec::new();
    for (key, limits) in [("a", [3; 8]), ("b", [3; 8]), ("mixed", [3, 3, 3, 2, 3, 3, 3, 3])] {
        let mut tasks = Vec::new();
        for (n, limit) in limits.into_iter().enumerate() {
            // Who may be one of three waits for the others once: a loaded machine fills a key late.
            let sink = format!("busy/{key}?limit={limit}&ms=20&full={}", limit == 3);
            tasks.push(lab.keep(&calls(&format!("{key} {n}"), MANUAL, &keyed(key, limit), &sink)).await);
        }
        keys.push(tasks);
    }
    // Planned by whichever executor comes first, so that planning races with conclusions too.
    let ticking = "schedule_kind: interval, schedule_expr: 1s, max_runs: 2";
    for n in 0..12 {
        lab.keep(&calls(&format!("tick {n}"), ticking, &keyed("ticks", 3), "busy/ticks?limit=3&ms=20")).await;
    }
    for round in 0..8 {
        for tasks in &keys {
            burst(&lab, tasks, round).await;
        }
        // A burst meets an empty key and a full one by turns: each is another race.
        if round % 2 == 0 {
            lab.idle().await;
        }
    }
    until("216 runs", async || (lab.database.history().await.len() == 216).then_some(())).await;

    assert!(lab.database.history().await.iter().all(|run| (run.state, run.attempts) == (RunState::Succeeded, 1)));
    for (key, calls) in [("a", 64), ("b", 64), ("mixed", 64), ("ticks", 24)] {
        let callers = lab.sink.callers(key);
        assert_eq!((callers.len(), callers.iter().collect::<BTreeSet<_>>().len()), (calls, calls), "{key}: once each");
        let crowd = lab.sink.crowd(key);
        assert_eq!(crowd.exceeded, 0, "{key}: {crowd:?}");
        assert!(crowd.most == 3 || key == "ticks", "{key} was not used to the full: {crowd:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_skip_on_overlap_are_never_two_at_once_and_what_was_skipped_is_told() {
    let Some(lab) = Lab::at("2027-06-01T08:00:10Z").await else { return };
    let _executors = four(&lab);
    let mut tasks = Vec::new();
    for n in 0..12 {
        // From shorter than a step of the clock takes here to much longer.
        let sink = format!("busy/skip-{n}?limit=1&ms={}", n * n * 2);
        tasks.push(lab.keep(&calls(&format!("skip {n}"), EVERY_MINUTE, "overlap: skip", &sink)).await);
    }
    let first = "2027-06-01T08:01:00Z".parse::<Timestamp>().unwrap();
    for minute in 0..25 {
        lab.set_clock(first + minute * MINUTE).await;
        assert!(lab.database.most_live_runs().await <= 1);
    }
    lab.idle().await;
    let mut skipped = 0;
    for (n, task) in tasks.into_iter().enumerate() {
        let runs = lab.runs(task).await;
        let mut covered: Vec<Timestamp> = Vec::new();
        for run in &runs {
            let (to, count) = run.stretch.unwrap_or((run.occurrence_at, 1));
            let stretch: Vec<_> = (0..i32::try_from(count).unwrap()).map(|n| run.occurrence_at + n * MINUTE).collect();
            assert_eq!(stretch.last(), Some(&to), "{run:?}");
            covered.extend(stretch);
            assert!(matches!(run.skip_reason, None | Some(SkipReason::Overlap)), "{run:?}");
            skipped += if run.skip_reason.is_some() { count } else { 0 };
        }
        if let Some((reason, from, _, count)) = lab.database.cursor(task).await.open {
            assert_eq!(reason, SkipReason::Overlap);
            covered.extend((0..i32::try_from(count).unwrap()).map(|n| from + n * MINUTE));
        }
        assert_eq!(covered, (0..25).map(|minute| first + minute * MINUTE).collect::<Vec<_>>(), "each once, in order");
        let name = format!("skip-{n}");
        assert_eq!(lab.sink.calls(&name).len(), runs.iter().filter(|run| run.state == RunState::Succeeded).count());
        assert_eq!(lab.sink.crowd(&name).most, 1, "{name}");
    }
    assert!(skipped > 0, "nothing overlapped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_keeps_its_order_and_its_limit_and_what_it_cannot_hold_is_told() {
    let Some(lab) = Lab::at("2027-06-01T08:00:10Z").await else { return };
    let _executors = four(&lab);
    let queue = "overlap: queue, queue_limit: 5";
    let by_clock = lab.keep(&calls("by clock", EVERY_MINUTE, queue, "hold/by-clock")).await;
    let by_event =
        lab.keep(&calls("by event", "schedule_kind: event, schedule_expr: ping", queue, "hold/by-event")).await;
    // Events that come all at once: one runs, five wait, and no sixth gets in between them.
    let mut publishers = JoinSet::new();
    for n in 0..40 {
        let store = lab.store.clone();
        let event = NewEvent { id: Some(n.to_string()), topic: "ping".to_owned(), payload: json!({}), cause_depth: 0 };
        publishers.spawn(async move { store.publish_event(&me(), event).await.unwrap().runs.len() });
    }
    assert_eq!(publishers.join_all().await.iter().sum::<usize>(), 6);
    let first = "2027-06-01T08:01:00Z".parse::<Timestamp>().unwrap();
    for minute in 0..10 {
        lab.set_clock(first + minute * MINUTE).await;
    }
    lab.sink.saw("by-clock", 1).await;
    lab.sink.saw("by-event", 1).await;
    let full = lab.database.cursor(by_clock).await.open;
    assert_eq!(full, Some((SkipReason::QueueFull, first + 6 * MINUTE, first + 9 * MINUTE, 4)));

    lab.sink.let_go();
    lab.idle().await;
    for (task, name, skipped) in [(by_clock, "by-clock", 0), (by_event, "by-event", 34)] {
        let runs = lab.runs(task).await;
        let (ran, full): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.state == RunState::Succeeded);
        assert_eq!((ran.len(), full.len()), (6, skipped), "{name}");
        assert!(full.iter().all(|run| run.skip_reason == Some(SkipReason::QueueFull)));
        let in_order: Vec<String> = ran.iter().map(|run| run.id.to_string()).collect();
        assert_eq!(lab.sink.crowd(name).most, 1, "{name}");
        if name == "by-clock" {
            assert_eq!(lab.sink.callers(name), in_order);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_run_cancels_the_running_one_and_is_never_beside_it() {
    let Some(lab) = Lab::at("2027-06-01T08:00:10Z").await else { return };
    let _executors = four(&lab);
    let newest = lab.keep(&calls("newest", EVERY_MINUTE, "overlap: cancel_running", "hold/newest")).await;
    let beside = lab.keep(&calls("beside", EVERY_MINUTE, "overlap: allow", "hold/beside")).await;
    let first = "2027-06-01T08:01:00Z".parse::<Timestamp>().unwrap();
    for minute in 0..4_u8 {
        lab.set_clock(first + i32::from(minute) * MINUTE).await;
        lab.sink.saw("newest", usize::from(minute) + 1).await;
    }
    lab.sink.saw("beside", 4).await;
    lab.sink.let_go();
    lab.idle().await;
    let states = async |task| lab.runs(task).await.iter().map(|run| run.state).collect::<Vec<_>>();
    let (cancelled, succeeded) = (RunState::Cancelled, RunState::Succeeded);
    assert_eq!(states(newest).await, [cancelled, cancelled, cancelled, succeeded]);
    assert_eq!(lab.sink.crowd("newest").most, 1);
    assert_eq!(states(beside).await, [succeeded; 4]);
    assert_eq!(lab.sink.crowd("beside").most, 4, "these may overlap");
}

/// Tasks of priority 1 to 9 whose one step calls `sink`, with `more` in their definitions.
async fn by_priority(lab: &Lab, more: &str, sink: &str) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for priority in 1..=9 {
        let title = format!("{sink} {priority}");
        let more = format!("overlap: allow, priority: {priority}, {more}");
        tasks.push(lab.keep(&calls(&title, MANUAL, &more, &format!("hold/{sink}"))).await);
    }
    tasks
}

/// Asks for three runs of each of these, the last first, behind one of the first that is held; then lets go. Answers
/// whether they came by priority, and within one in the order in which they were asked for.
async fn came_by_priority(lab: &Lab, tasks: &[TaskId], sink: &str) -> bool {
    let blocker = lab.run_now(tasks[0], &format!("{sink} blocker")).await;
    lab.sink.saw(sink, 1).await;
    let mut expected = vec![Vec::new(); tasks.len()];
    for round in 0..3 {
        for (place, task) in tasks.iter().enumerate().rev() {
            expected[place].push(lab.run_now(*task, &format!("{sink} {round} {place}")).await.to_string());
        }
    }
    lab.sink.let_go();
    lab.idle().await;
    lab.sink.hold();
    lab.sink.callers(sink) == [vec![vec![blocker.to_string()]], expected].concat().concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_runs_by_priority_through_one_key_and_through_one_permit() {
    let lab = Lab::fast().await;
    let executors = four(&lab);
    let tasks = by_priority(&lab, "concurrency_key: door, concurrency_limit: 1", "door").await;
    assert!(came_by_priority(&lab, &tasks, "door").await, "{:?}", lab.sink.callers("door"));
    drop(executors);

    let one_permit: [(OsString, OsString); 1] = [("ORDINAUT_PERMITS".into(), "1".into())];
    let _executor = lab.executor_with("alone", &one_permit);
    let tasks = by_priority(&lab, "concurrency_limit: 1", "permit").await;
    assert!(came_by_priority(&lab, &tasks, "permit").await, "{:?}", lab.sink.callers("permit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_priority_is_a_head_start_of_half_a_minute_a_level_and_no_barrier() {
    let Some(lab) = Lab::at("2027-06-01T08:00:00Z").await else { return };
    let _executor = lab.executor_with("alone", &[("ORDINAUT_PERMITS".into(), "1".into())]);
    let tasks = by_priority(&lab, "concurrency_limit: 1", "start").await;
    let (first, last) = (tasks[0], tasks[8]);
    let mut expected = vec![lab.run_now(first, "blocker").await];
    lab.sink.saw("start", 1).await;
    // Eight levels are four minutes: what has waited for longer goes before the most urgent newcomer.
    let old = lab.run_now(last, "old").await;
    lab.leap(SignedDuration::from_secs(100)).await;
    let younger = lab.run_now(last, "younger").await;
    lab.leap(SignedDuration::from_secs(160)).await;
    let urgent = lab.run_now(first, "urgent").await;
    expected.extend([old, urgent, younger]);
    lab.sink.let_go();
    lab.idle().await;
    assert_eq!(lab.sink.callers("start"), expected.iter().map(ToString::to_string).collect::<Vec<_>>());
}
