//! Time is the database's: seen with its wall clock moved in steps, back and ahead, and with executors' clocks wrong.

use jiff::{SignedDuration, Timestamp, ToSpan as _, civil::Date};
use ordinaut_schema::{
    id::TaskId,
    run::{RunState, SkipReason, Trigger},
};
use ordinaut_store::{runs::RunRecord, testing::ServerClock};

use crate::support::lab::{Lab, faketime, output, until};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A task that has nothing to do.
fn idle_task(title: &str, expr: &str, more: &str) -> String {
    format!(
        "{{title: '{title}', schedule_kind: cron, schedule_expr: '{expr}', timezone: Europe/Chisinau, \
         pipeline: [{{uses: data.transform, with: {{expr: '`1`'}}}}]{more}}}"
    )
}

/// What a wall clock in Chisinau that shows `hour`:30 on a day of 2027 is, by the rule and not by any library: two
/// hours ahead, and three from 28 March, 01:00 UTC to 31 October, 01:00 UTC. On the first of these days 03:30 does not
/// exist, and moves on by the hour that is missing; on the other it comes twice, and the first one counts.
fn night(of: Date, hour: i8) -> Timestamp {
    let ahead = if of > day("2027-03-28") && of <= day("2027-10-31") { 3 } else { 2 };
    let utc = of.at(hour, 30, 0, 0).checked_sub(i64::from(ahead).hours()).unwrap();
    utc.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

/// Lets the nights of these stretches of days pass in steps, and looks that each has its run, once.
async fn nights_pass(stretches: &[(&str, usize)]) {
    let Some(lab) = Lab::at("2026-12-31T12:00:00Z").await else { return };
    let _executors = [lab.executor("one"), lab.executor("two")];
    for (first, days) in stretches {
        let first = day(first);
        lab.set_clock(instant(&format!("{}T12:00:00Z", first.yesterday().unwrap()))).await;
        let days: Vec<Date> = first.series(1.day()).take(*days).collect();
        let end = format!(", ends_at: '{}T12:00:00Z'", days.last().unwrap());
        let mut expected = Vec::new();
        for hour in [2, 3] {
            let task = idle_task(&format!("at {hour}:30 from {first}"), &format!("30 {hour} * * *"), &end);
            expected.push((lab.keep(&task).await, days.iter().map(|day| night(*day, hour)).collect::<Vec<_>>()));
        }
        let mut steps: Vec<Timestamp> = expected.iter().flat_map(|(_, nights)| nights).copied().collect();
        steps.sort_unstable();
        for at in steps {
            lab.set_clock(at + SECOND).await;
            lab.idle().await;
        }
        for (task, nights) in expected {
            assert_nights(&lab.runs(task).await, &nights);
        }
    }
}

fn assert_nights(runs: &[RunRecord], nights: &[Timestamp]) {
    assert_eq!(runs.iter().map(|run| run.occurrence_at).collect::<Vec<_>>(), nights);
    for run in runs {
        assert_eq!((run.state, run.attempts, run.trigger), (RunState::Succeeded, 1, Trigger::Schedule), "{run:?}");
        assert_eq!(run.occurrence_key, format!("t:{}", run.occurrence_at));
        assert!(run.planned_at >= run.occurrence_at, "before its time: {run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; `just year` runs it, the two weeks in which clocks change are in every test run"]
async fn a_year_of_nights_passes_with_one_run_each() {
    nights_pass(&[("2027-01-01", 365)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nights_in_which_clocks_change_pass_with_one_run_each() {
    assert_eq!(night(day("2027-03-28"), 3).to_string(), "2027-03-28T01:30:00Z", "04:30 by the wall: shifted");
    assert_eq!(night(day("2027-10-31"), 3).to_string(), "2027-10-31T00:30:00Z", "the first 03:30 of two");
    nights_pass(&[("2027-03-25", 7), ("2027-10-28", 7)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_whose_own_wall_clock_is_wrong_changes_nothing() {
    let Some(library) = faketime() else { return };
    let lab = Lab::open().await;
    for (name, off) in [("ahead", HOUR), ("behind", -HOUR)] {
        let mut environment = ServerClock::off_by(&library, off);
        environment.push(("ORDINAUT_LOG_FORMAT".into(), "json".into()));
        // The only one there is, and gone at the end of this turn.
        let _executor = lab.executor_with(name, &environment);
        let says_now = "pipeline: [{id: now, uses: data.transform, with: {expr: now}}]";
        let ticks =
            format!("{{title: {name} ticks, schedule_kind: interval, schedule_expr: 1s, max_runs: 3, {says_now}}}");
        let once = format!("{{title: {name} once, schedule_kind: once, schedule_expr: +2s, {says_now}}}");
        let (ticks, once) = (lab.keep(&ticks).await, lab.keep(&once).await);
        let retried = lab.keep(&format!("{{title: {name} fails, schedule_kind: manual, {RETRIED}}}")).await;
        let created = lab.store.now().await.unwrap();
        let retried = lab.run_now(retried, name).await;

        let retried = lab.end_of(retried).await;
        assert_eq!((retried.state, retried.attempts), (RunState::Failed, 2), "{retried:?}");
        assert_on_time(&retried, created);
        let runs = until("four runs of the schedules", async || {
            let runs = [lab.runs(ticks).await, lab.runs(once).await].concat();
            (runs.len() == 4 && runs.iter().all(|run| run.state.is_terminal())).then_some(runs)
        })
        .await;
        for run in &runs {
            let run = lab.end_of(run.id).await;
            assert_eq!((run.state, run.attempts), (RunState::Succeeded, 1), "{run:?}");
            assert_on_time(&run, created);
            let pinned = instant(output(&run, "now").as_str().unwrap());
            assert!(pinned.duration_since(run.started_at.unwrap()).abs() <= SECOND, "{pinned}: {run:?}");
        }
        assert!(runs[..3].windows(2).all(|pair| pair[1].occurrence_at == pair[0].occurrence_at + SECOND), "{runs:?}");
        assert_off(&lab, name, off);
    }
}

const RETRIED: &str = "retry: {max_attempts: 2, backoff: fixed, initial: 1s}, \
                       pipeline: [{uses: http.get, with: {url: SINK/fail/retried}}]";

/// By the database's clock all through: a clock that is off by an hour, either way, would show in each of these.
fn assert_on_time(run: &RunRecord, created: Timestamp) {
    let (started, finished) = (run.started_at.unwrap(), run.finished_at.unwrap());
    assert!(run.occurrence_at <= run.planned_at && run.planned_at <= started && started <= finished, "{run:?}");
    assert!(finished < created + 10 * MINUTE, "{run:?}");
}

/// The premise: that executor's own clock was off.
fn assert_off(lab: &Lab, name: &str, off: SignedDuration) {
    let log = lab.log(name);
    let first: serde_json::Value = serde_json::from_str(log.lines().next().expect("it logs")).unwrap();
    let seen = instant(first["timestamp"].as_str().unwrap()).duration_since(Timestamp::now());
    assert!((seen - off).abs() < 5 * MINUTE, "{name} saw {first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_clock_that_goes_back_moves_no_cursor_and_plans_nothing_twice() {
    let Some(lab) = Lab::at("2027-06-01T08:00:10Z").await else { return };
    let _executors = [lab.executor("one"), lab.executor("two")];
    let task = lab.keep(&idle_task("quarters", "*/15 * * * *", "")).await;
    for quarter in 1..=4 {
        lab.set_clock(instant("2027-06-01T08:00:01Z") + quarter * 15 * MINUTE).await;
        lab.idle().await;
    }
    let before = lab.runs(task).await;
    assert_eq!(before.len(), 4);
    let cursor = lab.database.cursor(task).await;
    assert_eq!(cursor.next_occurrence_at, Some(instant("2027-06-01T09:15:00Z")));

    lab.leap(-HOUR).await;
    // The clock that counts is the one that went back: what is due by it is planned and runs.
    let once = lab.keep("{title: once, schedule_kind: once, schedule_expr: '2027-06-01T08:05:00Z', pipeline: [{uses: data.transform, with: {expr: '`1`'}}]}").await;
    for quarter in 0..=4 {
        lab.set_clock(instant("2027-06-01T08:05:01Z") + quarter * 15 * MINUTE).await;
        lab.idle().await;
    }
    assert_eq!(lab.runs(once).await.len(), 1);
    let after = lab.runs(task).await;
    assert_eq!(ids(&after), ids(&before), "nothing twice");
    assert_eq!(lab.database.cursor(task).await, cursor);

    lab.set_clock(instant("2027-06-01T09:15:01Z")).await;
    lab.idle().await;
    assert_eq!(lab.runs(task).await.len(), 5, "and on it goes where it had been");
}

fn ids(runs: &[RunRecord]) -> Vec<String> {
    runs.iter().map(|run| run.id.to_string()).collect()
}

/// What the ledger has of a task: each row as `first..last state or reason count`.
async fn ledger(lab: &Lab, task: TaskId) -> Vec<String> {
    let rows = lab.runs(task).await;
    let mut lines: Vec<String> = rows
        .iter()
        .map(|run| match (run.skip_reason, run.stretch) {
            (Some(reason), Some((to, count))) => covered(reason, run.occurrence_at, to, count),
            (Some(reason), None) => covered(reason, run.occurrence_at, run.occurrence_at, 1),
            (None, _) => format!("{} {}", run.occurrence_at, run.state),
        })
        .collect();
    lines.extend(
        lab.database
            .cursor(task)
            .await
            .open
            .map(|(reason, from, to, count)| format!("open: {}", covered(reason, from, to, count))),
    );
    lines
}

fn covered(reason: SkipReason, from: Timestamp, to: Timestamp, count: u32) -> String {
    if count == 1 { format!("{from} {reason}") } else { format!("{from}..{to} {reason} {count}") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_clock_that_leaps_ahead_follows_the_misfire_policy() {
    let Some(lab) = Lab::at("2027-06-01T08:00:10Z").await else { return };
    let _executors = [lab.executor("one"), lab.executor("two")];
    let policies = ["", ", misfire: skip", ", misfire: run_all, misfire_limit: 3"];
    let mut tasks = Vec::new();
    for (kind, expr) in [("quarters", "*/15 * * * *"), ("days", "0 12 * * *")] {
        for policy in policies {
            tasks.push(lab.keep(&idle_task(&format!("{kind}{policy}"), expr, policy)).await);
        }
    }
    let [latest, skip, all, daily_latest, daily_skip, daily_all] = tasks.try_into().unwrap();

    lab.leap(3 * HOUR - 5 * MINUTE).await;
    lab.idle().await;
    assert_eq!(
        ledger(&lab, latest).await,
        ["2027-06-01T08:15:00Z..2027-06-01T10:30:00Z misfire 10", "2027-06-01T10:45:00Z succeeded"]
    );
    assert_eq!(ledger(&lab, skip).await, ["open: 2027-06-01T08:15:00Z..2027-06-01T10:45:00Z misfire 11"]);
    assert_eq!(
        ledger(&lab, all).await,
        [
            "2027-06-01T08:15:00Z..2027-06-01T10:00:00Z misfire 8",
            "2027-06-01T10:15:00Z succeeded",
            "2027-06-01T10:30:00Z succeeded",
            "2027-06-01T10:45:00Z succeeded"
        ]
    );

    // What comes on time afterwards runs under each policy, and ends the stretch.
    lab.set_clock(instant("2027-06-01T11:00:01Z")).await;
    lab.idle().await;
    assert_eq!(
        ledger(&lab, skip).await,
        ["2027-06-01T08:15:00Z..2027-06-01T10:45:00Z misfire 11", "2027-06-01T11:00:00Z succeeded"]
    );

    // Twelve in Chisinau is nine in UTC in summer. Three days later, at eleven.
    for task in [daily_latest, daily_skip, daily_all] {
        let cursor = lab.database.cursor(task).await.next_occurrence_at;
        assert_eq!(cursor, Some(instant("2027-06-02T09:00:00Z")));
    }
    lab.leap(72 * HOUR).await;
    lab.idle().await;
    assert_eq!(
        ledger(&lab, daily_latest).await[1..],
        ["2027-06-02T09:00:00Z..2027-06-03T09:00:00Z misfire 2", "2027-06-04T09:00:00Z succeeded"]
    );
    assert_eq!(ledger(&lab, daily_skip).await, ["2027-06-01T09:00:00Z..2027-06-04T09:00:00Z misfire 4"]);
    assert_eq!(
        ledger(&lab, daily_all).await,
        [
            "2027-06-01T09:00:00Z succeeded",
            "2027-06-02T09:00:00Z succeeded",
            "2027-06-03T09:00:00Z succeeded",
            "2027-06-04T09:00:00Z succeeded"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_clock_that_leaps_ahead_ends_no_lease() {
    let Some(lab) = Lab::at("2027-06-01T08:00:00Z").await.map(Lab::with_short_leases) else { return };
    let one_at_a_time = [("ORDINAUT_PERMITS".into(), "1".into())];
    let _living = lab.executor_with("living", &one_at_a_time);
    let held = |name: &str| {
        format!(
            "{{title: {name}, schedule_kind: manual, pipeline: [{{uses: http.get, with: {{url: SINK/hold/{name}}}}}]}}"
        )
    };
    let (kept, taken) = (lab.keep(&held("kept")).await, lab.keep(&held("taken")).await);
    let kept = lab.run_now(kept, "kept").await;
    lab.sink.saw("kept", 1).await;
    let mut dying = lab.executor_with("dying", &one_at_a_time);
    let taken = lab.run_now(taken, "taken").await;
    lab.sink.saw("taken", 1).await;
    let _others = [lab.executor("one"), lab.executor("two")];

    lab.leap(3 * HOUR).await;
    dying.start_kill().unwrap();
    // Taking that one needs a whole lease of watching, in which the other would have been taken as well.
    lab.sink.saw("taken", 2).await;
    lab.sink.let_go();
    let (kept, taken) = (lab.end_of(kept).await, lab.end_of(taken).await);
    assert_eq!((taken.state, taken.attempts, taken.crashes), (RunState::Succeeded, 2, 1));
    assert_eq!((kept.state, kept.attempts, kept.crashes), (RunState::Succeeded, 1, 0));
    assert_eq!(lab.sink.calls("kept").len(), 1);
}
