-- One element a run in each array, of runs whose rows this transaction has locked under their lease.
-- $1 run, $2 state, $3 error, $4 output, $5 steps. The run leaves due_work and its journal, and enters history.
-- Whoever ends a run without a timeline in hand (quarantine, a cancel that wins over a retry) gives none: then the
-- journal is the timeline, so that a resuming retry repeats nothing. Approvals are closed; answers the runs that wait for
-- these, in id order.
with given as (
    select *
    from unnest($1::uuid [], $2::text [], $3::jsonb [], $4::jsonb [], $5::jsonb []) as g (
        run_id, state, error, output, steps
    )
),

gone as (
    delete from due_work
    using given
    where due_work.run_id = given.run_id
    returning due_work.*, given.state as ended, given.error, given.output, given.steps
),

unjournaled as (
    delete from step_journal
    where run_id = any ($1)
),

closed as (
    update approval
    set state = 'closed'
    where run_id = any ($1)
      and state = 'waiting'
),

kept as (
    insert into run (
        id, shard, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id, retry_of,
        cause_depth, event, params, pinned, attempts, failures, crashes, planned_at, started_at, finished_at, error, output,
        steps
    )
    select
        gone.run_id, gone.shard, gone.agent_id, gone.task_id, gone.revision, gone.ended, gone.trigger, gone.occurrence_key,
        gone.occurrence_at, gone.root_run_id, gone.retry_of, gone.cause_depth, gone.event, gone.params, gone.pinned,
        gone.attempt, gone.failures + (gone.ended = 'failed')::integer, gone.crashes, gone.planned_at, gone.started_at,
        clock_timestamp(), gone.error, gone.output,
        case when gone.steps = '[]' then journaled_steps(gone.run_id) else gone.steps end
    from gone
)

select substr(gone.occurrence_key, 3, 36)::uuid as "parent_run_id!"
from gone
where gone.trigger = 'step'
  and gone.occurrence_key like 's:%'
order by 1
