-- One element a day of a task in each array: $1 its number, $2 the task, $3 and $4 the ids between which runs of the day
-- lie, $5 how many are enough. Counted from the day's start: what was skipped after the last run is not read.
-- One statement, so that a run which is being concluded meanwhile is seen in one of both places.
select
    day.n as "n!",
    counted.runs as "runs!"
from unnest($1::integer [], $2::uuid [], $3::uuid [], $4::uuid [], $5::bigint []) as day (
    n, task_id, from_id, to_id, enough
)
cross join lateral (
    select count(*) as runs
    from (
        (
            select 1
            from due_work
            where due_work.task_id = day.task_id
              and due_work.run_id >= day.from_id
              and due_work.run_id < day.to_id
              and due_work.trigger <> 'retry'
            limit day.enough
        )
        union all
        (
            select 1
            from run
            where run.task_id = day.task_id
              and run.id >= day.from_id
              and run.id < day.to_id
              and run.state <> 'skipped'
              and run.trigger <> 'retry'
            order by run.id
            limit day.enough
        )
    ) as run_of_day
) as counted
