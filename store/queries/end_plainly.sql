-- Ends well whichever of these runs mean nothing for others: one element a run in each array, in id order, so that
-- whoever else locks several waits for them in that order. $1 run, $2 lease token, $3 output, $4 steps;
-- $5 topic of all.
-- Left alone, for the long way, are runs that another run waits for, runs of a task whose row of failures ends with them, and
-- runs of an agent with tasks that listen to events. Their journal goes, they are told of, and the answer is what they held,
-- in no order.
with given as (
    select *
    from unnest($1::uuid [], $2::uuid [], $3::jsonb [], $4::jsonb []) as g (run_id, lease_token, output, steps)
),

gone as (
    delete from due_work
    using given
    where due_work.run_id = given.run_id
      and due_work.lease_token = given.lease_token
      and due_work.trigger <> 'step'
      and not exists (
          select
          from task as failing
          where failing.id = due_work.task_id
            and failing.failures_in_row > 0
      )
      and not exists (
          select
          from task as listening
          where listening.agent_id = due_work.agent_id
            and listening.schedule_kind = 'event'
            and listening.state in ('active', 'paused')
      )
    returning due_work.*, given.output, given.steps
),

unjournaled as (
    delete from step_journal
    using gone
    where step_journal.run_id = gone.run_id
),

told as (
    insert into outbox (agent_id, task_id, run_id, topic, cause_depth, payload)
    select
        gone.agent_id,
        gone.task_id,
        gone.run_id,
        $5,
        gone.cause_depth,
        jsonb_build_object(
            'run_id', gone.run_id,
            'task_id', gone.task_id,
            'state', 'succeeded',
            'scheduled_at',
            rtrim(rtrim(to_char(gone.occurrence_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z',
            'error', null
        )
    from gone
),

kept as (
    insert into run (
        id, shard, agent_id, task_id, revision, state, trigger, occurrence_key, occurrence_at, root_run_id, retry_of,
        cause_depth, event, params, pinned, attempts, failures, crashes, planned_at, started_at, finished_at, output, steps
    )
    select
        gone.run_id, gone.shard, gone.agent_id, gone.task_id, gone.revision, 'succeeded', gone.trigger, gone.occurrence_key,
        gone.occurrence_at, gone.root_run_id, gone.retry_of, gone.cause_depth, gone.event, gone.params, gone.pinned,
        gone.attempt, gone.failures, gone.crashes, gone.planned_at, gone.started_at, clock_timestamp(), gone.output,
        gone.steps
    from gone
)

select
    gone.run_id,
    gone.lease_token as "lease_token!",
    gone.agent_id,
    gone.task_id,
    gone.serial,
    gone.concurrency_key
from gone
