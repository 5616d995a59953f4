//! Policies that are about runs which exist, or come from elsewhere than the schedule.

use std::{num::NonZeroU16, time::Duration};

use jiff::ToSpan as _;
use ordinaut_schema::{
    id::{OccurrenceKey, RunId, TaskId},
    run::RunState,
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller,
    runs::RetryFrom,
    tasks::{Inserted, Snooze, TaskRecord, TaskRef},
    testing::{Fixture, accepted_with},
};
use serde_json::{Value, json};
use uuid::Uuid;

const MANUAL: (ScheduleKind, &str) = (ScheduleKind::Manual, "");
const HOURLY: (ScheduleKind, &str) = (ScheduleKind::Interval, "1h");

fn me() -> Caller {
    Caller::local("test")
}

async fn keep(f: &Fixture, who: &Caller, title: &str, schedule: (ScheduleKind, &str), fields: Value) -> TaskRecord {
    let definition = accepted_with(title, schedule, f.mcp.now().await.unwrap(), fields);
    let (Inserted::Created(task) | Inserted::Existed(task)) = f.mcp.insert_task(who, &definition, None).await.unwrap();
    task
}

async fn state(f: &Fixture, who: &Caller, run: RunId) -> RunState {
    f.mcp.find_run(who, run).await.unwrap().state
}

async fn ask(f: &Fixture, who: &Caller, task: TaskId, request: &str) -> RunId {
    f.mcp.run_now(who, task, request, None).await.unwrap().run
}

#[tokio::test]
async fn runs_that_are_asked_for_and_retries_do_not_count_for_max_runs() {
    let (f, _database) = Fixture::fresh().await;
    let task = keep(&f, &me(), "twice", HOURLY, json!({ "max_runs": 2, "overlap": "allow" })).await;
    let run = ask(&f, &me(), task.id, "1").await;
    f.mcp.cancel_run(&me(), run, None).await.unwrap();
    f.mcp.retry_run(&me(), run, RetryFrom::Start).await.unwrap();
    let after = f.mcp.find_task(&me(), &TaskRef::Id(task.id)).await.unwrap();
    assert_eq!((after.runs_planned, after.next_occurrence_at), (0, task.next_occurrence_at));
}

#[tokio::test]
async fn neither_a_pause_nor_a_snooze_touches_runs_that_exist() {
    let (f, _database) = Fixture::fresh().await;
    let now = f.mcp.now().await.unwrap();
    let task = keep(&f, &me(), "going", HOURLY, json!({})).await;
    let key = OccurrenceKey::at(now);
    let run = f.plant_run(&task, &key, now, RunState::Pending).await;
    f.mcp.snooze_task(&me(), task.id, Snooze::Until(now + 5.hours())).await.unwrap();
    f.mcp.pause_task(&me(), task.id, None, None).await.unwrap();
    assert_eq!(state(&f, &me(), run).await, RunState::Pending);
    let limit = NonZeroU16::new(5).expect("not zero");
    let claimed = f.executor.claim_runs(Uuid::now_v7(), limit, Duration::from_mins(1), i64::MIN).await.unwrap();
    assert_eq!(claimed.iter().map(|run| run.id).collect::<Vec<_>>(), [run]);
}

#[tokio::test]
async fn a_waiting_run_counts_as_running_unless_the_task_ignores_it() {
    let (f, _database) = Fixture::fresh().await;
    let now = f.mcp.now().await.unwrap();
    for (title, ignores, next) in [("holds", false, RunState::Blocked), ("ignores", true, RunState::Pending)] {
        let fields = json!({ "overlap": "queue", "overlap_ignores_waiting": ignores });
        let task = keep(&f, &me(), title, MANUAL, fields).await;
        let waiting = f.plant_run(&task, &OccurrenceKey::manual("0"), now, RunState::Waiting).await;
        sqlx::query("update due_work set ignores_waiting = $2, serial = true where run_id = $1")
            .bind(waiting.uuid())
            .bind(ignores)
            .execute(&f.owner)
            .await
            .unwrap();
        let run = ask(&f, &me(), task.id, title).await;
        f.executor.admit_blocked(10).await.unwrap();
        assert_eq!(state(&f, &me(), run).await, next, "{title}");
    }
}

#[tokio::test]
async fn a_concurrency_key_belongs_to_one_agent() {
    let (f, _database) = Fixture::fresh().await;
    let other = f.agent("other").await.unwrap();
    let keyed = json!({ "overlap": "allow", "concurrency_key": "printer", "concurrency_limit": 1 });
    let mine = keep(&f, &me(), "mine", MANUAL, keyed.clone()).await;
    let theirs = keep(&f, &other, "theirs", MANUAL, keyed).await;
    let (first, second) = (ask(&f, &me(), mine.id, "1").await, ask(&f, &me(), mine.id, "2").await);
    let third = ask(&f, &other, theirs.id, "1").await;
    assert_eq!(state(&f, &me(), first).await, RunState::Pending);
    assert_eq!(state(&f, &me(), second).await, RunState::Blocked);
    assert_eq!(state(&f, &other, third).await, RunState::Pending);
}
