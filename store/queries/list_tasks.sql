-- One page of an agent's tasks, by id. Needs task_list_idx.
-- A plan that is kept reads one page, which begins in the index. (`coalesce` would not: behind row-level security only
-- what cannot leak is an index condition.) Definitions are another question: four fifths of the time went into them.
-- $1 agent, $2 states, $3 part of the title's key or null, $4 the last id of the page before or null, $5 limit.
select
    task.id,
    task.agent_id,
    task.title,
    task.state,
    task.revision,
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
where task.agent_id = $1
  and task.state = any ($2)
  and ($3::text is null or strpos(task.title_key, $3) > 0)
  and task.id > case when $4::uuid is null then '00000000-0000-0000-0000-000000000000' else $4 end
order by task.id
limit $5
