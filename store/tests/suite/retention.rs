//! Partitions: there before they are needed, gone when they are old, never under a run in flight.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use ordinaut_schema::{
    id::{AgentId, OccurrenceKey, RunId},
    run::RunState,
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller,
    retention::Retention,
    tasks::{Inserted, TaskRecord},
    testing::{Database, Fixture, accepted},
};
use tokio::task::JoinSet;

const DAY: Duration = Duration::from_hours(24);

/// Nothing but age makes anything go.
fn by_age(days: u32) -> Retention {
    Retention { history: days * DAY, outbox: DAY, outbox_bytes: u64::MAX }
}

async fn partitions(fixture: &Fixture, parent: &str) -> Vec<String> {
    sqlx::query_scalar("select inhrelid::regclass::text from pg_inherits where inhparent = $1::regclass order by 1")
        .bind(parent)
        .fetch_all(&fixture.owner)
        .await
        .unwrap()
}

async fn task(fixture: &Fixture) -> TaskRecord {
    let now = fixture.executor.now().await.unwrap();
    let definition = accepted("Report", (ScheduleKind::Manual, ""), now);
    let (Inserted::Created(record) | Inserted::Existed(record)) =
        fixture.mcp.insert_task(&Caller::local("test"), &definition, None).await.unwrap();
    record
}

/// A finished run of that instant.
async fn history(fixture: &Fixture, task: &TaskRecord, at: Timestamp) -> RunId {
    let run = fixture.plant_run(task, &OccurrenceKey::at(at), at, RunState::Pending).await;
    sqlx::query(
        "with gone as (delete from due_work where run_id = $1 returning *)
         insert into run (id, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id,
             attempts, failures, crashes, planned_at, finished_at, steps)
         select run_id, agent_id, task_id, revision, 'succeeded', trigger, occurrence_key, occurrence_at, root_run_id,
             1, 0, 0, planned_at, now(), '[]'
         from gone",
    )
    .bind(run.uuid())
    .execute(&fixture.owner)
    .await
    .unwrap();
    run
}

async fn lies_in(fixture: &Fixture, run: RunId) -> Option<String> {
    sqlx::query_scalar("select tableoid::regclass::text from run where id = $1")
        .bind(run.uuid())
        .fetch_optional(&fixture.owner)
        .await
        .unwrap()
}

/// An untold event of so many hours ago.
async fn event(fixture: &Fixture, agent: AgentId, hours: i32, topic: &str, payload: &str) {
    sqlx::query(
        "insert into outbox (at, agent_id, topic, payload)
         values (date_trunc('hour', now()) - $1 * interval '1 hour' + interval '1 second', $2, $3, $4::jsonb)",
    )
    .bind(hours)
    .bind(agent.uuid())
    .bind(topic)
    .bind(payload)
    .execute(&fixture.owner)
    .await
    .unwrap();
}

/// The gaps that were told of: whose, how many events, from which day; the largest first.
async fn gaps(fixture: &Fixture) -> Vec<(sqlx::types::Uuid, i64, String)> {
    sqlx::query_as(
        "select agent_id, (payload ->> 'count')::bigint, (payload ->> 'from')::timestamptz::date::text
         from outbox where topic = 'events.gap' order by 2 desc",
    )
    .fetch_all(&fixture.owner)
    .await
    .unwrap()
}

/// A database in which nobody made partitions ahead: all that is there is the default ones.
async fn nothing_made() -> (Fixture, Database) {
    let (fixture, database) = Fixture::fresh().await;
    for parent in ["run", "outbox"] {
        for partition in partitions(&fixture, parent).await.into_iter().filter(|name| !name.ends_with("_default")) {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop table {partition}")))
                .execute(&fixture.owner)
                .await
                .unwrap();
        }
    }
    (fixture, database)
}

/// Makes the daily partition that begins so many days before today, as time would have.
async fn day_before(fixture: &Fixture, days: i32) {
    sqlx::query("select make_partition('run', date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - $1 * interval '1 day')")
        .bind(days)
        .execute(&fixture.owner)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_bounds_of_history_are_the_floors_of_run_ids() {
    let (fixture, _database) = Fixture::fresh().await;
    for at in ["1970-01-01T00:00:00Z", "2026-11-23T08:30:00.5Z", "2261-12-31T23:59:59.999Z"] {
        let at: Timestamp = at.parse().unwrap();
        let floor: sqlx::types::Uuid = sqlx::query_scalar("select run_id_floor($1)")
            .bind(jiff_sqlx::Timestamp::from(at))
            .fetch_one(&fixture.owner)
            .await
            .unwrap();
        assert_eq!(floor, RunId::floor(at).uuid());
    }
}

#[tokio::test]
async fn partitions_are_made_ahead_by_however_many_executors() {
    let (fixture, _database) = nothing_made().await;
    assert!(fixture.mcp.make_partitions().await.is_err(), "not for the MCP role");
    let mut executors = JoinSet::new();
    for _ in 0..4 {
        let store = fixture.executor.clone();
        executors.spawn(async move { store.make_partitions().await });
    }
    for made in executors.join_all().await {
        made.unwrap();
    }
    // With the default one: yesterday to a week ahead, the last hour to a day ahead.
    assert_eq!(partitions(&fixture, "run").await.len(), 10);
    assert!(partitions(&fixture, "outbox").await.len() >= 27);
    fixture.executor.make_partitions().await.unwrap();

    let task = task(&fixture).await;
    let now = fixture.executor.now().await.unwrap();
    let run = history(&fixture, &task, now).await;
    let lies = lies_in(&fixture, run).await.unwrap();
    assert_eq!(lies, format!("run_{}", now.strftime("%Y%m%d")));
    let found = fixture.mcp.find_run(&Caller::local("test"), run).await.unwrap();
    assert_eq!(found.state, RunState::Succeeded, "row-level security holds through the partition");
    let other = fixture.agent("other").await.unwrap();
    assert!(fixture.mcp.find_run(&other, run).await.is_err());
}

#[tokio::test]
async fn what_the_default_partition_took_moves_to_the_one_made_for_it() {
    let (fixture, _database) = nothing_made().await;
    let task = task(&fixture).await;
    let now = fixture.executor.now().await.unwrap();
    let run = history(&fixture, &task, now).await;
    let ancient = history(&fixture, &task, now - 4800.hours()).await;
    assert_eq!(lies_in(&fixture, run).await.as_deref(), Some("run_default"));
    fixture.executor.make_partitions().await.unwrap();
    assert_ne!(lies_in(&fixture, run).await.as_deref(), Some("run_default"));
    assert_eq!(lies_in(&fixture, ancient).await.as_deref(), Some("run_default"));
    assert_eq!(fixture.topics(Some(task.id)).await, ["task.created"], "the outbox moved along");

    fixture.executor.drop_old(by_age(30)).await.unwrap();
    assert_eq!(lies_in(&fixture, ancient).await, None);
    assert!(lies_in(&fixture, run).await.is_some());
}

#[tokio::test]
async fn old_history_goes_whole_except_under_a_run_in_flight() {
    let (fixture, _database) = nothing_made().await;
    let task = task(&fixture).await;
    let now = fixture.executor.now().await.unwrap();
    for days in [40, 41, 5] {
        day_before(&fixture, days).await;
    }
    let gone = history(&fixture, &task, now - 960.hours()).await;
    let kept = history(&fixture, &task, now - 984.hours()).await;
    let recent = history(&fixture, &task, now - 120.hours()).await;
    let waiting = fixture.plant_run(&task, &OccurrenceKey::manual("w"), now - 984.hours(), RunState::Waiting).await;

    let retention = by_age(30);
    fixture.executor.drop_old(retention).await.unwrap();
    assert_eq!(lies_in(&fixture, gone).await, None);
    assert!(lies_in(&fixture, kept).await.is_some(), "a run of that day is not over yet");
    assert!(lies_in(&fixture, recent).await.is_some());

    sqlx::query("delete from due_work where run_id = $1").bind(waiting.uuid()).execute(&fixture.owner).await.unwrap();
    fixture.executor.drop_old(retention).await.unwrap();
    assert_eq!(lies_in(&fixture, kept).await, None);
    assert_eq!(partitions(&fixture, "run").await.len(), 2, "the recent day and the default one");
}

#[tokio::test]
async fn events_that_are_dropped_untold_leave_one_gap_for_each_agent() {
    let (fixture, _database) = nothing_made().await;
    let other = fixture.agent("other").await.unwrap();
    sqlx::query("select make_partition('outbox', date_trunc('hour', now()) - interval '30 hours')")
        .execute(&fixture.owner)
        .await
        .unwrap();
    event(&fixture, Caller::LOCAL_AGENT, 29, "task.created", "{}").await;
    let lost = r#"{"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "count": 5}"#;
    event(&fixture, Caller::LOCAL_AGENT, 29, "events.gap", lost).await;
    event(&fixture, other.agent, 29, "task.created", "{}").await;
    fixture.executor.drop_old(by_age(30)).await.unwrap();
    assert_eq!(partitions(&fixture, "outbox").await, ["outbox_default"]);
    let gaps = gaps(&fixture).await;
    assert_eq!(gaps.len(), 2);
    assert_eq!((gaps[0].0, gaps[0].1, gaps[0].2.as_str()), (Caller::LOCAL_AGENT.uuid(), 6, "2026-01-01"));
    assert_eq!((gaps[1].0, gaps[1].1), (other.agent.uuid(), 1));
}

#[tokio::test]
async fn events_that_the_default_partition_took_do_not_go_without_a_gap() {
    let (fixture, _database) = nothing_made().await;
    for hours in [27, 28, 29] {
        event(&fixture, Caller::LOCAL_AGENT, hours, "task.created", "{}").await;
    }
    event(&fixture, Caller::LOCAL_AGENT, 0, "task.paused", "{}").await;
    fixture.executor.drop_old(by_age(30)).await.unwrap();
    assert_eq!(fixture.topics(None).await, ["task.paused", "events.gap"]);
    let gaps = gaps(&fixture).await;
    assert_eq!((gaps.len(), gaps[0].0, gaps[0].1), (1, Caller::LOCAL_AGENT.uuid(), 3));
}

#[tokio::test]
async fn an_outbox_that_is_too_large_loses_its_oldest_hours_early_and_never_the_one_being_written() {
    let (fixture, _database) = nothing_made().await;
    for hours in [-1, 0, 2, 3] {
        sqlx::query("select make_partition('outbox', date_trunc('hour', now()) - $1 * interval '1 hour')")
            .bind(hours)
            .execute(&fixture.owner)
            .await
            .unwrap();
    }
    let hour = async |ago: i32| -> String {
        sqlx::query_scalar("select partition_name('outbox', date_trunc('hour', now()) - $1 * interval '1 hour')")
            .bind(ago)
            .fetch_one(&fixture.owner)
            .await
            .unwrap()
    };
    let (oldest, older) = (hour(3).await, hour(2).await);
    event(&fixture, Caller::LOCAL_AGENT, 3, "task.created", "{}").await;
    // That one was told.
    sqlx::query("update relay_position set xid = outbox.xid, id = outbox.id from outbox")
        .execute(&fixture.owner)
        .await
        .unwrap();
    event(&fixture, Caller::LOCAL_AGENT, 3, "task.created", "{}").await;
    event(&fixture, Caller::LOCAL_AGENT, 2, "task.created", "{}").await;
    let bytes: i64 =
        sqlx::query_scalar("select sum(pg_total_relation_size(name::regclass))::bigint from outbox_hours()")
            .fetch_one(&fixture.owner)
            .await
            .unwrap();
    let room = |bytes: i64| Retention { outbox_bytes: u64::try_from(bytes).unwrap(), ..by_age(30) };

    fixture.executor.drop_old(room(bytes)).await.unwrap();
    assert!(gaps(&fixture).await.is_empty(), "there is room for all");
    fixture.executor.drop_old(room(bytes - 1)).await.unwrap();
    let left = partitions(&fixture, "outbox").await;
    assert!(!left.contains(&oldest) && left.contains(&older), "{left:?}");
    assert_eq!(gaps(&fixture).await.iter().map(|gap| gap.1).collect::<Vec<_>>(), [1], "what was told is not lost");

    fixture.executor.drop_old(room(0)).await.unwrap();
    let left = partitions(&fixture, "outbox").await;
    assert!(!left.contains(&older) && left.contains(&hour(0).await), "{left:?}");
    for call in ["shrink_outbox(0)", "tell_gap('select 1')", "drop_outbox_hour('task')"] {
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("set role ordinaut_mcp; select {call}")));
        let mut connection = fixture.owner.acquire().await.unwrap().detach();
        assert!(refused.execute(&mut connection).await.is_err(), "{call}");
    }
}

#[tokio::test]
async fn expired_guards_and_old_read_messages_are_forgotten() {
    let (fixture, _database) = Fixture::fresh().await;
    sqlx::query(
        "insert into received (agent_id, key, expires_at)
         select $1, n::text, now() + (n - 2500) * interval '1 hour' from generate_series(1, 2600) n",
    )
    .bind(Caller::LOCAL_AGENT.uuid())
    .execute(&fixture.owner)
    .await
    .unwrap();
    sqlx::query(
        "insert into inbox (id, agent_id, key, level, body, acked_at)
         select gen_random_uuid(), $1, n::text, 'info', 'x', case when n > 1 then now() - n * interval '20 days' end
         from generate_series(1, 3) n",
    )
    .bind(Caller::LOCAL_AGENT.uuid())
    .execute(&fixture.owner)
    .await
    .unwrap();
    fixture.executor.drop_old(by_age(50)).await.unwrap();
    let guards: i64 = sqlx::query_scalar("select count(*) from received").fetch_one(&fixture.owner).await.unwrap();
    assert_eq!(guards, 100);
    let messages: i64 = sqlx::query_scalar("select count(*) from inbox").fetch_one(&fixture.owner).await.unwrap();
    assert_eq!(messages, 2, "unread ones stay, whatever their age");
}

#[tokio::test]
async fn nobody_makes_a_partition_that_is_none() {
    let (fixture, _database) = Fixture::fresh().await;
    for call in ["make_partition('agent', '2026-11-23T00:00:00Z')", "make_partition('run', '2026-11-23T01:00:00Z')"] {
        let refused = sqlx::query(sqlx::AssertSqlSafe(format!("select {call}"))).execute(&fixture.owner).await;
        assert!(refused.is_err(), "{call}");
    }
}
