-- Ends runs that no attempt holds, as cancelled: history row with what was journaled, journal and queue row gone,
-- approvals closed. Answers the run that waits for each, if one does.
-- $1 runs, locked by the caller and seen not running; $2 the error kept in history.
-- One statement, one snapshot: the timeline is read while its rows are being removed.
with gone as (
    delete from due_work
    using unnest($1::uuid[]) as asked (run_id)
    where due_work.run_id = asked.run_id
    returning due_work.*
),
forgotten as (
    delete from step_journal
    using unnest($1::uuid[]) as asked (run_id)
    where step_journal.run_id = asked.run_id
),
closed as (
    update approval
    set state = 'closed'
    from unnest($1::uuid[]) as asked (run_id)
    where approval.run_id = asked.run_id
      and approval.state = 'waiting'
),
kept as (
    insert into run (
        id, shard, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id, retry_of,
        cause_depth, event, params, pinned, attempts, failures, crashes, planned_at, started_at, finished_at, error,
        steps
    )
    select
        gone.run_id, gone.shard, gone.agent_id, gone.task_id, gone.revision, 'cancelled', gone.trigger,
        gone.occurrence_key, gone.occurrence_at, gone.root_run_id, gone.retry_of, gone.cause_depth, gone.event,
        gone.params, gone.pinned, gone.attempt, gone.failures, gone.crashes, gone.planned_at, gone.started_at, clock_timestamp(), $2,
        journaled_steps(gone.run_id)
    from gone
)
select
    gone.run_id,
    gone.agent_id,
    gone.task_id,
    gone.occurrence_at as "occurrence_at: jiff_sqlx::Timestamp",
    gone.cause_depth,
    gone.concurrency_key,
    case when gone.trigger = 'step' and gone.occurrence_key like 's:%' then substr(gone.occurrence_key, 3, 36)::uuid end
        as parent_run_id
from gone
order by gone.run_id
