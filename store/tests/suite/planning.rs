//! Planning on real PostgreSQL: any number of planners, every occurrence once.

use std::{collections::BTreeSet, num::NonZeroU16, time::Duration};

use jiff::Timestamp;
use ordinaut_schema::{
    id::{RunId, TaskId},
    run::{RunState, SkipReason},
    schedule::ScheduleKind,
    task::TaskState,
};
use ordinaut_store::{
    Caller,
    runs::RunFilter,
    tasks::{Inserted, TaskRecord, TaskRef},
    testing::{Fixture, accepted, accepted_with},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

fn me() -> Caller {
    Caller::local("test")
}

async fn keep(f: &Fixture, title: &str, expr: &str, anchor: Timestamp, fields: Value) -> TaskRecord {
    let definition = accepted_with(title, (ScheduleKind::Interval, expr), anchor, fields);
    match f.mcp.insert_task(&me(), &definition, None).await.unwrap() {
        Inserted::Created(task) | Inserted::Existed(task) => task,
    }
}

/// Sets a task's cursor to `at`, as if it had been kept earlier.
async fn set_cursor(f: &Fixture, task: TaskId, at: Timestamp) {
    sqlx::query("update task set next_occurrence_at = $2, next_due_at = $2 where id = $1")
        .bind(task.uuid())
        .bind(jiff_sqlx::ToSqlx::to_sqlx(at))
        .execute(&f.owner)
        .await
        .unwrap();
}

async fn find(f: &Fixture, task: TaskId) -> TaskRecord {
    f.mcp.find_task(&me(), &TaskRef::Id(task)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_planners_plan_each_occurrence_once() {
    let (f, _database) = Fixture::fresh().await;
    let due = f.mcp.now().await.unwrap() - Duration::from_secs(1);
    for n in 0..100 {
        let task = keep(&f, &format!("task {n}"), "1h", due - Duration::from_hours(1), json!({})).await;
        set_cursor(&f, task.id, due).await;
    }
    let mut planners = JoinSet::new();
    for _ in 0..6 {
        let store = f.executor.clone();
        planners.spawn(async move {
            let mut planned = 0;
            loop {
                planned += store.plan_due(7).await.unwrap().runs;
                // Rows that another planner holds are skipped: only when nothing is due any more is it over.
                let ahead = store.look_ahead(7).await.unwrap();
                if ahead.next_due_at.is_none_or(|next| next > ahead.now) {
                    return planned;
                }
            }
        });
    }
    let planned: u32 = planners.join_all().await.into_iter().sum();
    assert_eq!(planned, 100);

    let limit = NonZeroU16::new(500).expect("not zero");
    let claimed = f.executor.claim_runs(Uuid::now_v7(), limit, Duration::from_mins(1), i64::MIN).await.unwrap();
    assert_eq!(claimed.len(), 100);
    assert_eq!(claimed.iter().map(|run| run.task).collect::<BTreeSet<_>>().len(), 100);
    assert!(claimed.iter().all(|run| run.occurrence_at == due));
}

#[tokio::test]
async fn a_run_has_the_id_that_its_occurrence_gives_it() {
    let (f, _database) = Fixture::fresh().await;
    let due = f.mcp.now().await.unwrap() - Duration::from_secs(1);
    let task = keep(&f, "derived", "1h", due - Duration::from_hours(1), json!({})).await;
    set_cursor(&f, task.id, due).await;
    f.executor.plan_due(10).await.unwrap();
    let key = ordinaut_schema::id::OccurrenceKey::at(due);
    let id = RunId::derive(task.id, &key, due, ordinaut_schema::id::Shard::default());
    assert_eq!(f.mcp.find_run(&me(), id).await.unwrap().state, RunState::Pending);
}

#[tokio::test]
async fn a_backlog_leaves_one_run_and_a_stretch_that_says_why() {
    let (f, _database) = Fixture::fresh().await;
    let now = f.mcp.now().await.unwrap();
    let anchor = now - Duration::from_secs(3600 * 10 + 5);
    let task = keep(&f, "backlog", "1h", anchor, json!({})).await;
    set_cursor(&f, task.id, anchor + Duration::from_hours(1)).await;
    let planned = f.executor.plan_due(10).await.unwrap();
    assert_eq!((planned.runs, planned.skipped), (1, 1));
    let runs =
        f.mcp.list_runs(&me(), &RunFilter { task: Some(task.id), ..RunFilter::default() }, None, 10).await.unwrap();
    assert_eq!(runs[0].state, RunState::Pending);
    assert_eq!((runs[1].state, runs[1].skip_reason), (RunState::Skipped, Some(SkipReason::Misfire)));
    assert_eq!(runs[1].stretch.map(|(_, count)| count), Some(9));
    assert!(find(&f, task.id).await.next_occurrence_at > Some(now));
}

#[tokio::test]
async fn an_overlapping_occurrence_joins_the_open_stretch_of_its_task() {
    let (f, _database) = Fixture::fresh().await;
    let due = f.mcp.now().await.unwrap() - Duration::from_secs(1);
    let task = keep(&f, "overlapping", "1h", due - Duration::from_hours(2), json!({})).await;
    set_cursor(&f, task.id, due - Duration::from_hours(1)).await;
    sqlx::query("update task set next_due_at = now() where id = $1")
        .bind(task.id.uuid())
        .execute(&f.owner)
        .await
        .unwrap();
    f.executor.plan_due(10).await.unwrap();
    set_cursor(&f, task.id, due).await;
    f.executor.plan_due(10).await.unwrap();
    let task = find(&f, task.id).await;
    assert_eq!(task.open_stretch.map(|open| (open.reason, open.count)), Some((SkipReason::Overlap, 1)));
}

#[tokio::test]
async fn a_once_task_ends_when_its_run_is_planned() {
    let (f, _database) = Fixture::fresh().await;
    let now = f.mcp.now().await.unwrap();
    let definition = accepted("once", (ScheduleKind::Once, "+1s"), now - Duration::from_secs(2));
    let task = match f.mcp.insert_task(&me(), &definition, None).await.unwrap() {
        Inserted::Created(task) | Inserted::Existed(task) => task,
    };
    assert_eq!(f.executor.plan_due(10).await.unwrap().runs, 1);
    let task = find(&f, task.id).await;
    assert_eq!((task.state, task.next_due_at), (TaskState::Ended, None));
    assert_eq!(f.topics(Some(task.id)).await, ["task.created", "task.ended"]);
}

#[tokio::test]
async fn a_resumed_task_settles_what_passed_as_paused() {
    let (f, _database) = Fixture::fresh().await;
    let now = f.mcp.now().await.unwrap();
    let anchor = now - Duration::from_secs(3600 * 3 + 5);
    let task = keep(&f, "resumed", "1h", anchor, json!({})).await;
    f.mcp.pause_task(&me(), task.id, None, None).await.unwrap();
    set_cursor(&f, task.id, anchor + Duration::from_hours(1)).await;
    f.mcp.resume_task(&me(), task.id).await.unwrap();
    assert_eq!(f.executor.plan_due(10).await.unwrap().runs, 0, "resuming never catches up");
    let task = find(&f, task.id).await;
    let covered = task.open_stretch.map(|open| (open.reason, open.count));
    assert_eq!(covered, Some((SkipReason::Paused, 3)));
    assert!(task.next_occurrence_at > Some(now));
}

#[tokio::test]
async fn a_definition_that_cannot_be_read_pauses_its_task_and_no_other() {
    let (f, _database) = Fixture::fresh().await;
    let due = f.mcp.now().await.unwrap() - Duration::from_secs(1);
    let bad = keep(&f, "bad", "1h", due - Duration::from_hours(1), json!({})).await;
    let good = keep(&f, "good", "1h", due - Duration::from_hours(1), json!({})).await;
    for task in [&bad, &good] {
        set_cursor(&f, task.id, due).await;
    }
    sqlx::query(
        "update task_revision set definition = definition || '{\"schedule_expr\": \"sometimes\"}' where task_id = $1",
    )
    .bind(bad.id.uuid())
    .execute(&f.owner)
    .await
    .unwrap();
    assert_eq!(f.executor.plan_due(10).await.unwrap().runs, 1);
    let state: String = sqlx::query_scalar("select state from task where id = $1")
        .bind(bad.id.uuid())
        .fetch_one(&f.owner)
        .await
        .unwrap();
    assert_eq!(state, "paused");
}
