//! Tasks against real PostgreSQL, as both roles.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use ordinaut_schema::{
    id::{OccurrenceKey, TaskId},
    run::{ErrorKind, RunState, SkipReason},
    schedule::ScheduleKind,
    task::{Accepted, TaskState},
};
use ordinaut_store::{
    Caller, StoreError,
    runs::RunFilter,
    tasks::{Foreseen, Inserted, Snooze, TaskFilter, TaskRecord, TaskRef},
    testing::{Fixture, accepted, accepted_with},
    wakeups::Hint,
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

const MANUAL: (ScheduleKind, &str) = (ScheduleKind::Manual, "");
const HOURLY: (ScheduleKind, &str) = (ScheduleKind::Interval, "1h");

fn me() -> Caller {
    Caller::local("test")
}

async fn keep(fixture: &Fixture, accepted: &Accepted) -> TaskRecord {
    match fixture.mcp.insert_task(&me(), accepted, None).await.unwrap() {
        Inserted::Created(record) => record,
        Inserted::Existed(record) => panic!("task {} existed", record.id),
    }
}

async fn now(fixture: &Fixture) -> Timestamp {
    fixture.executor.now().await.unwrap()
}

async fn hourly(fixture: &Fixture, title: &str) -> TaskRecord {
    keep(fixture, &accepted(title, HOURLY, now(fixture).await)).await
}

#[tokio::test]
async fn a_new_task_has_its_cursor_its_revision_and_its_event() {
    let (fixture, _database) = Fixture::fresh().await;
    let definition = accepted("Water the plants", HOURLY, now(&fixture).await);
    let kept = keep(&fixture, &definition).await;

    assert_eq!(kept.state, TaskState::Active);
    let second = Timestamp::from_second(definition.spec.anchored_at.as_second()).unwrap();
    assert_eq!(kept.next_occurrence_at, Some(second + 1.hour()));
    assert_eq!(kept.next_due_at, kept.next_occurrence_at);
    assert_eq!(kept.spec, definition.spec);
    assert_eq!(fixture.executor.find_revision(kept.id, 1).await.unwrap(), definition.spec);
    assert_eq!(fixture.topics(Some(kept.id)).await, ["task.created"]);
    let audited: i64 = sqlx::query_scalar("select count(*) from audit_log where task_id = $1 and verb = 'create_task'")
        .bind(kept.id.uuid())
        .fetch_one(&fixture.owner)
        .await
        .unwrap();
    assert_eq!(audited, 1);
}

#[tokio::test]
async fn a_once_instant_that_went_by_on_the_way_in_is_still_planned() {
    let (fixture, _database) = Fixture::fresh().await;
    let accepted_at = now(&fixture).await - 2.seconds();
    let kept = keep(&fixture, &accepted("Blink", (ScheduleKind::Once, "+1s"), accepted_at)).await;
    let next = kept.next_occurrence_at.expect("it is late, not lost");
    assert!(next > accepted_at && next <= accepted_at + 1.second());
}

#[tokio::test]
async fn the_same_request_id_answers_with_the_same_task() {
    let (fixture, _database) = Fixture::fresh().await;
    let first = accepted("One", MANUAL, now(&fixture).await);
    let Inserted::Created(kept) = fixture.mcp.insert_task(&me(), &first, Some("r1")).await.unwrap() else {
        panic!("not created");
    };
    // Looked up before anything else is judged: another definition changes nothing.
    let second = accepted("Two", MANUAL, now(&fixture).await);
    let Inserted::Existed(again) = fixture.mcp.insert_task(&me(), &second, Some("r1")).await.unwrap() else {
        panic!("created twice");
    };
    assert_eq!(again.id, kept.id);
    let found = fixture.mcp.find_task_by_request(&me(), "r1").await.unwrap();
    assert_eq!(found.map(|task| task.id), Some(kept.id));
    assert!(fixture.mcp.find_task_by_request(&me(), "r2").await.unwrap().is_none());
}

#[tokio::test]
async fn one_request_sent_from_many_sides_at_once_makes_one_task() {
    let (fixture, _database) = Fixture::fresh().await;
    let definition = accepted("Once only", MANUAL, now(&fixture).await);
    let mut sides = JoinSet::new();
    for n in 0..8 {
        let (store, definition) = (fixture.mcp.clone(), definition.clone());
        // Half by the request's id, half by the title alone.
        sides.spawn(async move { store.insert_task(&me(), &definition, (n % 2 == 0).then_some("same")).await });
    }
    let answers: Vec<_> = sides.join_all().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|it| matches!(it, Inserted::Created(_))).count(), 1);
    let tasks = fixture.mcp.list_tasks(&me(), &TaskFilter::default(), None, 10).await.unwrap();
    assert_eq!(tasks.len(), 1);
    for answer in answers {
        let (Inserted::Created(record) | Inserted::Existed(record)) = answer;
        assert_eq!(record.id, tasks[0].id);
    }
}

#[tokio::test]
async fn a_taken_title_answers_existed_for_the_same_definition_and_refuses_another() {
    let (fixture, _database) = Fixture::fresh().await;
    let start = now(&fixture).await;
    let kept = keep(&fixture, &accepted("Morning  Briefing", HOURLY, start)).await;

    // The clock has gone on: the same interval counts from another instant now.
    let mut again = accepted("Morning  Briefing", HOURLY, start + 5.minutes());
    let existed = fixture.mcp.insert_task(&me(), &again, Some("r")).await.unwrap();
    assert!(matches!(existed, Inserted::Existed(record) if record.id == kept.id));
    let found = fixture.mcp.find_task_by_request(&me(), "r").await.unwrap();
    assert_eq!(found.map(|task| task.id), Some(kept.id), "the request is answered with the task that existed");

    again = accepted(" morning briefing", (ScheduleKind::Interval, "2h"), start);
    let refused = fixture.mcp.insert_task(&me(), &again, Some("r3")).await.unwrap_err();
    assert!(matches!(refused, StoreError::TitleTaken { existing, .. } if existing == kept.id), "{refused}");
    assert!(fixture.mcp.find_task_by_request(&me(), "r3").await.unwrap().is_none(), "a refusal keeps nothing");

    fixture.mcp.cancel_task(&me(), kept.id).await.unwrap();
    keep(&fixture, &again).await;
}

#[tokio::test]
async fn a_delay_asked_for_twice_is_one_task_and_another_delay_is_not() {
    let (fixture, _database) = Fixture::fresh().await;
    let start: Timestamp = "2026-11-23T08:00:00.123456Z".parse().unwrap();
    let later: Timestamp = "2026-11-23T08:00:09.654321Z".parse().unwrap();
    let kept = keep(&fixture, &accepted("Tea", (ScheduleKind::Once, "+90000h"), start)).await;
    let again = accepted("Tea", (ScheduleKind::Once, "+90000h"), later);
    let existed = fixture.mcp.insert_task(&me(), &again, None).await.unwrap();
    assert!(matches!(existed, Inserted::Existed(record) if record.id == kept.id));
    let other = accepted("Tea", (ScheduleKind::Once, "+90001h"), later);
    assert!(matches!(fixture.mcp.insert_task(&me(), &other, None).await, Err(StoreError::TitleTaken { .. })));
}

#[tokio::test]
async fn a_rule_asked_for_twice_is_one_task_and_another_dtstart_is_not() {
    let (fixture, _database) = Fixture::fresh().await;
    let start: Timestamp = "2026-11-23T08:00:00.123456Z".parse().unwrap();
    let rule = |expr, at| accepted("Standup", (ScheduleKind::Rrule, expr), at);
    let kept = keep(&fixture, &rule("FREQ=DAILY;BYHOUR=9", start)).await;
    let existed = fixture.mcp.insert_task(&me(), &rule("FREQ=DAILY;BYHOUR=9", start + 7.minutes()), None).await;
    assert!(matches!(existed, Ok(Inserted::Existed(record)) if record.id == kept.id));
    let given = rule("DTSTART:20261101T080000Z\nRRULE:FREQ=DAILY;BYHOUR=9", start);
    assert!(matches!(fixture.mcp.insert_task(&me(), &given, None).await, Err(StoreError::TitleTaken { .. })));
}

#[tokio::test]
async fn the_limit_of_active_tasks_is_kept() {
    let (fixture, _database) = Fixture::fresh().await;
    sqlx::query(
        "insert into task (id, agent_id, title, title_key, state, revision, schedule_kind)
         select gen_random_uuid(), $1, n::text, n::text, 'active', 1, 'manual' from generate_series(1, 9999) n",
    )
    .bind(me().agent.uuid())
    .execute(&fixture.owner)
    .await
    .unwrap();
    let last = accepted("The last", MANUAL, now(&fixture).await);
    let foreseen = fixture.mcp.foresee_task(&me(), &last).await.unwrap();
    assert!(matches!(foreseen, Foreseen::WouldCreate(_)), "there is room for one more, and foreseeing takes none");
    keep(&fixture, &last).await;
    let more = accepted("One more", MANUAL, now(&fixture).await);
    let refused = fixture.mcp.insert_task(&me(), &more, None).await;
    assert!(matches!(refused, Err(StoreError::TooManyTasks { limit: 10_000 })));
    let refused = fixture.mcp.foresee_task(&me(), &more).await;
    assert!(matches!(refused, Err(StoreError::TooManyTasks { limit: 10_000 })));
}

#[tokio::test]
async fn a_task_is_found_by_id_and_by_title_and_a_slip_names_what_is_near() {
    let (fixture, _database) = Fixture::fresh().await;
    let kept = hourly(&fixture, "Weekly Review").await;
    for name in [kept.id.to_string(), "weekly review".to_owned(), "  WEEKLY   REVIEW ".to_owned()] {
        let found = fixture.mcp.find_task(&me(), &TaskRef::from(name.as_str())).await.unwrap();
        assert_eq!(found.id, kept.id, "{name}");
    }
    for name in ["Wekly Review", "review"] {
        let missing = fixture.mcp.find_task(&me(), &TaskRef::from(name)).await.unwrap_err();
        assert!(matches!(&missing, StoreError::TaskNotFound { near, .. } if near == &["Weekly Review"]), "{missing:?}");
    }
    // The title of a cancelled task still finds it, until a live one has it.
    fixture.mcp.cancel_task(&me(), kept.id).await.unwrap();
    let by_title = TaskRef::from("Weekly review");
    assert_eq!(fixture.mcp.find_task(&me(), &by_title).await.unwrap().id, kept.id);
    let next = hourly(&fixture, "Weekly Review").await;
    assert_eq!(fixture.mcp.find_task(&me(), &by_title).await.unwrap().id, next.id);
}

#[tokio::test]
async fn one_agent_never_sees_or_touches_anothers_tasks() {
    let (fixture, _database) = Fixture::fresh().await;
    let other = fixture.agent("other").await.unwrap();
    let mine = hourly(&fixture, "Mine").await;
    let run = fixture.plant_run(&mine, &OccurrenceKey::manual("x"), now(&fixture).await, RunState::Pending).await;

    for store in [&fixture.mcp, &fixture.executor] {
        let by_id = TaskRef::Id(mine.id);
        assert!(matches!(store.find_task(&other, &by_id).await, Err(StoreError::TaskNotFound { .. })));
        assert!(matches!(
            store.find_task(&other, &TaskRef::from("Mine")).await,
            Err(StoreError::TaskNotFound { near, .. }) if near.is_empty()
        ));
        assert!(store.list_tasks(&other, &TaskFilter::default(), None, 10).await.unwrap().is_empty());
        assert!(store.pause_task(&other, mine.id, None, None).await.is_err());
        assert!(store.resume_task(&other, mine.id).await.is_err());
        assert!(store.snooze_task(&other, mine.id, Snooze::Skip(1)).await.is_err());
        assert!(store.cancel_task(&other, mine.id).await.is_err());
        let definition = accepted("Stolen", HOURLY, now(&fixture).await);
        assert!(store.update_task(&other, mine.id, &definition, None, true).await.is_err());
        assert!(matches!(store.find_run(&other, run).await, Err(StoreError::RunNotFound(_))));
        assert!(store.list_runs(&other, &RunFilter::default(), None, 10).await.unwrap().is_empty());
    }
    // What was refused left no trace on what it was refused for.
    let untouched = fixture.mcp.find_task(&me(), &TaskRef::Id(mine.id)).await.unwrap();
    assert_eq!((untouched.state, untouched.revision), (TaskState::Active, 1));
    assert_eq!(fixture.mcp.find_run(&me(), run).await.unwrap().state, RunState::Pending);
    assert!(fixture.mcp.find_revision(mine.id, 1).await.is_err(), "without an agent the MCP role sees nothing");
    // Two agents may use one title.
    fixture.mcp.insert_task(&other, &accepted("Mine", MANUAL, now(&fixture).await), None).await.unwrap();
}

#[tokio::test]
async fn a_list_pages_by_id_and_hides_what_is_over() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(hourly(&fixture, &format!("Task {n}")).await.id);
    }
    fixture.mcp.cancel_task(&me(), ids[4]).await.unwrap();
    fixture.mcp.pause_task(&me(), ids[3], None, None).await.unwrap();
    let all = TaskFilter::default();
    let page = fixture.mcp.list_tasks(&me(), &all, None, 3).await.unwrap();
    let rest = fixture.mcp.list_tasks(&me(), &all, page.last().map(|task| task.id), 3).await.unwrap();
    let seen: Vec<_> = page.iter().chain(&rest).map(|task| task.id).collect();
    assert_eq!(seen, ids[..4]);

    let cancelled = TaskFilter { states: vec![TaskState::Cancelled], text: Some("TASK".to_owned()) };
    let found = fixture.mcp.list_tasks(&me(), &cancelled, None, 3).await.unwrap();
    assert_eq!(found.iter().map(|task| task.id).collect::<Vec<_>>(), [ids[4]]);
    let none = TaskFilter { text: Some("%".to_owned()), ..TaskFilter::default() };
    assert!(fixture.mcp.list_tasks(&me(), &none, None, 3).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_update_stores_a_revision_and_moves_the_cursor_past_what_was_planned() {
    let (fixture, _database) = Fixture::fresh().await;
    let kept = hourly(&fixture, "Report").await;
    let planned = now(&fixture).await + 3.hours();
    sqlx::query("update task set last_occurrence_at = $2, snoozed_until = now() + interval '1 day' where id = $1")
        .bind(kept.id.uuid())
        .bind(jiff_sqlx::Timestamp::from(planned))
        .execute(&fixture.owner)
        .await
        .unwrap();
    let definition = accepted("Report", (ScheduleKind::Interval, "30m"), kept.spec.anchored_at);
    let updated = fixture.mcp.update_task(&me(), kept.id, &definition, Some(1), false).await.unwrap();

    assert_eq!(updated.revision, 2);
    let next = updated.next_occurrence_at.unwrap();
    assert!(next > planned && next <= planned + 30.minutes());
    assert!(updated.snoozed_until > Some(next), "a snooze stands, as a pause does");
    assert_eq!(updated.next_due_at, updated.snoozed_until);
    assert_eq!(fixture.executor.find_revision(kept.id, 1).await.unwrap(), kept.spec);
    assert_eq!(fixture.topics(Some(kept.id)).await, ["task.created", "task.updated"]);

    let stale = fixture.mcp.update_task(&me(), kept.id, &definition, Some(1), false).await;
    assert!(matches!(stale, Err(StoreError::RevisionChanged { expected: 1, actual: 2, .. })));
    let same = fixture.mcp.update_task(&me(), kept.id, &definition, None, false).await.unwrap();
    assert_eq!(same.revision, 2, "nothing changed, nothing was stored");
}

#[tokio::test]
async fn an_update_that_leaves_the_schedule_alone_leaves_the_cursor_alone() {
    let (fixture, _database) = Fixture::fresh().await;
    // Accepted half a day ago: eleven occurrences are due and not looked at yet.
    let anchor = now(&fixture).await - 12.hours();
    let kept = keep(&fixture, &accepted("Backlog", HOURLY, anchor)).await;
    sqlx::query("update task set next_occurrence_at = $2, next_due_at = $2 where id = $1")
        .bind(kept.id.uuid())
        .bind(jiff_sqlx::Timestamp::from(anchor + 1.hour()))
        .execute(&fixture.owner)
        .await
        .unwrap();
    let definition = accepted_with("Backlog", HOURLY, anchor, json!({ "priority": 1 }));
    let updated = fixture.mcp.update_task(&me(), kept.id, &definition, None, false).await.unwrap();
    assert_eq!(updated.spec.priority, 1);
    assert_eq!(updated.next_occurrence_at, Some(anchor + 1.hour()));
}

#[tokio::test]
async fn an_update_cannot_take_anothers_title_and_can_revive_what_ended() {
    let (fixture, _database) = Fixture::fresh().await;
    let first = hourly(&fixture, "First").await;
    let second = hourly(&fixture, "Second").await;
    let definition = accepted("FIRST", HOURLY, second.spec.anchored_at);
    let refused = fixture.mcp.update_task(&me(), second.id, &definition, None, false).await.unwrap_err();
    assert!(matches!(refused, StoreError::TitleTaken { existing, .. } if existing == first.id));

    sqlx::query("update task set state = 'ended', next_occurrence_at = null, next_due_at = null where id = $1")
        .bind(first.id.uuid())
        .execute(&fixture.owner)
        .await
        .unwrap();
    let definition = accepted("First", (ScheduleKind::Once, "+1h"), now(&fixture).await);
    let revived = fixture.mcp.update_task(&me(), first.id, &definition, None, false).await.unwrap();
    assert_eq!(revived.state, TaskState::Active);
    assert!(revived.next_due_at.is_some());
}

#[tokio::test]
async fn an_update_reaches_planned_runs_only_when_asked_and_spares_started_ones() {
    let (fixture, _database) = Fixture::fresh().await;
    let kept = hourly(&fixture, "Report").await;
    let at = now(&fixture).await;
    let pending = fixture.plant_run(&kept, &OccurrenceKey::manual("a"), at, RunState::Pending).await;
    let running = fixture.plant_run(&kept, &OccurrenceKey::manual("b"), at, RunState::Running).await;
    let revision = async |run| fixture.mcp.find_run(&me(), run).await.unwrap().revision;

    let definition = accepted_with("Report", HOURLY, at, json!({ "priority": 1 }));
    fixture.mcp.update_task(&me(), kept.id, &definition, None, false).await.unwrap();
    assert_eq!((revision(pending).await, revision(running).await), (1, 1));
    fixture.mcp.update_task(&me(), kept.id, &definition, None, true).await.unwrap();
    assert_eq!((revision(pending).await, revision(running).await), (3, 1));
}

#[tokio::test]
async fn a_pause_has_an_end_the_planner_looks_at_and_can_be_moved() {
    let (fixture, _database) = Fixture::fresh().await;
    let kept = hourly(&fixture, "Report").await;
    let until = Timestamp::from_microsecond((now(&fixture).await + 10.minutes()).as_microsecond()).unwrap();
    let paused = fixture.mcp.pause_task(&me(), kept.id, Some(until), Some("holidays")).await.unwrap();
    assert_eq!(paused.state, TaskState::Paused);
    assert_eq!((paused.resume_at, paused.next_due_at), (Some(until), Some(until)));
    assert_eq!(paused.paused_because.as_deref(), Some("holidays"));

    let moved = fixture.mcp.pause_task(&me(), kept.id, None, None).await.unwrap();
    assert_eq!((moved.resume_at, moved.paused_because.as_deref()), (None, None));
    assert_eq!(moved.next_occurrence_at, kept.next_occurrence_at, "a pause moves no cursor");

    let past = fixture.mcp.pause_task(&me(), kept.id, Some(Timestamp::UNIX_EPOCH), None).await.unwrap_err();
    assert!(past.to_string().contains("gone by"), "{past}");
}

#[tokio::test]
async fn resuming_makes_the_planner_settle_what_passed_as_paused() {
    let (fixture, _database) = Fixture::fresh().await;
    let kept = hourly(&fixture, "Report").await;
    fixture.mcp.pause_task(&me(), kept.id, None, None).await.unwrap();
    sqlx::query("update task set failures_in_row = 7 where id = $1")
        .bind(kept.id.uuid())
        .execute(&fixture.owner)
        .await
        .unwrap();
    let before = now(&fixture).await;
    let resumed = fixture.mcp.resume_task(&me(), kept.id).await.unwrap();
    assert_eq!(resumed.state, TaskState::Active);
    assert_eq!(resumed.failures_in_row, 0);
    assert!(resumed.next_due_at.unwrap() < kept.next_due_at.unwrap(), "the planner is to look now");
    let (until, reason): (jiff_sqlx::Timestamp, String) =
        sqlx::query_as("select pass_until, pass_reason from task where id = $1")
            .bind(kept.id.uuid())
            .fetch_one(&fixture.owner)
            .await
            .unwrap();
    assert!(until.to_jiff() >= before);
    assert_eq!(reason, "paused");

    fixture.mcp.resume_task(&me(), kept.id).await.unwrap();
    assert_eq!(fixture.topics(Some(kept.id)).await, ["task.created", "task.paused", "task.resumed"]);
}

#[tokio::test]
async fn a_snooze_holds_the_next_occurrence_back_and_can_be_shortened() {
    let (fixture, _database) = Fixture::fresh().await;
    let kept = hourly(&fixture, "Report").await;
    let occurrence = kept.next_occurrence_at.unwrap();
    let late = fixture.mcp.snooze_task(&me(), kept.id, Snooze::Until(occurrence + 5.hours())).await.unwrap();
    assert_eq!(late.next_occurrence_at, Some(occurrence), "its key and id stay");
    assert_eq!(late.next_due_at, Some(occurrence + 5.hours()));
    let sooner = fixture.mcp.snooze_task(&me(), kept.id, Snooze::Until(occurrence + 1.minute())).await.unwrap();
    assert_eq!(sooner.next_due_at, Some(occurrence + 1.minute()));
    let not_at_all = fixture.mcp.snooze_task(&me(), kept.id, Snooze::Until(occurrence - 1.minute())).await.unwrap();
    assert_eq!(not_at_all.next_due_at, Some(occurrence));

    let skipping = fixture.mcp.snooze_task(&me(), kept.id, Snooze::Skip(3)).await.unwrap();
    assert_eq!(skipping.skip_next, 3);

    let manual = keep(&fixture, &accepted("By hand", MANUAL, now(&fixture).await)).await;
    let refused = fixture.mcp.snooze_task(&me(), manual.id, Snooze::Skip(1)).await.unwrap_err();
    assert!(refused.to_string().contains("pause it instead"), "{refused}");
}

#[tokio::test]
async fn cancelling_a_task_ends_what_waits_asks_what_runs_and_writes_the_open_stretch() {
    let (fixture, _database) = Fixture::fresh().await;
    let kept = hourly(&fixture, "Report").await;
    let at = now(&fixture).await;
    let mut idle = Vec::new();
    for (n, state) in [RunState::Blocked, RunState::Waiting, RunState::Pending].into_iter().enumerate() {
        idle.push(fixture.plant_run(&kept, &OccurrenceKey::manual(&n.to_string()), at, state).await);
    }
    let running = fixture.plant_run(&kept, &OccurrenceKey::manual("r"), at, RunState::Running).await;
    sqlx::query(
        "insert into step_journal (run_id, step, agent_id, uses, state, calls, output)
         values ($1, 'fetch', $2, 'http.get', 'succeeded', 1, '{\"status\": 200, \"body\": null}')",
    )
    .bind(idle[1].uuid())
    .bind(me().agent.uuid())
    .execute(&fixture.owner)
    .await
    .unwrap();
    sqlx::query(
        "update task set stretch_reason = 'overlap', stretch_from = now() - interval '3 hours', stretch_count = 3,
             stretch_to = now() - interval '1 hour', stretch_opened_at = now() - interval '3 hours'
         where id = $1",
    )
    .bind(kept.id.uuid())
    .execute(&fixture.owner)
    .await
    .unwrap();

    let (cancelled, runs) = fixture.mcp.cancel_task(&me(), kept.id).await.unwrap();
    assert_eq!(cancelled.state, TaskState::Cancelled);
    assert_eq!((cancelled.next_due_at, cancelled.next_occurrence_at), (None, None));
    let mut asked: Vec<_> = idle.iter().copied().chain([running]).collect();
    asked.sort_unstable();
    assert_eq!(runs, asked);

    for run in &idle {
        let record = fixture.mcp.find_run(&me(), *run).await.unwrap();
        assert_eq!(record.state, RunState::Cancelled);
        assert_eq!(record.error.unwrap().kind, ErrorKind::Cancelled);
    }
    let journaled = fixture.mcp.find_run(&me(), idle[1]).await.unwrap();
    assert_eq!(journaled.steps.len(), 1, "what was done before is kept");
    assert_eq!(journaled.steps[0].output, json!({ "status": 200, "body": null }));
    let left: i64 = sqlx::query_scalar("select count(*) from step_journal").fetch_one(&fixture.owner).await.unwrap();
    assert_eq!(left, 0);
    let still = fixture.mcp.find_run(&me(), running).await.unwrap();
    assert_eq!(still.state, RunState::Running);
    assert!(still.cancel_asked_at.is_some());

    let skipped = RunFilter { states: vec![RunState::Skipped], ..RunFilter::default() };
    let stretch = fixture.mcp.list_runs(&me(), &skipped, None, 10).await.unwrap();
    assert_eq!(stretch.len(), 1);
    assert_eq!(stretch[0].skip_reason, Some(SkipReason::Overlap));
    assert_eq!(stretch[0].stretch.map(|(_, count)| count), Some(3));

    let topics = fixture.topics(Some(kept.id)).await;
    assert_eq!(topics.iter().filter(|topic| *topic == "run.cancelled").count(), 3);
    assert_eq!(topics.last().map(String::as_str), Some("task.cancelled"));

    let (_, again) = fixture.mcp.cancel_task(&me(), kept.id).await.unwrap();
    assert!(again.is_empty());
    assert_eq!(fixture.topics(Some(kept.id)).await.len(), topics.len(), "cancelling again tells nothing");
    for refused in [
        fixture.mcp.pause_task(&me(), kept.id, None, None).await,
        fixture.mcp.resume_task(&me(), kept.id).await,
        fixture.mcp.snooze_task(&me(), kept.id, Snooze::Skip(1)).await,
    ] {
        assert!(matches!(refused, Err(StoreError::TaskState { .. })));
    }
}

#[tokio::test]
async fn a_task_that_does_not_exist_is_said_so() {
    let (fixture, _database) = Fixture::fresh().await;
    let missing = TaskId::new();
    assert!(matches!(
        fixture.mcp.pause_task(&me(), missing, None, None).await,
        Err(StoreError::TaskNotFound { task, .. }) if task == missing.to_string()
    ));
}

#[tokio::test]
async fn a_task_that_listens_to_what_happens_to_tasks_runs_in_the_same_transaction() {
    let (fixture, _database) = Fixture::fresh().await;
    let kept = hourly(&fixture, "Report").await;
    let listening = (ScheduleKind::Event, "task.paused");
    let watcher = keep(&fixture, &accepted("Watcher", listening, now(&fixture).await)).await;
    fixture.mcp.pause_task(&me(), kept.id, None, Some("holidays")).await.unwrap();

    let filter = RunFilter { task: Some(watcher.id), ..RunFilter::default() };
    let runs = fixture.mcp.list_runs(&me(), &filter, None, 10).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].event.as_ref().unwrap()["payload"]["because"], "holidays");
}

#[tokio::test]
async fn a_task_that_listens_to_new_tasks_does_not_hear_of_itself() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut watchers = Vec::new();
    for topic in ["task.created", "*.*"] {
        watchers.push(keep(&fixture, &accepted(topic, (ScheduleKind::Event, topic), now(&fixture).await)).await.id);
    }
    let heard = async |task| {
        let filter = RunFilter { task: Some(task), ..RunFilter::default() };
        let runs = fixture.mcp.list_runs(&me(), &filter, None, 10).await.unwrap();
        let titles =
            runs.iter().map(|run| run.event.as_ref().unwrap()["payload"]["title"].as_str().unwrap().to_owned());
        titles.collect::<Vec<_>>()
    };
    assert_eq!((heard(watchers[0]).await, heard(watchers[1]).await), (vec!["*.*".to_owned()], vec![]));
    hourly(&fixture, "Report").await;
    assert_eq!((heard(watchers[0]).await.len(), heard(watchers[1]).await), (2, vec!["Report".to_owned()]));
}

#[tokio::test]
async fn cancelling_a_task_gives_its_key_to_the_next_that_waits() {
    let (fixture, _database) = Fixture::fresh().await;
    let with_key = json!({ "concurrency_key": "printer", "concurrency_limit": 1 });
    let mut runs = Vec::new();
    for title in ["First", "Second"] {
        let task = keep(&fixture, &accepted_with(title, MANUAL, now(&fixture).await, with_key.clone())).await;
        let run = fixture.mcp.run_now(&me(), task.id, title, None).await.unwrap().run;
        runs.push((task.id, run));
    }
    let state = async |run| fixture.mcp.find_run(&me(), run).await.unwrap().state;
    assert_eq!((state(runs[0].1).await, state(runs[1].1).await), (RunState::Pending, RunState::Blocked));
    fixture.mcp.cancel_task(&me(), runs[0].0).await.unwrap();
    assert_eq!(state(runs[0].1).await, RunState::Cancelled);
    // Admission that met a lock looks again after its commit.
    let deadline = Instant::now() + Duration::from_mins(1);
    while state(runs[1].1).await != RunState::Pending {
        assert!(Instant::now() < deadline, "the key is free, and the next run still waits for it");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A hint is sent after the commit: who hears it finds the task.
#[tokio::test]
async fn a_new_task_wakes_the_executors() {
    let (fixture, _database) = Fixture::fresh().await;
    let mut listener = fixture.executor.listen().await.unwrap();
    let kept = hourly(&fixture, "Soon").await;
    let heard = listener.next(Duration::from_mins(1)).await.expect("a hint within 60 s");
    assert!(heard <= Hint::Due(kept.next_due_at.unwrap()));
    fixture.executor.find_task(&me(), &TaskRef::Id(kept.id)).await.unwrap();
}
