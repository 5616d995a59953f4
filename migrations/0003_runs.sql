-- Runs: what is due or in flight (`due_work`, small and hot), and what is over (`run`, append-only).
--
-- A run moves from the first table to the second in one transaction. Only `pending` rows are in the ready index:
-- a claim never reads past what it cannot take.
create table due_work (
    run_id uuid primary key,
    shard smallint not null default 0,
    agent_id uuid not null,
    task_id uuid not null,
    revision integer not null,
    state text not null
        constraint due_work_state check (state in ('blocked', 'waiting', 'pending', 'running')),
    -- Microseconds since 1970: the instant it became claimable, shifted by priority and its agent's queue.
    rank bigint not null,
    priority smallint not null
        constraint due_work_priority check (priority between 1 and 9),
    wake_at timestamptz,

    lease_token uuid,
    lease_owner uuid,
    lease_expires_at timestamptz,

    attempt integer not null default 0,
    failures integer not null default 0,
    crashes integer not null default 0,
    last_error jsonb,

    trigger text not null
        constraint due_work_trigger check (trigger in ('schedule', 'event', 'manual', 'step', 'retry')),
    occurrence_key text not null,
    occurrence_at timestamptz not null,
    root_run_id uuid not null,
    retry_of uuid,
    cause_depth smallint not null default 0,
    -- The event that caused it: `{id, topic, payload}`.
    event jsonb,
    -- What the caller of `run_now` set over the task's params.
    params jsonb,
    -- `now` and `previous`, fixed when the run first starts.
    pinned jsonb,

    -- One run of its task at a time: waits as `blocked` for the others.
    serial boolean not null default false,
    concurrency_key text,
    concurrency_limit integer,
    -- A waiting run of this task does not hold the task (`overlap_ignores_waiting`).
    ignores_waiting boolean not null default false,

    cancel_asked_at timestamptz,
    cancel_reason text,

    planned_at timestamptz not null default now(),
    started_at timestamptz,
    -- Time spent running in earlier attempts: `run_timeout` does not count waiting.
    running_ms bigint not null default 0,
    claimed_at timestamptz,

    constraint due_work_lease
    check ((state = 'running') = (num_nulls(lease_token, lease_owner, lease_expires_at) = 0)),
    constraint due_work_wake check ((state = 'waiting') = (wake_at is not null)),
    constraint due_work_key check ((concurrency_key is null) = (concurrency_limit is null))
)
with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

create index due_work_ready_idx on due_work (rank, run_id) where state = 'pending';
create index due_work_wake_idx on due_work (wake_at) where state = 'waiting';
create index due_work_running_idx on due_work (run_id) where state = 'running';
create index due_work_task_idx on due_work (task_id);
create index due_work_blocked_idx on due_work (task_id, rank, run_id) where state = 'blocked';
create index due_work_agent_idx on due_work (agent_id, run_id);
create index due_work_key_idx on due_work (agent_id, concurrency_key) where concurrency_key is not null;

-- What the steps of runs in flight did. A finished step is never called again.
create table step_journal (
    run_id uuid not null,
    step text not null,
    -- The index within a `foreach`; -1 for the step itself.
    item integer not null default -1,
    shard smallint not null default 0,
    agent_id uuid not null,
    -- In the order in which steps were first written.
    position bigint generated always as identity,
    uses text not null,
    state text not null
        constraint step_journal_state check (state in ('started', 'succeeded', 'skipped', 'continued', 'failed')),
    calls integer not null default 0,
    input jsonb,
    output jsonb,
    error jsonb,
    started_at timestamptz,
    finished_at timestamptz,
    primary key (run_id, step, item)
)
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- The journal of a run as history keeps it: `[ordinaut_schema::run::StepRecord]`. Stable, so that the statement which
-- removes the journal still reads it.
create function journaled_steps(run uuid) returns jsonb
language sql stable
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'step', step,
                'index', nullif(item, -1),
                'uses', uses,
                'state', state,
                'calls', calls,
                'input', input,
                'output', output,
                'error', error,
                'started_at', started_at,
                'finished_at', finished_at
            )
            order by position
        ),
        '[]'
    )
    from step_journal
    where run_id = journaled_steps.run
$$;

-- History. Partitioned by the id, which begins with the instant: `id = $1` reads one partition, and old ones are
-- dropped whole. Partitions are made ahead (`store::retention`); the default one takes what falls outside.
create table run (
    id uuid primary key,
    shard smallint not null default 0,
    agent_id uuid not null,
    task_id uuid not null,
    revision integer not null,
    state text not null
        constraint run_state check (state in ('succeeded', 'failed', 'cancelled', 'skipped', 'quarantined')),
    skip_reason text
        constraint run_skip_reason
        check (skip_reason in ('misfire', 'overlap', 'queue_full', 'paused', 'snoozed', 'duplicate', 'budget')),
    trigger text not null
        constraint run_trigger check (trigger in ('schedule', 'event', 'manual', 'step', 'retry')),
    occurrence_key text not null,
    occurrence_at timestamptz not null,
    -- A stretch: this row stands for so many occurrences, up to that one.
    stretch_to timestamptz,
    stretch_count integer,
    root_run_id uuid not null,
    retry_of uuid,
    cause_depth smallint not null default 0,
    event jsonb,
    params jsonb,
    pinned jsonb,
    attempts integer not null,
    failures integer not null,
    crashes integer not null,
    planned_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz not null,
    error jsonb,
    output jsonb,
    -- `[ordinaut_schema::run::StepRecord]`.
    steps jsonb not null,
    constraint run_skipped check ((state = 'skipped') = (skip_reason is not null)),
    constraint run_stretch check ((stretch_to is null) = (stretch_count is null))
)
partition by range (id);

create table run_default partition of run default;

create index run_task_idx on run (task_id, id desc);
create index run_agent_idx on run (agent_id, id desc);

-- What was seen before: the guard of events, requests and retries, kept 30 days.
create table received (
    agent_id uuid not null,
    -- Compared byte by byte, so that a prefix is a range.
    key text collate "C" not null,
    shard smallint not null default 0,
    first_seen_at timestamptz not null default now(),
    expires_at timestamptz not null default now() + interval '30 days',
    -- What the first time was answered, for the second.
    answer jsonb,
    primary key (agent_id, key)
);

create index received_expiry_idx on received (expires_at);

-- One row a concurrency key, locked by whoever admits a run under it. Holders are counted, not remembered.
create table concurrency (
    agent_id uuid not null,
    key text not null,
    shard smallint not null default 0,
    primary key (agent_id, key)
);
