-- One element a run in each array. Runs of an agent that has many pending step back by a quantum (10 ms) each, so that
-- one agent's burst does not stand before everyone else; the rank is fixed here and ages by itself. A run that has to
-- wait its turn does not: with what else its agent had pending in its rank, a later one of its task could overtake it.
with entering as (
    select *
    from unnest(
        $1::uuid [], $2::smallint [], $3::uuid [], $4::uuid [], $5::integer [], $6::text [], $7::timestamptz [],
        $8::smallint [], $9::text [], $10::text [], $11::timestamptz [], $12::uuid [], $13::uuid [], $14::smallint [],
        $15::jsonb [], $16::jsonb [], $17::jsonb [], $18::boolean [], $19::text [], $20::integer [], $21::boolean [],
        $22::boolean [], $23::bigint []
    ) as given (
        run_id, shard, agent_id, task_id, revision, state, due_at, priority, trigger, occurrence_key, occurrence_at,
        root_run_id, retry_of, cause_depth, event, params, pinned, serial, concurrency_key, concurrency_limit,
        ignores_waiting, pure, reserved
    )
),

-- Counted once an agent, and no further than matters.
queues as materialized (
    select
        agent.agent_id,
        (
            select count(*)
            from (
                select
                from due_work as mine
                where mine.agent_id = agent.agent_id
                  and mine.state = 'pending'
                limit 1000
            ) as before
        ) as pending
    from (select distinct agent_id from entering) as agent
)

insert into due_work (
    run_id, shard, agent_id, task_id, revision, state, rank, priority, trigger, occurrence_key, occurrence_at,
    root_run_id, retry_of, cause_depth, event, params, pinned, serial, concurrency_key, concurrency_limit,
    ignores_waiting, pure, reserved_cost
)
select
    entry.run_id,
    entry.shard,
    entry.agent_id,
    entry.task_id,
    entry.revision,
    entry.state,
    (extract(epoch from entry.due_at) * 1000000)::bigint
    + (entry.priority - 1) * 30000000::bigint
    + case
        when entry.serial and entry.state = 'blocked' then 0
        else (
            row_number() over (partition by entry.agent_id order by entry.due_at, entry.run_id) - 1 + queues.pending
        ) * 10000
    end,
    entry.priority,
    entry.trigger,
    entry.occurrence_key,
    entry.occurrence_at,
    entry.root_run_id,
    entry.retry_of,
    entry.cause_depth,
    entry.event,
    entry.params,
    entry.pinned,
    entry.serial,
    entry.concurrency_key,
    entry.concurrency_limit,
    entry.ignores_waiting,
    entry.pure,
    entry.reserved::numeric / 1000000000
from entering as entry
join queues on queues.agent_id = entry.agent_id
order by entry.run_id
on conflict (run_id) do nothing
