//! What a round does when nothing has come but the poll.

use jiff::{SignedDuration, Timestamp};
use ordinaut_schema::{id::OccurrenceKey, run::RunState, schedule::ScheduleKind};
use ordinaut_store::{
    Caller,
    tasks::{Inserted, TaskRecord},
    testing::{Database, Fixture, accepted},
};

use super::*;

struct Scene {
    f: Fixture,
    database: Database,
    task: TaskRecord,
    /// Stands still long ago.
    clock: DatabaseClock,
    wake: Notify,
}

impl Scene {
    /// A task that is due in an hour.
    async fn new() -> Self {
        let (f, database) = Fixture::fresh().await;
        let now = f.executor.now().await.unwrap();
        let definition = accepted("hourly", (ScheduleKind::Interval, "1h"), now);
        let task = match f.executor.insert_task(&Caller::local("test"), &definition, None).await.unwrap() {
            Inserted::Created(task) | Inserted::Existed(task) => task,
        };
        Self { f, database, task, clock: DatabaseClock::new(Timestamp::UNIX_EPOCH), wake: Notify::new() }
    }

    async fn polled(&self) -> Result<Wait, StoreError> {
        round(&self.f.executor, &self.clock, &Revisions::default(), &self.wake, true).await
    }
}

#[tokio::test]
async fn a_poll_that_finds_nothing_due_reads_and_does_not_plan() {
    let scene = Scene::new().await;
    let before = scene.f.executor.now().await.unwrap();
    // Whoever plans would wait for this.
    let _held = scene.f.hold_planning().await;
    assert!(scene.polled().await.unwrap().is_poll);
    assert!(scene.clock.now() >= before, "it brings the time with it");
}

#[tokio::test]
async fn a_poll_that_finds_a_task_due_plans_it() {
    let scene = Scene::new().await;
    let due =
        "update task set next_occurrence_at = next_occurrence_at - interval '1h', next_due_at = clock_timestamp()";
    scene.database.run_sql(due).await.unwrap();
    scene.polled().await.unwrap();
    assert_eq!(scene.database.live_runs().await, 1);
}

#[tokio::test]
async fn a_poll_that_finds_the_end_of_a_wait_makes_its_run_pending() {
    let scene = Scene::new().await;
    let at = scene.f.executor.now().await.unwrap() - SignedDuration::from_mins(1);
    let run = scene.f.plant_run(&scene.task, &OccurrenceKey::at(at), at, RunState::Waiting).await;
    scene.database.run_sql("update due_work set wake_at = clock_timestamp()").await.unwrap();
    scene.polled().await.unwrap();
    let run = scene.f.executor.find_run(&Caller::local("test"), run).await.unwrap();
    assert_eq!(run.state, RunState::Pending);
}
