-- $1 tasks, $2 and $3 agents and keys, side by side. One run a task is enough: a serial task admits one at a time.
-- Under a key, as many as its limit could let in.
select
    run_id as "run_id!",
    task_id as "task_id!",
    agent_id as "agent_id!",
    serial as "serial!",
    concurrency_key,
    concurrency_limit
from (
    select first.*
    from unnest($1::uuid []) as wanted (task_id)
    cross join lateral (
        select due_work.run_id, due_work.task_id, due_work.agent_id, due_work.serial, due_work.concurrency_key,
               due_work.concurrency_limit, due_work.rank
        from due_work
        where due_work.task_id = wanted.task_id
          and due_work.state = 'blocked'
        order by due_work.rank, due_work.run_id
        limit 1
    ) as first
    union
    select first.*
    from unnest($2::uuid [], $3::text []) as wanted (agent_id, concurrency_key)
    cross join lateral (
        select due_work.run_id, due_work.task_id, due_work.agent_id, due_work.serial, due_work.concurrency_key,
               due_work.concurrency_limit, due_work.rank
        from due_work
        where due_work.agent_id = wanted.agent_id
          and due_work.concurrency_key = wanted.concurrency_key
          and due_work.state = 'blocked'
        order by due_work.rank, due_work.run_id
        limit 100
    ) as first
) as candidate
order by rank, run_id
