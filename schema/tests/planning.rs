//! What becomes of occurrences up to now: every one the cursor passes is in the plan exactly once.

use std::time::Duration;

use jiff::Timestamp;
use ordinaut_schema::{
    id::TaskId,
    limits::Limits,
    planning::{Plan, Standing, first_cursor, plan},
    run::SkipReason,
    schedule::{Misfire, Overlap, Schedule, ScheduleKind, ScheduleSource},
    task::TaskSpec,
    time::Zone,
};
use proptest::prelude::*;
use serde_json::json;

/// An interval of a minute that counts from here.
const ANCHOR: &str = "2026-11-23T08:00:00Z";

fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn minute(n: u64) -> Timestamp {
    instant(ANCHOR) + Duration::from_secs(60 * n)
}

fn every_minute() -> (TaskSpec, Schedule) {
    let zone = Zone::utc();
    let source =
        ScheduleSource { kind: ScheduleKind::Interval, expr: "1m", zone: Some(&zone), anchor: instant(ANCHOR) };
    let schedule = Schedule::parse(source, &Limits::DEFAULT).expect("a schedule");
    let spec = TaskSpec::from_stored(json!({
        "title": "t", "schedule_kind": "interval", "schedule_expr": schedule.normalised(), "timezone": "UTC",
        "anchored_at": ANCHOR, "misfire": "run_latest", "misfire_limit": 100, "overlap": "skip",
        "queue_limit": 100, "concurrency_limit": 1, "priority": 5, "run_timeout": "1h", "pause_after_failures": 10,
        "retry": { "max_attempts": 4, "backoff": "exponential_jitter", "initial": "1s", "max": "5m" },
        "pipeline": [],
    }))
    .expect("a spec");
    (spec, schedule)
}

fn standing() -> Standing {
    Standing { next_occurrence_at: Some(minute(1)), ..Standing::default() }
}

fn decide(change: impl FnOnce(&mut TaskSpec), standing: &Standing, now: Timestamp) -> Plan {
    let (mut spec, schedule) = every_minute();
    change(&mut spec);
    plan(TaskId::new(), &spec, &schedule, standing, now).expect("an interval never gives up")
}

fn runs(plan: &Plan) -> Vec<Timestamp> {
    plan.runs.iter().map(|run| run.occurrence_at).collect()
}

fn skips(plan: &Plan) -> Vec<(SkipReason, u32)> {
    plan.closed.iter().chain(&plan.open).map(|stretch| (stretch.reason, stretch.count)).collect()
}

#[test]
fn an_occurrence_that_is_due_runs_and_the_cursor_moves_to_the_next() {
    let plan = decide(|_| {}, &standing(), minute(1));
    assert_eq!(runs(&plan), [minute(1)]);
    assert_eq!((plan.next_occurrence_at, plan.next_due_at), (Some(minute(2)), Some(minute(2))));
    assert_eq!((plan.last_occurrence_at, plan.runs_planned), (Some(minute(1)), 1));
}

#[test]
fn run_latest_runs_the_last_of_a_backlog_and_skips_the_others() {
    let plan = decide(|_| {}, &standing(), minute(10));
    assert_eq!(runs(&plan), [minute(10)]);
    assert_eq!(skips(&plan), [(SkipReason::Misfire, 9)]);
}

#[test]
fn run_all_runs_the_backlog_up_to_its_limit_one_after_the_other() {
    let plan = decide(
        |spec| {
            spec.misfire = Misfire::RunAll;
            spec.misfire_limit = 3;
        },
        &standing(),
        minute(10),
    );
    assert_eq!(runs(&plan), [minute(8), minute(9), minute(10)]);
    assert!(plan.runs.iter().all(|run| run.serial));
    assert_eq!(skips(&plan), [(SkipReason::Misfire, 7)]);
}

#[test]
fn skip_skips_what_is_noticed_late() {
    let late = minute(3) + Duration::from_secs(30);
    let plan = decide(|spec| spec.misfire = Misfire::Skip, &standing(), late);
    assert_eq!(runs(&plan), [minute(3)]);
    assert_eq!(skips(&plan), [(SkipReason::Misfire, 2)]);
}

#[test]
fn what_is_later_than_the_grace_is_skipped() {
    let plan = decide(
        |spec| spec.misfire_grace = Some(Duration::from_secs(5)),
        &standing(),
        minute(1) + Duration::from_secs(6),
    );
    assert_eq!((runs(&plan), skips(&plan)), (vec![], vec![(SkipReason::Misfire, 1)]));
}

#[test]
fn an_occurrence_that_meets_a_live_run_is_skipped_or_queued_or_allowed() {
    let live = Standing { live_runs: 1, queued_runs: 1, ..standing() };
    let skipped = decide(|_| {}, &live, minute(1));
    assert_eq!((runs(&skipped), skips(&skipped)), (vec![], vec![(SkipReason::Overlap, 1)]));

    let queued = decide(|spec| spec.overlap = Overlap::Queue, &live, minute(1));
    assert!(queued.runs[0].serial);

    let allowed = decide(|spec| spec.overlap = Overlap::Allow, &live, minute(1));
    assert!(!allowed.runs[0].serial);

    let cancelling = decide(|spec| spec.overlap = Overlap::CancelRunning, &live, minute(1));
    assert!(cancelling.cancel_live && cancelling.runs[0].serial);

    let at_the_door = Standing { live_runs: 0, queued_runs: 1, ..standing() };
    let skipped = decide(|_| {}, &at_the_door, minute(1));
    assert_eq!(skips(&skipped), [(SkipReason::Overlap, 1)], "one waits for its key: another would be a queue");

    let full = Standing { live_runs: 1, queued_runs: 3, ..standing() };
    let refused = decide(
        |spec| {
            spec.overlap = Overlap::Queue;
            spec.queue_limit = 2;
        },
        &full,
        minute(1),
    );
    assert_eq!(skips(&refused), [(SkipReason::QueueFull, 1)]);
}

#[test]
fn a_paused_tasks_occurrences_pass_and_resuming_never_catches_up() {
    let paused = Standing { paused: true, ..standing() };
    let passing = decide(|_| {}, &paused, minute(3));
    assert_eq!((runs(&passing), skips(&passing)), (vec![], vec![(SkipReason::Paused, 3)]));

    // Resumed between the third and the fourth: what passed is paused, what comes runs.
    let resumed = Standing {
        pass: Some((minute(3) + Duration::from_secs(1), SkipReason::Paused)),
        next_occurrence_at: passing.next_occurrence_at,
        open_stretch: passing.open,
        ..Standing::default()
    };
    let back = decide(|_| {}, &resumed, minute(4));
    assert_eq!(runs(&back), [minute(4)]);
    assert_eq!(skips(&back), [(SkipReason::Paused, 3)]);
    assert!(back.open.is_none());
}

#[test]
fn a_pause_with_an_end_resumes_by_itself() {
    let paused = Standing { paused: true, resume_at: Some(minute(3)), ..standing() };
    let early = decide(|_| {}, &paused, minute(2));
    assert!(!early.resumed);
    assert_eq!(early.next_due_at, Some(minute(3)), "looked at when the pause ends");
    let over = decide(|_| {}, &paused, minute(3));
    assert!(over.resumed);
    assert_eq!((runs(&over), skips(&over)), (vec![minute(3)], vec![(SkipReason::Paused, 2)]));
}

#[test]
fn a_task_without_a_cursor_resumes_and_does_not_end() {
    let paused = Standing { paused: true, resume_at: Some(minute(3)), ..Standing::default() };
    assert_eq!(decide(|_| {}, &paused, minute(2)).next_due_at, Some(minute(3)));
    let over = decide(|_| {}, &paused, minute(3));
    assert!(over.resumed && !over.ended);
    assert_eq!(over.next_due_at, None);
}

#[test]
fn a_snoozed_occurrence_runs_at_its_end_and_those_between_are_skipped() {
    let snoozed = Standing { snoozed_until: Some(minute(3)), ..standing() };
    assert_eq!(decide(|_| {}, &snoozed, minute(2)).runs, []);
    let over = decide(|_| {}, &snoozed, minute(3));
    assert_eq!(runs(&over), [minute(1)], "its key stays that of the first");
    assert_eq!(over.runs[0].due_at, minute(3));
    assert_eq!(skips(&over), [(SkipReason::Snoozed, 2)]);
    assert_eq!(over.snoozed_until, None);
}

#[test]
fn skipping_the_next_two_skips_two() {
    let mut standing = Standing { skip_next: 2, ..standing() };
    let first = decide(|_| {}, &standing, minute(1));
    standing = Standing {
        skip_next: first.skip_next,
        next_occurrence_at: first.next_occurrence_at,
        open_stretch: first.open,
        ..Standing::default()
    };
    let second = decide(|_| {}, &standing, minute(2));
    assert_eq!((second.skip_next, skips(&second)), (0, vec![(SkipReason::Snoozed, 2)]));
}

#[test]
fn a_schedule_ends_at_its_end_or_after_its_last_run() {
    let ends = decide(|spec| spec.ends_at = Some(minute(2)), &standing(), minute(1));
    assert!(ends.ended && ends.next_due_at.is_none());
    assert_eq!(runs(&ends), [minute(1)]);
    let spent = decide(|spec| spec.max_runs = Some(1), &standing(), minute(1));
    assert!(spent.ended);
}

#[test]
fn a_stretch_is_written_after_an_hour_at_the_latest() {
    let paused = Standing { paused: true, ..standing() };
    let first = decide(|_| {}, &paused, minute(1));
    let open = first.open.expect("a stretch is open");
    let later = Standing { next_occurrence_at: Some(minute(62)), open_stretch: Some(open), ..paused };
    let written = decide(|_| {}, &later, minute(61));
    assert_eq!((written.closed.len(), written.open), (1, None));
}

#[test]
fn the_first_cursor_waits_for_the_start() {
    let (mut spec, schedule) = every_minute();
    spec.starts_at = Some(minute(5));
    let first = first_cursor(TaskId::new(), &spec, &schedule, minute(0)).unwrap();
    assert_eq!(first, Some((minute(5), minute(5))), "the start itself counts");
}

fn standings() -> impl Strategy<Value = Standing> {
    let passes = prop::option::of((0_u64..120).prop_map(|n| (minute(n), SkipReason::Paused)));
    let snoozes = prop::option::of((1_u64..120).prop_map(minute));
    let resumes = prop::option::of((1_u64..120).prop_map(minute));
    (passes, snoozes, resumes, any::<bool>(), 0_u32..5, 0_u32..3).prop_map(
        |(pass, snoozed_until, resume_at, paused, skip_next, live)| Standing {
            pass,
            snoozed_until,
            resume_at: resume_at.filter(|_| paused),
            paused,
            skip_next,
            live_runs: live,
            queued_runs: live,
            ..standing()
        },
    )
}

proptest! {
    /// However late, however it stands: runs and stretches together are the occurrences the cursor passed, once each.
    #[test]
    fn every_occurrence_passed_is_covered_exactly_once(
        standing in standings(),
        late in 0_u64..300,
        misfire in prop_oneof![Just(Misfire::RunLatest), Just(Misfire::RunAll), Just(Misfire::Skip)],
        overlap in prop_oneof![
            Just(Overlap::Skip), Just(Overlap::Queue), Just(Overlap::Allow), Just(Overlap::CancelRunning)
        ],
    ) {
        let plan = decide(|spec| { spec.misfire = misfire; spec.overlap = overlap; }, &standing, minute(late));
        let mut covered: Vec<Timestamp> = runs(&plan);
        for stretch in plan.closed.iter().chain(&plan.open) {
            let from = u64::try_from(stretch.from.duration_since(instant(ANCHOR)).as_secs() / 60).unwrap();
            covered.extend((from..from + u64::from(stretch.count)).map(minute));
            prop_assert_eq!(covered.last(), Some(&stretch.to), "a stretch has no holes");
        }
        covered.sort();
        let next = plan.next_occurrence_at.expect("an interval never ends");
        let passed: Vec<Timestamp> = (1..10_000).map(minute).take_while(|at| *at < next).collect();
        prop_assert_eq!(covered, passed);
    }

    /// Planning again at the same instant, from where the plan left off, does nothing.
    #[test]
    fn planning_twice_plans_once(standing in standings(), late in 0_u64..300) {
        let now = minute(late);
        let first = decide(|_| {}, &standing, now);
        let after = Standing {
            next_occurrence_at: first.next_occurrence_at,
            last_occurrence_at: first.last_occurrence_at,
            runs_planned: first.runs_planned,
            snoozed_until: first.snoozed_until,
            skip_next: first.skip_next,
            open_stretch: first.open,
            paused: standing.paused && !first.resumed,
            resume_at: standing.resume_at.filter(|_| !first.resumed),
            ..standing
        };
        let second = decide(|_| {}, &after, now);
        prop_assert!(second.runs.is_empty());
        prop_assert!(second.next_due_at > Some(now));
    }
}
