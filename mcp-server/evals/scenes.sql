-- What cases set up and judge by, beside the tables themselves. Run on each case's database before its `given`.
create schema scene;

-- Tasks with what their latest definition says, and when they are due next on the wall clock of their zone.
create view scene.tasks as
select
    task.*,
    definition,
    definition ->> 'timezone' as zone,
    definition ->> 'schedule_expr' as expr,
    definition -> 'pipeline' as pipeline,
    (
        select array_agg(step ->> 'uses' order by n)
        from jsonb_array_elements(definition -> 'pipeline') with ordinality as steps (step, n)
    ) as uses,
    next_occurrence_at at time zone (definition ->> 'timezone') as next_local
from task
cross join lateral (
    select definition
    from task_revision
    where task_revision.task_id = task.id
      and task_revision.revision = task.revision
) as latest;

-- An instant as answers show it: RFC 3339 with the offset of a zone.
create function scene.iso(at timestamptz, zone text) returns text
language sql stable
as $$
    select to_char(at at time zone zone, 'YYYY-MM-DD"T"HH24:MI:SS')
        || case when ahead < interval '0' then '-' else '+' end
        || to_char(greatest(ahead, -ahead), 'HH24:MI')
    from (select (at at time zone zone) - (at at time zone 'UTC') as ahead) as offsets
$$;

-- An id of the form that runs have: the milliseconds of its instant first.
create function scene.run_id(at timestamptz) returns uuid
language sql volatile
as $$
    select (
        lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '8000'
        || '8' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 15)
    )::uuid
$$;

-- A run that is over: `error` is {"kind", "message", "step"}, `steps` the journal as history keeps it.
create function scene.ran(
    title text,
    state text,
    at timestamptz,
    skip_reason text default null,
    error jsonb default null,
    steps jsonb default '[]',
    output jsonb default null
) returns uuid
language plpgsql
as $$
declare
    run uuid := scene.run_id(at);
    has_begun boolean := state <> 'skipped';
begin
    insert into run (
        id, agent_id, task_id, revision, state, skip_reason, trigger, occurrence_key, occurrence_at, root_run_id,
        attempts, failures, crashes, planned_at, started_at, finished_at, error, output, steps
    )
    select
        run, task.agent_id, task.id, task.revision, ran.state, ran.skip_reason, 'schedule',
        't:' || to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), at, run,
        has_begun::int, (ran.state = 'failed')::int, 0, at, case when has_begun then at end,
        at + interval '2 seconds', ran.error, ran.output, ran.steps
    from task
    where task.title = ran.title;
    if not found then
        raise exception 'no task is titled %', title;
    end if;
    return run;
end $$;

-- A run that is being executed, since a minute.
create function scene.running(title text) returns uuid
language plpgsql
as $$
declare
    run uuid := scene.run_id(now() - interval '1 minute');
begin
    insert into due_work (
        run_id, agent_id, task_id, revision, state, rank, priority, lease_token, lease_owner, lease_expires_at,
        attempt, trigger, occurrence_key, occurrence_at, root_run_id, started_at, claimed_at
    )
    select
        run, task.agent_id, task.id, task.revision, 'running', 0, 5, gen_random_uuid(), gen_random_uuid(),
        now() + interval '1 hour', 1, 'schedule',
        't:' || to_char((now() - interval '1 minute') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        now() - interval '1 minute', run, now(), now()
    from task
    where task.title = running.title;
    if not found then
        raise exception 'no task is titled %', title;
    end if;
    return run;
end $$;

-- A message that a step left.
create function scene.message(body text, title text default null, level text default 'info') returns uuid
language sql
as $$
    insert into inbox (id, agent_id, key, level, title, body)
    select (
        lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7000'
        || '8' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 15)
    )::uuid, agent.id, gen_random_uuid()::text, message.level, message.title, message.body
    from agent
    where agent.name = 'local'
    returning id
$$;

-- A channel, a model or a command of the operator's.
create function scene.offer(kind text, name text, about text) returns void
language sql
as $$
    insert into offered (kind, name, about) values (offer.kind, offer.name, offer.about)
$$;

-- A run of a task that waits for a person's decision; the answer is the approval's id.
create function scene.asking(title text, message text, data jsonb) returns uuid
language plpgsql
as $$
declare
    run uuid := scene.running(title);
    approval uuid := gen_random_uuid();
begin
    update due_work
    set state = 'waiting',
        lease_token = null,
        lease_owner = null,
        lease_expires_at = null,
        wake_at = now() + interval '1 day'
    where run_id = run;
    insert into approval (
        id, agent_id, task_id, run_id, key, message, data, shown_sha256, on_timeout, expires_at
    )
    select
        approval, due_work.agent_id, due_work.task_id, run, run || '/ask', asking.message, asking.data,
        sha256(convert_to(asking.message || asking.data::text, 'UTF8')), 'reject', now() + interval '1 day'
    from due_work
    where due_work.run_id = run;
    return approval;
end $$;
