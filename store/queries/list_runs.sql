-- One page of an agent's runs, newest first, in flight and over alike. Needs run_agent_idx and due_work_agent_idx, or,
-- of one task, run_task_idx and due_work_task_idx: each side yields at most one page, in order, before they are merged.
-- $1 agent, $2 task or null, $3 states (empty: all), $4 the last id of the page before or null, $5 and $6 the least and
-- the greatest id (exclusive) of the instants asked for, $7 limit.
-- One plan suits all values, and is kept: planning for a month of partitions took 3 ms, reading takes 0.6. So what may be
-- asked or not is a side of its own, left out before it begins, and bounds are there always. `between` says once more
-- which index is meant: of two that look alike the planner took the agent's, and read a million runs of one task to find
-- that another has none.
select
    found.id as "id!",
    found.task_id as "task_id!",
    (select task.title from task where task.id = found.task_id) as "title!",
    null::text as timezone,
    found.revision as "revision!",
    found.state as "state!",
    found.skip_reason,
    found.trigger as "trigger!",
    found.occurrence_key as "occurrence_key!",
    found.occurrence_at as "occurrence_at!: jiff_sqlx::Timestamp",
    found.stretch_to as "stretch_to: jiff_sqlx::Timestamp",
    found.stretch_count,
    found.root_run_id as "root_run_id!",
    found.retry_of,
    found.attempts as "attempts!",
    found.failures as "failures!",
    found.crashes as "crashes!",
    found.planned_at as "planned_at!: jiff_sqlx::Timestamp",
    found.started_at as "started_at: jiff_sqlx::Timestamp",
    found.finished_at as "finished_at: jiff_sqlx::Timestamp",
    found.wake_at as "wake_at: jiff_sqlx::Timestamp",
    found.cancel_asked_at as "cancel_asked_at: jiff_sqlx::Timestamp",
    found.error,
    found.output,
    found.steps,
    found.event,
    found.waiting
from (
    (
        select
            run_id as id, task_id, revision, state, null as skip_reason, trigger, occurrence_key, occurrence_at,
            null::timestamptz as stretch_to, null::integer as stretch_count, root_run_id, retry_of,
            attempt as attempts, failures, crashes, planned_at, started_at, null::timestamptz as finished_at, wake_at,
            cancel_asked_at, last_error as error, null::jsonb as output, null::jsonb as steps, event,
            (
                select journal.output
                from step_journal as journal
                where journal.run_id = due_work.run_id
                  and due_work.state = 'waiting'
                  and journal.state = 'started'
                  and journal.error is null
                  and journal.output is not null
                order by journal.position
                limit 1
            ) as waiting
        from due_work
        where $2::uuid is null
          and agent_id = $1
          and (cardinality($3::text[]) = 0 or state = any ($3))
          and run_id < case when $4::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $4 end
          and run_id >= case when $5::uuid is null then '00000000-0000-0000-0000-000000000000' else $5 end
          and run_id < case when $6::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $6 end
        order by run_id desc
        limit $7
    )
    union all
    (
        select
            id, task_id, revision, state, skip_reason, trigger, occurrence_key, occurrence_at, stretch_to,
            stretch_count, root_run_id, retry_of, attempts, failures, crashes, planned_at, started_at, finished_at,
            null, null, error, output, null, event, null
        from run
        where $2::uuid is null
          and agent_id = $1
          and (cardinality($3::text[]) = 0 or state = any ($3))
          and id < case when $4::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $4 end
          and id >= case when $5::uuid is null then '00000000-0000-0000-0000-000000000000' else $5 end
          and id < case when $6::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $6 end
        order by id desc
        limit $7
    )
    union all
    (
        select
            run_id as id, task_id, revision, state, null as skip_reason, trigger, occurrence_key, occurrence_at,
            null::timestamptz as stretch_to, null::integer as stretch_count, root_run_id, retry_of,
            attempt as attempts, failures, crashes, planned_at, started_at, null::timestamptz as finished_at, wake_at,
            cancel_asked_at, last_error as error, null::jsonb as output, null::jsonb as steps, event,
            (
                select journal.output
                from step_journal as journal
                where journal.run_id = due_work.run_id
                  and due_work.state = 'waiting'
                  and journal.state = 'started'
                  and journal.error is null
                  and journal.output is not null
                order by journal.position
                limit 1
            ) as waiting
        from due_work
        where $2::uuid is not null
          and task_id = $2
          and task_id between $2 and $2
          and agent_id = $1
          and (cardinality($3::text[]) = 0 or state = any ($3))
          and run_id < case when $4::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $4 end
          and run_id >= case when $5::uuid is null then '00000000-0000-0000-0000-000000000000' else $5 end
          and run_id < case when $6::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $6 end
        order by run_id desc
        limit $7
    )
    union all
    (
        select
            id, task_id, revision, state, skip_reason, trigger, occurrence_key, occurrence_at, stretch_to,
            stretch_count, root_run_id, retry_of, attempts, failures, crashes, planned_at, started_at, finished_at,
            null, null, error, output, null, event, null
        from run
        where $2::uuid is not null
          and task_id = $2
          and task_id between $2 and $2
          and agent_id = $1
          and (cardinality($3::text[]) = 0 or state = any ($3))
          and id < case when $4::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $4 end
          and id >= case when $5::uuid is null then '00000000-0000-0000-0000-000000000000' else $5 end
          and id < case when $6::uuid is null then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $6 end
        order by id desc
        limit $7
    )
) as found
order by found.id desc
limit $7
