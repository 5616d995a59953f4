-- What is new for an agent, in one row: its unread messages, oldest first; its problems that nobody acknowledged, newest
-- first; its approvals that wait, oldest first. $1 agent, $2, $3 and $4 how many of each. Needs inbox_new_idx,
-- problem_new_idx and approval_waiting_idx; the runs of a page are looked up one by one, where a join, planned for any
-- length of a page, reads all of history. There are ten problems at most, written out so that a plan is kept: history has
-- a partition a day, and planning for all of them takes longer than reading.
-- `last_is_marked` and `snapshot` are for acknowledging: what this statement saw is kept on what it showed last.
select
    pg_current_snapshot()::text as "snapshot!",
    (
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'id', page.id,
                'task', page.task_id,
                'run', page.run_id,
                'level', page.level,
                'title', page.title,
                'body', page.body,
                'posted_at', page.posted_at,
                'is_marked', page.shown_in is not null
            )
            order by page.id
        ), '[]')
        from (
            select id, task_id, run_id, level, title, body, posted_at, shown_in
            from inbox
            where agent_id = $1
              and acked_at is null
            order by id
            limit $2
        ) as page
    ) as "messages!",
    (
        select coalesce(jsonb_agg(
            jsonb_build_object('is_marked', page.is_marked, 'run', page.run) order by page.noted_at desc, page.run_id desc
        ) filter (where page.run is not null), '[]')
        from (
            select
                run_id,
                noted_at,
                shown_in is not null as is_marked,
                (
                    select jsonb_build_object(
                        'id', run.id,
                        'task', run.task_id,
                        'task_title', (select task.title from task where task.id = run.task_id),
                        'revision', run.revision,
                        'state', run.state,
                        'skip_reason', run.skip_reason,
                        'trigger', run.trigger,
                        'occurrence_key', run.occurrence_key,
                        'occurrence_at', run.occurrence_at,
                        'stretch', case
                            when run.stretch_to is not null then jsonb_build_array(run.stretch_to, run.stretch_count)
                        end,
                        'root_run', run.root_run_id,
                        'retry_of', run.retry_of,
                        'attempts', run.attempts,
                        'failures', run.failures,
                        'crashes', run.crashes,
                        'planned_at', run.planned_at,
                        'started_at', run.started_at,
                        'finished_at', run.finished_at,
                        'error', run.error
                    )
                    from run
                    where run.id = problem.run_id
                ) as run
            from (
                select run_id, noted_at, shown_in
                from problem
                where agent_id = $1
                order by noted_at desc, run_id desc
                limit 10
            ) as problem
            limit $3
        ) as page
    ) as "problems!",
    (
        select coalesce(jsonb_agg(
            jsonb_build_object('id', page.id, 'run', page.run_id, 'message', page.message, 'expires_at', page.expires_at)
            order by page.id
        ), '[]')
        from (
            select id, run_id, message, expires_at
            from approval
            where agent_id = $1
              and state = 'waiting'
              and expires_at > now()
            order by id
            limit $4
        ) as page
    ) as "approvals!"
