//! What becomes of occurrences up to now: every one the cursor passes is in the plan exactly once.

use std::time::Duration;

use jiff::Timestamp;
use ordinaut_schema::{
    budget::{Allowance, Cost, Day, Money, Owner, RunsOfDays},
    id::TaskId,
    limits::Limits,
    planning::{Duplicates, Plan, Reach, Standing, first_cursor, plan},
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
    reach(Reach::Due, change, standing, now)
}

fn reach(reach: Reach, change: impl FnOnce(&mut TaskSpec), standing: &Standing, now: Timestamp) -> Plan {
    let (mut spec, schedule) = every_minute();
    change(&mut spec);
    plan(TaskId::new(), &spec, &schedule, standing, now, reach).expect("an interval never gives up")
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
fn occurrences_within_the_window_of_a_run_with_their_key_are_skipped_as_duplicates() {
    let window = Duration::from_mins(3);
    let seen = |seen_at| Standing { duplicates: Some(Duplicates { window, seen_at }), ..standing() };
    let all = |spec: &mut TaskSpec| spec.misfire = Misfire::RunAll;

    let first = decide(all, &seen(None), minute(7));
    assert_eq!(runs(&first), [minute(1), minute(4), minute(7)], "a window as long as three turns lets every third run");
    assert_eq!(skips(&first), [(SkipReason::Duplicate, 2), (SkipReason::Duplicate, 2)]);

    let second = decide(all, &seen(Some(minute(0))), minute(3));
    assert_eq!((runs(&second), skips(&second)), (vec![minute(3)], vec![(SkipReason::Duplicate, 2)]));

    // What is skipped for another reason takes no key, and a duplicate counts for nothing.
    let live = Standing { live_runs: 1, queued_runs: 1, ..seen(None) };
    assert_eq!(skips(&decide(|_| {}, &live, minute(1))), [(SkipReason::Overlap, 1)]);
    let spent = decide(
        |spec| {
            all(spec);
            spec.max_runs = Some(1);
        },
        &seen(Some(minute(0))),
        minute(4),
    );
    assert_eq!((runs(&spent), spent.runs_planned), (vec![minute(3)], 1));
    let cancelling = decide(|spec| spec.overlap = Overlap::CancelRunning, &seen(Some(minute(0))), minute(1));
    assert!(!cancelling.cancel_live, "a duplicate makes nobody give way");
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
fn before_another_schedule_follows_every_occurrence_that_has_been_is_settled() {
    // Held back by jitter: it runs now.
    let jittered = reach(Reach::Passed, |spec| spec.jitter = Some(Duration::from_mins(1)), &standing(), minute(1));
    assert_eq!((runs(&jittered), jittered.next_occurrence_at), (vec![minute(1)], Some(minute(2))));

    // Held back by a snooze: skipped, as those it was to pass over; the snooze stands for what comes.
    let snoozed = Standing { snoozed_until: Some(minute(5)), ..standing() };
    let settled = reach(Reach::Passed, |_| {}, &snoozed, minute(3));
    assert_eq!((runs(&settled), skips(&settled)), (vec![], vec![(SkipReason::Snoozed, 3)]));
    assert_eq!((settled.next_occurrence_at, settled.snoozed_until), (Some(minute(4)), Some(minute(5))));
    // One that is over has its run.
    let over = reach(Reach::Passed, |_| {}, &snoozed, minute(5));
    assert_eq!((runs(&over), over.snoozed_until), (vec![minute(1)], None));

    // Paused: as far as now, not as far as the planner last looked.
    let paused = reach(Reach::Passed, |_| {}, &Standing { paused: true, ..standing() }, minute(2));
    assert_eq!((skips(&paused), paused.next_occurrence_at), (vec![(SkipReason::Paused, 2)], Some(minute(3))));
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
    let windows = prop::option::of((1_u64..90, prop::option::of((0_u64..120).prop_map(minute))));
    (passes, snoozes, resumes, any::<bool>(), 0_u32..5, 0_u32..3, windows).prop_map(
        |(pass, snoozed_until, resume_at, paused, skip_next, live, window)| Standing {
            duplicates: window
                .map(|(window, seen_at)| Duplicates { window: Duration::from_secs(60 * window), seen_at }),
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
        settles in any::<bool>(),
        misfire in prop_oneof![Just(Misfire::RunLatest), Just(Misfire::RunAll), Just(Misfire::Skip)],
        overlap in prop_oneof![
            Just(Overlap::Skip), Just(Overlap::Queue), Just(Overlap::Allow), Just(Overlap::CancelRunning)
        ],
    ) {
        let change = |spec: &mut TaskSpec| { spec.misfire = misfire; spec.overlap = overlap; };
        let plan = reach(if settles { Reach::Passed } else { Reach::Due }, change, &standing, minute(late));
        let mut covered: Vec<Timestamp> = runs(&plan);
        for stretch in plan.closed.iter().chain(&plan.open) {
            let from = u64::try_from(stretch.from.duration_since(instant(ANCHOR)).as_secs() / 60).unwrap();
            covered.extend((from..from + u64::from(stretch.count)).map(minute));
            prop_assert_eq!(covered.last(), Some(&stretch.to), "a stretch has no holes");
        }
        covered.sort();
        let next = plan.next_occurrence_at.expect("an interval never ends");
        prop_assert!(!settles || next > minute(late), "nothing that has been is left to a schedule that is gone");
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

/// What may be done to a task between two looks of the planner, and how many minutes later.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Look,
    Pause(Option<u64>),
    Resume,
    SnoozeFor(u64),
    Skip(u32),
    RunStarts,
    RunsEnd,
    Settle,
}

fn deeds() -> impl Strategy<Value = Vec<(u64, Deed)>> {
    let deed = prop_oneof![
        4 => Just(Deed::Look),
        1 => prop::option::of(1_u64..30).prop_map(Deed::Pause),
        1 => Just(Deed::Resume),
        1 => (1_u64..30).prop_map(Deed::SnoozeFor),
        1 => (1_u32..4).prop_map(Deed::Skip),
        1 => Just(Deed::RunStarts),
        1 => Just(Deed::RunsEnd),
        1 => Just(Deed::Settle),
    ];
    prop::collection::vec((0_u64..20, deed), 1..40)
}

/// A task, as the store would keep it, with what came of its occurrences.
struct Kept {
    standing: Standing,
    next_due_at: Option<Timestamp>,
    ran: Vec<Timestamp>,
    written: Vec<(Timestamp, u32)>,
}

impl Kept {
    fn look(&mut self, spec: &TaskSpec, schedule: &Schedule, now: Timestamp, how: Reach) {
        let standing = self.standing.clone();
        let plan = plan(TaskId::new(), spec, schedule, &standing, now, how).expect("an interval never gives up");
        self.ran.extend(runs(&plan));
        self.written.extend(plan.closed.iter().map(|stretch| (stretch.from, stretch.count)));
        self.standing = Standing {
            next_occurrence_at: plan.next_occurrence_at,
            last_occurrence_at: plan.last_occurrence_at,
            runs_planned: plan.runs_planned,
            snoozed_until: plan.snoozed_until,
            skip_next: plan.skip_next,
            open_stretch: plan.open,
            paused: standing.paused && !plan.resumed,
            resume_at: standing.resume_at.filter(|_| !plan.resumed),
            pass: standing.pass.filter(|(until, _)| *until > now),
            ..standing
        };
        self.next_due_at = plan.next_due_at;
    }
}

proptest! {
    /// Over a whole life of pauses, snoozes, skips, overlaps and edits, each occurrence is in the ledger once.
    #[test]
    fn whatever_is_done_to_a_task_its_runs_and_stretches_are_its_occurrences(
        deeds in deeds(),
        overlap in prop_oneof![Just(Overlap::Skip), Just(Overlap::Queue), Just(Overlap::Allow)],
        misfire in prop_oneof![Just(Misfire::RunLatest), Just(Misfire::RunAll), Just(Misfire::Skip)],
    ) {
        let (mut spec, schedule) = every_minute();
        (spec.overlap, spec.misfire) = (overlap, misfire);
        let mut task = Kept { standing: standing(), next_due_at: Some(minute(1)), ran: vec![], written: vec![] };
        let mut now = minute(0);
        for (minutes, deed) in deeds {
            now += Duration::from_secs(60 * minutes + 1);
            let due = task.standing.next_occurrence_at.unwrap();
            match deed {
                Deed::Look => task.look(&spec, &schedule, now, Reach::Due),
                Deed::Settle => task.look(&spec, &schedule, now, Reach::Passed),
                Deed::Pause(until) => {
                    task.standing.paused = true;
                    task.standing.resume_at = until.map(|minutes| now + Duration::from_secs(60 * minutes));
                }
                Deed::Resume if task.standing.paused => {
                    task.standing.paused = false;
                    task.standing.resume_at = None;
                    task.standing.pass = Some((now, SkipReason::Paused));
                }
                Deed::SnoozeFor(minutes) if !task.standing.paused => {
                    let until = now + Duration::from_secs(60 * minutes);
                    task.standing.snoozed_until = Some(until).filter(|until| due < *until);
                }
                Deed::Skip(count) if !task.standing.paused => task.standing.skip_next = count,
                Deed::RunStarts => (task.standing.live_runs, task.standing.queued_runs) = (1, 1),
                Deed::RunsEnd => (task.standing.live_runs, task.standing.queued_runs) = (0, 0),
                Deed::Resume | Deed::SnoozeFor(_) | Deed::Skip(_) => {}
            }
        }
        let mut covered = task.ran.clone();
        let open = task.standing.open_stretch.map(|open| (open.from, open.count));
        for (from, count) in task.written.iter().copied().chain(open) {
            covered.extend((0..count).map(|n| from + Duration::from_secs(60 * u64::from(n))));
        }
        covered.sort();
        let next = task.standing.next_occurrence_at.unwrap();
        let passed: Vec<Timestamp> = (1..10_000).map(minute).take_while(|at| *at < next).collect();
        prop_assert_eq!(covered, passed);
        prop_assert_eq!(task.standing.runs_planned, task.ran.len() as u64);
    }

    /// A planner that looks whenever it was told to writes every stretch within the hour, and a minute at most is
    /// between an occurrence and the ledger.
    #[test]
    fn a_planner_that_looks_when_it_is_told_to_leaves_no_stretch_open_for_longer_than_an_hour(
        paused in any::<bool>(),
        live in any::<bool>(),
        until in prop::option::of(1_u64..200),
    ) {
        let (spec, schedule) = every_minute();
        let busy = u32::from(live);
        let start = Standing {
            paused,
            resume_at: until.filter(|_| paused).map(minute),
            live_runs: busy,
            queued_runs: busy,
            ..standing()
        };
        let mut task = Kept { standing: start, next_due_at: Some(minute(1)), ran: vec![], written: vec![] };
        while let Some(now) = task.next_due_at.filter(|due| *due < minute(300)) {
            task.look(&spec, &schedule, now, Reach::Due);
            prop_assert!(task.next_due_at > Some(now), "it gets on");
            prop_assert!(task.standing.next_occurrence_at > Some(now), "all that has been is decided");
            if let Some(open) = task.standing.open_stretch {
                prop_assert!(now < open.opened_at + Duration::from_hours(1));
            }
        }
    }
}

#[test]
fn an_end_is_compared_with_the_occurrence_before_jitter() {
    let spec = |spec: &mut TaskSpec| {
        spec.jitter = Some(Duration::from_secs(30));
        spec.ends_at = Some(minute(1) + Duration::from_nanos(1));
    };
    // However late jitter makes the last one, it runs.
    let plan = decide(spec, &standing(), minute(2));
    assert_eq!((runs(&plan), plan.ended), (vec![minute(1)], true));
    assert!(plan.runs[0].due_at >= minute(1) && plan.runs[0].due_at < minute(1) + Duration::from_secs(30));
}

#[test]
fn occurrences_that_are_skipped_do_not_count_for_max_runs() {
    let live = Standing { live_runs: 1, queued_runs: 1, ..standing() };
    let skipped = decide(|spec| spec.max_runs = Some(1), &live, minute(1));
    assert_eq!((skipped.runs_planned, skipped.ended), (0, false));
    let late = decide(
        |spec| {
            spec.max_runs = Some(2);
            spec.misfire = Misfire::RunAll;
        },
        &Standing { runs_planned: 1, ..standing() },
        minute(5),
    );
    assert_eq!((runs(&late), late.ended, late.next_due_at), (vec![minute(1)], true, None));
}

fn in_chisinau() -> Zone {
    Zone::find("Europe/Chisinau").expect("a zone")
}

fn runs_a_day(most: u32, zone: Zone, planned: &[(&str, u32)]) -> Allowance {
    let planned = planned.iter().map(|(at, runs)| (Day::of(instant(at), &zone), *runs)).collect();
    Allowance { owner: Owner::Task, zone, runs: Some(RunsOfDays { most, planned }), money: None }
}

/// A backlog of every minute up to `until`, each of which is to run.
fn backlog(standing: &Standing, until: &str) -> Plan {
    let all = |spec: &mut TaskSpec| {
        (spec.misfire, spec.misfire_limit, spec.overlap) = (Misfire::RunAll, 10_000, Overlap::Allow);
    };
    decide(all, standing, instant(until))
}

#[test]
fn above_the_runs_of_a_day_occurrences_are_skipped_until_the_zones_midnight() {
    // Midnight in Chisinau is 22:00 in UTC.
    let standing = Standing {
        next_occurrence_at: Some(instant("2026-11-23T21:50:00Z")),
        allowances: vec![runs_a_day(4, in_chisinau(), &[("2026-11-23T10:00:00Z", 2)])],
        ..Standing::default()
    };
    let plan = backlog(&standing, "2026-11-23T22:10:00Z");
    let minutes: Vec<_> = runs(&plan).iter().map(|at| at.strftime("%H:%M").to_string()).collect();
    assert_eq!(minutes, ["21:50", "21:51", "22:00", "22:01", "22:02", "22:03"]);
    let skipped: Vec<_> = plan.closed.iter().chain(&plan.open).map(|it| (it.reason, it.count)).collect();
    assert_eq!(skipped, [(SkipReason::Budget, 8), (SkipReason::Budget, 7)]);
}

#[test]
fn the_day_that_the_clocks_change_is_one_day_however_long() {
    // 25 October 2026 has 25 hours there: from 21:00 to 22:00 the day after, UTC.
    for (first, is_same_day) in [("2026-10-24T21:00:00Z", true), ("2026-10-24T20:59:00Z", false)] {
        let standing = Standing {
            next_occurrence_at: Some(instant("2026-10-25T21:59:00Z")),
            allowances: vec![runs_a_day(1, in_chisinau(), &[(first, 1)])],
            ..Standing::default()
        };
        let planned = runs(&backlog(&standing, "2026-10-25T21:59:00Z"));
        assert_eq!(planned.is_empty(), is_same_day, "{first}");
    }
}

#[test]
fn of_two_budgets_both_hold_and_money_is_set_aside_run_by_run() {
    let money = Money {
        most: Cost::of(1.0).expect("an amount"),
        spent: Cost::of(0.3).unwrap(),
        reserved: Cost::of(0.2).unwrap(),
        resets_at: instant("2026-12-01T00:00:00Z"),
    };
    let agents = Allowance { owner: Owner::Agent, zone: Zone::utc(), runs: None, money: Some(money) };
    let reservation = Cost::of(0.2).unwrap();
    for (runs_of_task, expected) in [(9, 2), (1, 1)] {
        let allowances = vec![runs_a_day(runs_of_task, Zone::utc(), &[]), agents.clone()];
        let plan = backlog(&Standing { allowances, reservation, ..standing() }, "2026-11-23T08:05:00Z");
        assert_eq!((plan.runs.len(), plan.open.map(|open| open.reason)), (expected, Some(SkipReason::Budget)));
    }
    let why = agents.allows(Some(minute(1)), Cost::of(0.6).unwrap()).unwrap_err().to_string();
    assert!(why.contains("0.30 is spent, 0.20 set aside") && why.contains("2026-12-01T00:00:00+00:00"), "{why}");
}

#[test]
fn what_is_over_budget_makes_no_run_give_way_and_takes_no_key() {
    let used_up = vec![runs_a_day(1, Zone::utc(), &[(ANCHOR, 1)])];
    let live = Standing { live_runs: 1, queued_runs: 1, allowances: used_up, ..standing() };
    let plan = decide(|spec| spec.overlap = Overlap::CancelRunning, &live, minute(1));
    assert!(!plan.cancel_live && plan.runs.is_empty());
    assert_eq!(plan.open.map(|open| open.reason), Some(SkipReason::Budget));
    assert_eq!(plan.runs_planned, 0, "and it does not count for max_runs");
}
