-- One run, in flight or over. $1 agent, $2 run. The id prunes history to one partition.
-- A run that is concluding is in exactly one of both: they change in one transaction, and this is one snapshot.
select
    found.id as "id!",
    found.task_id as "task_id!",
    (select task.title from task where task.id = found.task_id) as "title!",
    (
        select task_revision.definition ->> 'timezone'
        from task
        join task_revision
            on task_revision.task_id = task.id
           and task_revision.revision = task.revision
        where task.id = found.task_id
    ) as timezone,
    found.revision as "revision!",
    found.state as "state!",
    found.skip_reason,
    found.trigger as "trigger!",
    found.occurrence_key as "occurrence_key!",
    found.occurrence_at as "occurrence_at!: jiff_sqlx::Timestamp",
    found.stretch_to as "stretch_to: jiff_sqlx::Timestamp",
    found.stretch_count,
    found.root_run_id as "root_run_id!",
    found.retry_of,
    found.attempts as "attempts!",
    found.failures as "failures!",
    found.crashes as "crashes!",
    found.planned_at as "planned_at!: jiff_sqlx::Timestamp",
    found.started_at as "started_at: jiff_sqlx::Timestamp",
    found.finished_at as "finished_at: jiff_sqlx::Timestamp",
    found.wake_at as "wake_at: jiff_sqlx::Timestamp",
    found.cancel_asked_at as "cancel_asked_at: jiff_sqlx::Timestamp",
    found.error,
    found.output,
    found.steps,
    found.event,
    found.waiting
from (
    select
        run_id as id, task_id, revision, state, null as skip_reason, trigger, occurrence_key, occurrence_at,
        null::timestamptz as stretch_to, null::integer as stretch_count, root_run_id, retry_of, attempt as attempts,
        failures, crashes, planned_at, started_at, null::timestamptz as finished_at, wake_at, cancel_asked_at,
        last_error as error, null::jsonb as output,
        (
            select jsonb_agg(
                jsonb_build_object(
                    'step', journal.step,
                    'index', nullif(journal.item, -1),
                    'uses', journal.uses,
                    'state', journal.state,
                    'calls', journal.calls,
                    'input', journal.input,
                    'output', journal.output,
                    'error', journal.error,
                    'started_at', journal.started_at,
                    'finished_at', journal.finished_at
                )
                order by journal.position
            )
            from step_journal as journal
            where journal.run_id = due_work.run_id
        ) as steps,
        event,
        (
            select journal.output
            from step_journal as journal
            where journal.run_id = due_work.run_id
              and due_work.state = 'waiting'
              and journal.state = 'started'
              and journal.error is null
              and journal.output is not null
            order by journal.position
            limit 1
        ) as waiting
    from due_work
    where run_id = $2
      and agent_id = $1
    union all
    select
        id, task_id, revision, state, skip_reason, trigger, occurrence_key, occurrence_at, stretch_to, stretch_count,
        root_run_id, retry_of, attempts, failures, crashes, planned_at, started_at, finished_at, null, null, error,
        output, steps, event, null
    from run
    where id = $2
      and agent_id = $1
) as found
