//! Runs as they are read: in flight and over, in one shape and one order.

use jiff::{Timestamp, ToSpan as _};
use ordinaut_schema::{
    id::{OccurrenceKey, RunId},
    run::{RunState, StepState, Trigger},
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller, StoreError,
    runs::RunFilter,
    tasks::{Inserted, TaskRecord},
    testing::{Fixture, accepted},
};
use serde_json::json;

fn me() -> Caller {
    Caller::local("test")
}

async fn task(fixture: &Fixture, title: &str) -> TaskRecord {
    let now = fixture.executor.now().await.unwrap();
    let (Inserted::Created(record) | Inserted::Existed(record)) =
        fixture.mcp.insert_task(&me(), &accepted(title, (ScheduleKind::Manual, ""), now), None).await.unwrap();
    record
}

/// Moves a planted run to history, as a conclusion does.
async fn conclude(fixture: &Fixture, run: RunId) {
    let mut tx = fixture.owner.begin().await.unwrap();
    sqlx::query(
        "insert into run (id, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id,
             attempts, failures, crashes, planned_at, started_at, finished_at, output, steps)
         select run_id, agent_id, task_id, revision, 'succeeded', trigger, occurrence_key, occurrence_at, root_run_id,
             1, 0, 0, planned_at, now(), now(), '{\"n\": 1}',
             '[{\"step\": \"fetch\", \"uses\": \"http.get\", \"state\": \"succeeded\", \"calls\": 1}]'
         from due_work where run_id = $1",
    )
    .bind(run.uuid())
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query("delete from due_work where run_id = $1").bind(run.uuid()).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_run_reads_alike_in_flight_and_over() {
    let (fixture, _database) = Fixture::fresh().await;
    let task = task(&fixture, "Report").await;
    let at: Timestamp = "2026-11-23T08:30:00Z".parse().unwrap();
    let key = OccurrenceKey::at(at);
    let run = fixture.plant_run(&task, &key, at, RunState::Running).await;
    sqlx::query(
        "insert into step_journal (run_id, step, item, agent_id, uses, state, calls, input, output, error, started_at)
         values ($1, 'each', 0, $2, 'http.get', 'succeeded', 2, '{\"url\": null}', '[null]', null, now()),
                ($1, 'each', 1, $2, 'http.get', 'started', 1, null, null, null, now())",
    )
    .bind(run.uuid())
    .bind(me().agent.uuid())
    .execute(&fixture.owner)
    .await
    .unwrap();

    for store in [&fixture.mcp, &fixture.executor] {
        let flying = store.find_run(&me(), run).await.unwrap();
        assert_eq!((flying.state, flying.trigger), (RunState::Running, Trigger::Schedule));
        assert_eq!((flying.task, flying.task_title.as_str()), (task.id, "Report"));
        assert_eq!((flying.occurrence_key.as_str(), flying.occurrence_at), (key.as_str(), at));
        assert_eq!(flying.finished_at, None);
        let [first, second] = &flying.steps[..] else { panic!("two items: {:?}", flying.steps) };
        assert_eq!((first.index, first.state, first.calls), (Some(0), StepState::Succeeded, 2));
        assert_eq!((&first.input, &first.output), (&json!({ "url": null }), &json!([null])));
        assert_eq!((second.index, second.state), (Some(1), StepState::Started));
        assert!(second.started_at.is_some());
    }
    conclude(&fixture, run).await;
    let over = fixture.mcp.find_run(&me(), run).await.unwrap();
    assert_eq!(over.state, RunState::Succeeded);
    assert_eq!(over.output, json!({ "n": 1 }));
    assert_eq!(over.steps.len(), 1);
    assert!(over.finished_at.is_some());
    let missing = fixture.mcp.find_run(&me(), RunId::floor(at)).await;
    assert!(matches!(missing, Err(StoreError::RunNotFound(_))));
}

#[tokio::test]
async fn pages_of_runs_neither_repeat_nor_lose_one_that_ends_between() {
    let (fixture, _database) = Fixture::fresh().await;
    let task = task(&fixture, "Report").await;
    let start: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
    let mut runs = Vec::new();
    for n in 0..7 {
        let at = start + n.minutes();
        let run = fixture.plant_run(&task, &OccurrenceKey::at(at), at, RunState::Pending).await;
        if n % 2 == 0 {
            conclude(&fixture, run).await;
        }
        runs.push(run);
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = fixture.mcp.list_runs(&me(), &RunFilter::default(), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|run| run.id));
        // One that is on a later page ends meanwhile, and one that was shown.
        for n in [1, 5] {
            if fixture.mcp.find_run(&me(), runs[n]).await.unwrap().state == RunState::Pending {
                conclude(&fixture, runs[n]).await;
            }
        }
    }
    runs.reverse();
    assert_eq!(seen, runs, "newest first, each once");
}

#[tokio::test]
async fn runs_are_filtered_by_task_state_and_time() {
    let (fixture, _database) = Fixture::fresh().await;
    let (one, two) = (task(&fixture, "One").await, task(&fixture, "Two").await);
    let start: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
    let early = fixture.plant_run(&one, &OccurrenceKey::at(start), start, RunState::Pending).await;
    let later = start + 1.hour();
    let late = fixture.plant_run(&one, &OccurrenceKey::at(later), later, RunState::Waiting).await;
    let other = fixture.plant_run(&two, &OccurrenceKey::at(start), start, RunState::Pending).await;
    conclude(&fixture, early).await;

    let list = async |filter: RunFilter| {
        let runs = fixture.mcp.list_runs(&me(), &filter, None, 10).await.unwrap();
        runs.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(list(RunFilter { task: Some(one.id), ..RunFilter::default() }).await, [late, early]);
    assert_eq!(list(RunFilter { states: vec![RunState::Succeeded], ..RunFilter::default() }).await, [early]);
    assert_eq!(list(RunFilter { since: Some(later), ..RunFilter::default() }).await, [late]);
    let until = RunFilter { task: Some(two.id), until: Some(later), ..RunFilter::default() };
    assert_eq!(list(until).await, [other]);
    assert_eq!(list(RunFilter { until: Some(start), ..RunFilter::default() }).await, []);
}
