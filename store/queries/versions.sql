-- A text that differs whenever what is shown of a task or a run differs; gone ones have no row.
-- $1 agent, $2 tasks, $3 runs. A lease that is only renewed changes nothing here: a row's xmin would.
-- A run moves from due_work to run in one transaction, and this is one snapshot. By unnest: `= any` reads every
-- partition of history (a generic plan prunes none).
select
    task.id as "id!",
    concat_ws(
        '|', task.xmin, (
            select string_agg(concat_ws(' ', live.run_id, live.state, live.attempt), ',' order by live.run_id desc)
            from (
                select run_id, state, attempt
                from due_work
                where task_id = task.id
                order by run_id desc
                limit 20
            ) as live
        ), (
            select string_agg(concat_ws(' ', ended.id, ended.stretch_count), ',' order by ended.id desc)
            from (
                select id, stretch_count
                from run
                where task_id = task.id
                order by id desc
                limit 5
            ) as ended
        )
    ) as "version!"
from unnest($2::uuid[]) as wanted (id)
join task on task.id = wanted.id
where task.agent_id = $1
union all
select
    due_work.run_id,
    concat_ws(
        '|', due_work.state, due_work.attempt, due_work.failures, due_work.cancel_asked_at, due_work.wake_at, (
            select string_agg(concat_ws(' ', position, state, calls), ',' order by position)
            from step_journal
            where step_journal.run_id = due_work.run_id
        )
    )
from unnest($3::uuid[]) as wanted (id)
join due_work on due_work.run_id = wanted.id
where due_work.agent_id = $1
union all
select run.id, concat_ws('|', run.state, run.finished_at, run.stretch_count)
from unnest($3::uuid[]) as wanted (id)
join run on run.id = wanted.id
where run.agent_id = $1
