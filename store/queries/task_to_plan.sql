-- $1 task, whose row the transaction has locked: as lock_due_tasks.sql reads one that is due.
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
from task as due
join task_revision on task_revision.task_id = due.id and task_revision.revision = due.revision
where due.id = $1
