-- $1 run, $2 lease token, then one element a step in each array.
-- The lease's row is locked, not only read: a recovery that is taking the lease right now makes this write nothing.
with held as (
    select agent_id
    from due_work
    where run_id = $1
      and lease_token = $2
    for share
)
insert into step_journal (
    run_id, agent_id, step, item, uses, state, calls, input, output, error, started_at, finished_at
)
select $1, held.agent_id, given.*
from held
cross join unnest(
    $3::text [], $4::integer [], $5::text [], $6::text [], $7::integer [], $8::jsonb [], $9::jsonb [], $10::jsonb [],
    $11::timestamptz [], $12::timestamptz []
) as given (step, item, uses, state, calls, input, output, error, started_at, finished_at)
order by given.step, given.item
on conflict (run_id, step, item) do update
set state = excluded.state,
    calls = excluded.calls,
    input = excluded.input,
    output = excluded.output,
    error = excluded.error,
    started_at = excluded.started_at,
    finished_at = excluded.finished_at
