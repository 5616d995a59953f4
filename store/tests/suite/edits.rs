//! Edits of a schedule while its occurrences are due: none is left out of the ledger, none is in it twice.

use jiff::{Timestamp, ToSpan as _};
use ordinaut_schema::{
    id::TaskId,
    run::{RunState, SkipReason},
    schedule::ScheduleKind,
    task::TaskState,
};
use ordinaut_store::{
    Caller,
    runs::RunFilter,
    tasks::{Inserted, Snooze, TaskRecord, TaskRef},
    testing::{Fixture, accepted_with},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const HOURLY: (ScheduleKind, &str) = (ScheduleKind::Interval, "1h");

fn me() -> Caller {
    Caller::local("test")
}

/// An hourly task, kept ten hours and a half ago.
async fn hourly(f: &Fixture, title: &str, fields: Value) -> TaskRecord {
    let anchor = f.mcp.now().await.unwrap() - 10.hours() - 30.minutes();
    let (Inserted::Created(task) | Inserted::Existed(task)) =
        f.mcp.insert_task(&me(), &accepted_with(title, HOURLY, anchor, fields), None).await.unwrap();
    task
}

/// Leaves a task's last so many occurrences unplanned; answers with the first of them.
async fn set_back(f: &Fixture, task: &TaskRecord, hours: i64) -> Timestamp {
    let first = task.next_occurrence_at.unwrap() - hours.hours();
    sqlx::query("update task set next_occurrence_at = $2, next_due_at = greatest($2, coalesce(snoozed_until, $2)) where id = $1")
        .bind(task.id.uuid())
        .bind(jiff_sqlx::ToSqlx::to_sqlx(first))
        .execute(&f.owner)
        .await
        .unwrap();
    first
}

/// Gives a task another schedule.
async fn edit(f: &Fixture, task: &TaskRecord, expr: &str, fields: Value) -> TaskRecord {
    let schedule = (ScheduleKind::Interval, expr);
    let definition = accepted_with(&task.spec.title, schedule, task.spec.anchored_at, fields);
    f.mcp.update_task(&me(), task.id, &definition, None, false).await.unwrap()
}

/// How many occurrences ran, and how many were skipped for what, history and open stretch together.
async fn covered(f: &Fixture, task: TaskId) -> (usize, Vec<(SkipReason, u32)>) {
    let filter = RunFilter { task: Some(task), ..RunFilter::default() };
    let runs = f.mcp.list_runs(&me(), &filter, None, 100).await.unwrap();
    let stretches = runs.iter().filter_map(|run| Some((run.skip_reason?, run.stretch?.1)));
    let open = f.mcp.find_task(&me(), &TaskRef::Id(task)).await.unwrap().open_stretch;
    let skipped = stretches.chain(open.map(|open| (open.reason, open.count))).collect();
    (runs.iter().filter(|run| run.state != RunState::Skipped).count(), skipped)
}

#[tokio::test]
async fn what_was_due_when_the_schedule_is_changed_is_settled_by_the_old_definition() {
    let (f, _database) = Fixture::fresh().await;
    let task = hourly(&f, "late", json!({})).await;
    set_back(&f, &task, 3).await;
    let edited = edit(&f, &task, "20m", json!({})).await;
    assert_eq!(covered(&f, task.id).await, (1, vec![(SkipReason::Misfire, 2)]));
    assert!(edited.next_occurrence_at > Some(f.mcp.now().await.unwrap()));
    assert_eq!((edited.runs_planned, edited.revision), (1, 2));
    let filter = RunFilter { task: Some(task.id), ..RunFilter::default() };
    let run = f.mcp.list_runs(&me(), &filter, None, 1).await.unwrap().remove(0);
    assert_eq!((run.revision, run.occurrence_at), (1, task.next_occurrence_at.unwrap() - 1.hour()));

    // Not due by its jitter, and not by its policy: been it has all the same.
    let all = hourly(&f, "all", json!({ "misfire": "run_all", "overlap": "queue", "jitter": "24h" })).await;
    set_back(&f, &all, 1).await;
    sqlx::query("update task set next_due_at = now() + interval '29 minutes' where id = $1")
        .bind(all.id.uuid())
        .execute(&f.owner)
        .await
        .unwrap();
    edit(&f, &all, "20m", json!({})).await;
    assert_eq!(covered(&f, all.id).await, (1, vec![]));
}

#[tokio::test]
async fn a_paused_tasks_occurrences_are_skipped_as_paused_up_to_the_edit() {
    let (f, _database) = Fixture::fresh().await;
    let task = hourly(&f, "paused", json!({})).await;
    f.mcp.pause_task(&me(), task.id, None, None).await.unwrap();
    set_back(&f, &task, 2).await;
    let edited = edit(&f, &task, "20m", json!({})).await;
    assert_eq!(covered(&f, task.id).await, (0, vec![(SkipReason::Paused, 2)]));
    assert_eq!(edited.state, TaskState::Paused);
    // The stretch is written within the hour, however far the next occurrence is.
    let far = edit(&f, &edited, "2000h", json!({})).await;
    assert!(far.next_due_at.unwrap() <= far.open_stretch.unwrap().opened_at + 1.hour());
}

#[tokio::test]
async fn a_snooze_and_occurrences_to_skip_stand_for_the_new_schedule_and_what_was_held_is_in_the_ledger() {
    let (f, _database) = Fixture::fresh().await;
    let until = f.mcp.now().await.unwrap() + 5.hours();
    let task = hourly(&f, "snoozed", json!({})).await;
    f.mcp.snooze_task(&me(), task.id, Snooze::Until(until)).await.unwrap();
    let task = f.mcp.snooze_task(&me(), task.id, Snooze::Skip(7)).await.unwrap();
    set_back(&f, &task, 2).await;
    let edited = edit(&f, &task, "20m", json!({})).await;
    assert_eq!(covered(&f, task.id).await, (0, vec![(SkipReason::Snoozed, 2)]));
    assert_eq!(
        (edited.snoozed_until, edited.next_due_at),
        (task.snoozed_until, task.snoozed_until.min(edited.open_stretch.map(|open| open.opened_at + 1.hour())))
    );
    assert_eq!(edited.skip_next, 5, "two of the seven were passed over");
    // Nothing of this one comes before the end of the snooze: it is over.
    let far = edit(&f, &edited, "2000h", json!({})).await;
    assert_eq!((far.snoozed_until, far.skip_next), (None, 5));
}

#[tokio::test]
async fn a_snooze_that_ends_before_the_next_occurrence_puts_off_nothing() {
    let (f, _database) = Fixture::fresh().await;
    let task = hourly(&f, "later", json!({})).await;
    let before = task.next_occurrence_at.unwrap() - 1.minute();
    let snoozed = f.mcp.snooze_task(&me(), task.id, Snooze::Until(before)).await.unwrap();
    assert_eq!((snoozed.snoozed_until, snoozed.next_due_at), (None, task.next_due_at));
    // It replaces an earlier one all the same.
    f.mcp.snooze_task(&me(), task.id, Snooze::Until(before + 1.hour())).await.unwrap();
    let back = f.mcp.snooze_task(&me(), task.id, Snooze::Until(before)).await.unwrap();
    assert_eq!((back.snoozed_until, back.next_due_at), (None, task.next_due_at));
}

#[tokio::test]
async fn a_once_that_is_due_when_its_task_gets_another_schedule_runs_and_the_task_never_ended() {
    let (f, _database) = Fixture::fresh().await;
    let now = f.mcp.now().await.unwrap();
    let once = accepted_with("once", (ScheduleKind::Once, "+1s"), now - 2.seconds(), json!({}));
    let (Inserted::Created(task) | Inserted::Existed(task)) = f.mcp.insert_task(&me(), &once, None).await.unwrap();
    let edited = edit(&f, &task, "1h", json!({})).await;
    assert_eq!((edited.state, covered(&f, task.id).await), (TaskState::Active, (1, vec![])));
    assert_eq!(f.topics(Some(task.id)).await, ["task.created", "task.updated"]);
}

#[tokio::test]
async fn an_edit_that_leaves_no_occurrence_writes_the_open_stretch() {
    let (f, _database) = Fixture::fresh().await;
    let task = hourly(&f, "spent", json!({})).await;
    set_back(&f, &task, 2).await;
    f.executor.plan_due(10).await.unwrap();
    let task = f.mcp.find_task(&me(), &TaskRef::Id(task.id)).await.unwrap();
    set_back(&f, &task, 0).await;
    f.mcp.pause_task(&me(), task.id, None, None).await.unwrap();
    let paused = f.mcp.find_task(&me(), &TaskRef::Id(task.id)).await.unwrap();
    let spent = edit(&f, &paused, "20m", json!({ "max_runs": 1 })).await;
    assert_eq!((spent.state, spent.open_stretch, spent.next_due_at), (TaskState::Ended, None, None));
    assert_eq!(covered(&f, task.id).await, (1, vec![(SkipReason::Misfire, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_and_planners_at_once_cover_every_occurrence_once() {
    let (f, _database) = Fixture::fresh().await;
    let mut tasks = Vec::new();
    for n in 0..10 {
        let task = hourly(&f, &format!("task {n}"), json!({ "misfire": "run_all", "overlap": "queue" })).await;
        set_back(&f, &task, 4).await;
        tasks.push(task);
    }
    let mut sides = JoinSet::new();
    for _ in 0..3 {
        let store = f.executor.clone();
        sides.spawn(async move {
            for _ in 0..10 {
                store.plan_due(2).await.unwrap();
            }
        });
    }
    for task in tasks.clone() {
        let fixture = f.clone();
        sides.spawn(async move { drop(edit(&fixture, &task, "2000h", json!({})).await) });
    }
    sides.join_all().await;
    for task in tasks {
        assert_eq!(covered(&f, task.id).await, (4, vec![]), "{}", task.spec.title);
    }
}
