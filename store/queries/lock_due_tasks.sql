-- $1 limit. Tasks that another executor is planning are skipped; the cursor is read under the lock, so it is what the
-- last planner left. Needs index task_due_idx.
with due as materialized (
    select *
    from task
    where next_due_at <= now()
    order by next_due_at, id
    limit $1
    for no key update skip locked
)

select
    due.id as "id!",
    due.shard as "shard!",
    due.agent_id as "agent_id!",
    due.title as "title!",
    due.state as "state!",
    due.revision as "revision!",
    due.next_occurrence_at as "next_occurrence_at: jiff_sqlx::Timestamp",
    due.last_occurrence_at as "last_occurrence_at: jiff_sqlx::Timestamp",
    due.runs_planned as "runs_planned!",
    due.pass_until as "pass_until: jiff_sqlx::Timestamp",
    due.pass_reason,
    due.snoozed_until as "snoozed_until: jiff_sqlx::Timestamp",
    due.skip_next as "skip_next!",
    due.resume_at as "resume_at: jiff_sqlx::Timestamp",
    due.stretch_reason,
    due.stretch_from as "stretch_from: jiff_sqlx::Timestamp",
    due.stretch_to as "stretch_to: jiff_sqlx::Timestamp",
    due.stretch_count,
    due.stretch_opened_at as "stretch_opened_at: jiff_sqlx::Timestamp",
    task_revision.definition as "definition!",
    exists (select from agent_budget where agent_budget.agent_id = due.agent_id) as "has_budget!",
    now() as "now!: jiff_sqlx::Timestamp"
from due
join task_revision on task_revision.task_id = due.id and task_revision.revision = due.revision
