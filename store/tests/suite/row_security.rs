//! Row-level security alone: what the MCP role reads with no filter of the application's own.
//!
//! Every table that the role may read is asked for all it has, so that a new one is either another agent's business
//! and hidden, or written down here as everybody's.

use std::{num::NonZeroU16, time::Duration};

use ordinaut_schema::{
    action::parking::{ApprovalRequest, OnTimeout},
    id::OccurrenceKey,
    run::RunState,
    schedule::ScheduleKind,
};
use ordinaut_store::{
    Caller,
    approvals::NewApproval,
    testing::{Fixture, accepted_with},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

/// What every agent may know: who serves, what steps may use, whether all is paused, and the names of secrets.
const EVERYBODYS: [&str; 6] = ["action_catalog", "executor", "gate", "mcp_server", "offered", "secret"];

/// Fills each of the tables of one agent's rows that its calls, its runs and its questions fill.
async fn fill(f: &Fixture, who: &Caller) {
    let now = f.mcp.now().await.unwrap();
    let keyed = json!({ "concurrency_key": "printer", "concurrency_limit": 1, "overlap": "allow" });
    let definition = accepted_with("Secret", (ScheduleKind::Manual, ""), now, keyed);
    f.mcp.insert_task(who, &definition, Some("req")).await.unwrap();
    let task = f.mcp.find_task(who, &"Secret".into()).await.unwrap();
    f.mcp.run_now(who, task.id, "asked", None).await.unwrap();
    f.plant_run(&task, &OccurrenceKey::manual("planted"), now, RunState::Pending).await;
    let lease = Duration::from_mins(5);
    let run = f.executor.claim_runs(Uuid::now_v7(), NonZeroU16::MIN, lease, i64::MIN).await.unwrap().remove(0);
    let request = ApprovalRequest {
        message: "May it?".to_owned(),
        data: json!([]),
        timeout: Duration::from_hours(1),
        on_timeout: OnTimeout::Reject,
    };
    let key = format!("{}/ask", run.id);
    let new = NewApproval { agent: run.agent, task: run.task, run: run.id, key, cause_depth: 0, request };
    f.executor.request_approval(&new).await.unwrap();
    let retried = f.plant_run(&task, &OccurrenceKey::manual("failing"), now, RunState::Pending).await;
    sqlx::query(
        "with gone as (delete from due_work where run_id = $1 returning *)
         insert into run (id, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id,
             attempts, failures, crashes, planned_at, finished_at, steps)
         select run_id, agent_id, task_id, revision, 'failed', trigger, occurrence_key, occurrence_at, root_run_id,
             1, 1, 0, planned_at, now(), '[]'
         from gone",
    )
    .bind(retried.uuid())
    .execute(&f.owner)
    .await
    .unwrap();
}

/// The tables that the role may read at all, and of each the columns that it may.
async fn readable(f: &Fixture) -> Vec<(String, String)> {
    sqlx::query_as(
        "
        select relname::text, string_agg(quote_ident(attname), ', ' order by attnum)
        from pg_class
        join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
        where relnamespace = 'public'::regnamespace
          and relkind in ('r', 'p', 'v', 'm')
          and has_column_privilege('ordinaut_mcp', pg_class.oid, attnum, 'select')
        group by relname
        order by relname
        ",
    )
    .fetch_all(&f.owner)
    .await
    .unwrap()
}

/// Of all that the role is shown of a table: how many rows, and how many that are not `agent`'s.
async fn count(connection: &mut PgConnection, (table, columns): &(String, String), agent: &Caller) -> (i64, i64) {
    let owner = if table == "agent" { "id" } else { "agent_id" };
    let all =
        format!("select count(*), count(*) filter (where {owner} <> $1) from (select {columns} from {table}) as shown");
    sqlx::query_as(AssertSqlSafe(all)).bind(agent.agent.uuid()).fetch_one(connection).await.unwrap()
}

/// What the MCP role counts, with that agent's name set or with none.
async fn seen(f: &Fixture, agent: Option<&Caller>, table: &(String, String)) -> (i64, i64) {
    let mut tx = f.owner.begin().await.unwrap();
    sqlx::query("set local role ordinaut_mcp").execute(&mut *tx).await.unwrap();
    if let Some(agent) = agent {
        sqlx::query("select set_config('ordinaut.agent', $1, true)")
            .bind(agent.agent.to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    let seen = count(&mut tx, table, agent.unwrap_or(&Caller::local("nobody"))).await;
    tx.rollback().await.unwrap();
    seen
}

#[tokio::test]
async fn without_a_filter_of_ours_another_agents_rows_are_not_there() {
    let (f, _database) = Fixture::fresh().await;
    let (ann, bob) = (f.agent("ann").await.unwrap(), f.agent("bob").await.unwrap());
    fill(&f, &ann).await;

    let mut filled = Vec::new();
    for table in readable(&f).await.iter().filter(|(name, _)| !EVERYBODYS.contains(&name.as_str())) {
        let name = table.0.as_str();
        let (anns, foreign) = seen(&f, Some(&ann), table).await;
        assert_eq!(foreign, 0, "{name}: ann sees rows of others");
        assert_eq!(seen(&f, Some(&bob), table).await.1, 0, "{name}: bob sees rows of ann's");
        assert_eq!(seen(&f, None, table).await.0, 0, "{name}: nobody in particular sees rows");
        if anns > 0 {
            filled.push(name.to_owned());
        }
    }
    for needed in
        ["agent", "approval", "audit_log", "concurrency", "due_work", "inbox", "outbox", "problem", "received", "task"]
    {
        assert!(filled.iter().any(|it| it == needed), "{needed} was empty; filled: {filled:?}");
    }
}

#[tokio::test]
async fn a_row_cannot_be_written_in_another_agents_name() {
    let (f, _database) = Fixture::fresh().await;
    let (ann, bob) = (f.agent("ann").await.unwrap(), f.agent("bob").await.unwrap());
    fill(&f, &ann).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "
        select relname::text
        from pg_class
        join pg_attribute on attrelid = pg_class.oid and attname = 'agent_id'
        where relnamespace = 'public'::regnamespace
          and relkind in ('r', 'p')
          and not relispartition
          and has_table_privilege('ordinaut_mcp', pg_class.oid, 'insert')
          and has_table_privilege('ordinaut_mcp', pg_class.oid, 'select')
        order by relname
        ",
    )
    .fetch_all(&f.owner)
    .await
    .unwrap();
    assert!(tables.len() >= 9, "{tables:?}");
    for table in tables {
        let mut tx = f.owner.begin().await.unwrap();
        // Her row as it is, taken away and offered again by him: the policy is judged before any key is.
        sqlx::query(AssertSqlSafe(format!("create temp table hers on commit drop as select * from {table} limit 1")))
            .execute(&mut *tx)
            .await
            .unwrap();
        if sqlx::query_scalar::<_, i64>("select count(*) from hers").fetch_one(&mut *tx).await.unwrap() == 0 {
            continue;
        }
        sqlx::raw_sql(AssertSqlSafe(format!(
            "grant select on hers to ordinaut_mcp; set local role ordinaut_mcp; select set_config('ordinaut.agent', '{}', true)",
            bob.agent
        )))
        .execute(&mut *tx)
        .await
        .unwrap();
        let columns: String = sqlx::query_scalar(
            "
            select string_agg(quote_ident(attname), ', ' order by attnum)
            from pg_attribute
            where attrelid = $1::text::regclass and attnum > 0 and not attisdropped
              and attgenerated = '' and attidentity <> 'a'
            ",
        )
        .bind(&table)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        let insert = format!("insert into {table} ({columns}) select {columns} from hers");
        let refused = sqlx::query(AssertSqlSafe(insert)).execute(&mut *tx).await.unwrap_err();
        // PostgreSQL's `insufficient_privilege`.
        let code = refused.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        assert_eq!(code.as_deref(), Some("42501"), "{table}: {refused}");
        assert!(refused.to_string().contains("row-level security"), "{table}: {refused}");
    }
}
