//! Plan what is due, a thousand tasks a statement: a cursor moved and a run entered for each.

use sqlx::PgPool;

use super::drain::{self, Form};

/// Tasks of one statement.
const BATCH: i64 = 1_000;

const PLAN: &str = "
    with due as (
        select id, shard, agent_id, revision, next_occurrence_at
        from task
        where next_due_at <= now()
        order by next_due_at, id
        limit $1
        for no key update skip locked
    ),
    moved as (
        update task
        set next_occurrence_at = due.next_occurrence_at + interval '1 h',
            next_due_at = due.next_occurrence_at + interval '1 h',
            last_occurrence_at = due.next_occurrence_at,
            runs_planned = task.runs_planned + 1
        from due
        where task.id = due.id
    )
    insert into due_work (
        run_id, shard, agent_id, task_id, revision, state, rank, priority, trigger, occurrence_key, occurrence_at,
        root_run_id, serial, pure
    )
    select
        id, shard, agent_id, task_id, revision, 'pending',
        (extract(epoch from at) * 1000000)::bigint + 4 * 30000000::bigint
        + (row_number() over (partition by agent_id order by id) - 1) * 10000,
        5, 'schedule', 't:' || to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), at, id, true, true
    from (
        select
            (substr(run_id_floor(next_occurrence_at)::text, 1, 14) || '8' || substr(gen_random_uuid()::text, 16))::uuid as id,
            shard, agent_id, id as task_id, revision, next_occurrence_at as at
        from due
    ) as due";

/// Plans everything that is due, then drains it.
pub(crate) async fn plan_and_drain(owner: &PgPool) -> anyhow::Result<()> {
    let mut connection = owner.acquire().await?;
    loop {
        let planned = sqlx::query(PLAN).bind(BATCH).execute(&mut *connection).await?;
        if planned.rows_affected() == 0 {
            break;
        }
    }
    drop(connection);
    drain::drain(owner, Form::Bare).await
}
