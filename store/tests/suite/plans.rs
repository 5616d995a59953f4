//! What the hot statements read: a few pages a row, however long the queue and whatever was in it when they were planned.
//!
//! Each is asked as the executor's pools ask it, twice: planned while the tables were empty, which is when a daemon
//! that has just been installed plans, and planned when they are full. The plan is kept; it must not be a scan.

use ordinaut_schema::schedule::ScheduleKind;
use ordinaut_store::{
    Caller,
    testing::{Fixture, accepted},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};

/// Name, statement, types of its parameters, arguments.
type Asked = (&'static str, &'static str, &'static str, &'static str);

/// Pages of a hundred rows: to write one into a table with several indexes touches some twenty. A scan for each would be
/// 90,000.
const MOST: i64 = 5_000;

/// `execute` takes no subquery.
const ARGUMENTS: &str = "
    create function runs() returns uuid[] language sql as
    $$ select array(select run_id from due_work order by rank, run_id limit 100) $$;
    create function tokens() returns uuid[] language sql as
    $$ select array(select lease_token from due_work order by rank, run_id limit 100) $$;
    create function tasks() returns uuid[] language sql as $$ select array(select id from task limit 100) $$
";

const STATEMENTS: [Asked; 8] = [
    (
        "claim",
        include_str!("../../queries/claim_runs.sql"),
        "uuid, bigint, double precision, bigint, integer, bigint, bigint",
        "gen_random_uuid(), 100, 15, 0, 2, 1, 0",
    ),
    (
        "renew",
        include_str!("../../queries/renew_leases.sql"),
        "uuid[], uuid[], double precision",
        "runs(), tokens(), 15",
    ),
    (
        "end",
        include_str!("../../queries/end_runs.sql"),
        "uuid[], text[], jsonb[], jsonb[], jsonb[]",
        "runs(), array_fill('succeeded'::text, array[100]), array_fill(null::jsonb, array[100]), \
         array_fill('1'::jsonb, array[100]), array_fill('[1]'::jsonb, array[100])",
    ),
    (
        "end plainly",
        include_str!("../../queries/end_plainly.sql"),
        "uuid[], uuid[], jsonb[], jsonb[], text",
        "runs(), tokens(), array_fill('1'::jsonb, array[100]), array_fill('[1]'::jsonb, array[100]), 'run.succeeded'",
    ),
    ("plan", include_str!("../../queries/lock_due_tasks.sql"), "bigint", "100"),
    ("look ahead", include_str!("../../queries/look_ahead.sql"), "bigint", "100"),
    (
        "relay",
        include_str!("../../queries/read_outbox.sql"),
        "smallint, text, bigint, bigint",
        "0::smallint, '0', 0, 100",
    ),
    ("admission", include_str!("../../queries/blocked_runs.sql"), "uuid[], uuid[], text[]", "tasks(), '{}', '{}'"),
];

/// What the pools set for all of an executor's connections, and for those of claims and conclusions beyond that.
const SETTINGS: [&str; 2] = [
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off; set role ordinaut_executor",
    "set enable_bitmapscan = off; set enable_sort = off",
];

/// A connection with the first of these settings, as many as there are. Not the owner's pool's any more: nobody else meets what is
/// prepared and set on it.
async fn connection(f: &Fixture, settings: usize) -> PgConnection {
    let mut connection = f.owner.acquire().await.unwrap().detach();
    for setting in &SETTINGS[..settings] {
        connection.execute(*setting).await.unwrap();
    }
    for (name, statement, types, _) in STATEMENTS {
        // As sqlx sends it, without the names of its own columns.
        let statement = statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
        connection.execute(AssertSqlSafe(format!("prepare \"{name}\" ({types}) as {statement}"))).await.unwrap();
    }
    connection
}

/// How many pages a statement reads of tables and indexes; what it changes is taken back.
async fn pages_read(connection: &mut PgConnection, (name, _, _, arguments): Asked) -> i64 {
    let mut tx = connection.begin().await.unwrap();
    let explained: Value = sqlx::query_scalar(AssertSqlSafe(format!(
        "explain (analyze, buffers, format json) execute \"{name}\" ({arguments})"
    )))
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    tx.rollback().await.unwrap();
    let plan = &explained[0]["Plan"];
    plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap()
}

async fn fill(owner: &PgPool) {
    sqlx::raw_sql(
        "
        insert into agent (id, name, grants) select gen_random_uuid(), 'agent ' || n, '{}' from generate_series(1, 20) as n;
        insert into task (
            id, agent_id, title, title_key, state, revision, schedule_kind, next_occurrence_at, next_due_at, zone_source
        )
        select gen_random_uuid(), (array(select id from agent where name like 'agent %'))[1 + n % 20], title || n, title_key || n, state, revision, 'interval',
            now() - n * interval '1 ms', now() - n * interval '1 ms', zone_source
        from task
        cross join generate_series(1, 20000) as n;
        insert into task_revision (task_id, revision, agent_id, definition, created_by)
        select task.id, 1, task.agent_id, kept.definition, 'test'
        from task
        cross join (select definition from task_revision limit 1) as kept
        where task.schedule_kind = 'interval';
        insert into due_work (
            run_id, agent_id, task_id, revision, state, rank, priority, trigger, occurrence_key, occurrence_at, root_run_id
        )
        select id, agent_id, task_id, 1, 'pending', n, 5, 'schedule', 't:' || n, now(), id
        from (select gen_random_uuid() as id, agent_id, id as task_id, row_number() over () as n from task) as each;
        insert into step_journal (run_id, agent_id, step, uses, state)
        select gen_random_uuid(), agent_id, 'a', 'http.get', 'started' from task;
        insert into outbox (agent_id, task_id, topic, payload) select agent_id, id, 'test', '{}' from task
        ",
    )
    .execute(owner)
    .await
    .unwrap();
}

/// Connections on which each statement has its plan, made for what is there now.
async fn planned(f: &Fixture) -> [PgConnection; 2] {
    let mut planned = [connection(f, 1).await, connection(f, 2).await];
    for connection in &mut planned {
        for statement in STATEMENTS {
            pages_read(connection, statement).await;
        }
    }
    planned
}

/// A task, and what statements are asked with.
async fn begin(f: &Fixture) {
    let local = Caller::local("test");
    let now = f.mcp.now().await.unwrap();
    f.mcp.insert_task(&local, &accepted("one", (ScheduleKind::Manual, ""), now), None).await.unwrap();
    sqlx::raw_sql(ARGUMENTS).execute(&f.owner).await.unwrap();
}

/// Not the gates: nothing is written there, so nothing ever counts them.
async fn count(owner: &PgPool) {
    sqlx::raw_sql("vacuum analyze task, task_revision, due_work, step_journal, outbox").execute(owner).await.unwrap();
}

#[tokio::test]
async fn no_hot_statement_reads_the_whole_queue() {
    let (f, _database) = Fixture::fresh().await;
    begin(&f).await;
    let early = planned(&f).await;
    fill(&f.owner).await;
    // Planned when all was empty, and not planned anew: no statistics have come since.
    all_read_few(early, "planned early").await;
    count(&f.owner).await;
    all_read_few([connection(&f, 1).await, connection(&f, 2).await], "planned late").await;
}

#[tokio::test]
async fn no_hot_statement_reads_the_whole_queue_because_it_was_drained_when_that_was_planned() {
    let (f, _database) = Fixture::fresh().await;
    begin(&f).await;
    fill(&f.owner).await;
    sqlx::raw_sql("create table kept as select * from due_work; delete from due_work").execute(&f.owner).await.unwrap();
    // As autovacuum finds it. Whoever asks then has a run in hand.
    count(&f.owner).await;
    sqlx::raw_sql("insert into due_work select * from kept limit 1").execute(&f.owner).await.unwrap();
    let drained = planned(&f).await;
    sqlx::raw_sql("insert into due_work select * from kept on conflict do nothing").execute(&f.owner).await.unwrap();
    all_read_few(drained, "planned when it was drained").await;
}

async fn all_read_few(connections: [PgConnection; 2], planned: &str) {
    for mut connection in connections {
        for statement in STATEMENTS {
            let read = pages_read(&mut connection, statement).await;
            assert!(read < MOST, "{}, {planned}: {read} pages", statement.0);
        }
    }
}
