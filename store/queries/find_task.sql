-- A task as it stands, with its present definition. $1 agent, $2 task, or null and $3 the key of its title: the live
-- one's, else that of the latest of those that are past.
-- The agent is asked for beside row-level security: executors and the command line see every agent's rows.
select
    task.id,
    task.agent_id,
    task.title,
    task.state,
    task.revision,
    task_revision.definition,
    task.next_occurrence_at as "next_occurrence_at: jiff_sqlx::Timestamp",
    task.next_due_at as "next_due_at: jiff_sqlx::Timestamp",
    task.last_occurrence_at as "last_occurrence_at: jiff_sqlx::Timestamp",
    task.runs_planned,
    task.zone_source,
    task.paused_because,
    task.resume_at as "resume_at: jiff_sqlx::Timestamp",
    task.snoozed_until as "snoozed_until: jiff_sqlx::Timestamp",
    task.skip_next,
    task.failures_in_row,
    task.stretch_reason,
    task.stretch_from as "stretch_from: jiff_sqlx::Timestamp",
    task.stretch_to as "stretch_to: jiff_sqlx::Timestamp",
    task.stretch_count,
    task.stretch_opened_at as "stretch_opened_at: jiff_sqlx::Timestamp",
    task.created_at as "created_at: jiff_sqlx::Timestamp",
    task.updated_at as "updated_at: jiff_sqlx::Timestamp"
from task
join task_revision
    on task_revision.task_id = task.id
   and task_revision.revision = task.revision
where task.id = case
    when $2::uuid is not null then $2
    when (
        select live.id
        from task as live
        where live.agent_id = $1
          and live.title_key = $3
          and live.state in ('active', 'paused')
    ) is not null then (
        select live.id
        from task as live
        where live.agent_id = $1
          and live.title_key = $3
          and live.state in ('active', 'paused')
    )
    else (
        select past.id
        from task as past
        where past.agent_id = $1
          and past.title_key = $3
        order by past.id desc
        limit 1
    )
end
  and task.agent_id = $1
