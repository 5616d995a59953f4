-- Standing definitions, and how far each one's schedule has been followed.
--
-- The cursor is a pair: `next_occurrence_at` names the occurrence, `next_due_at` is when to look (that plus
-- jitter, or later while snoozed). The cursor only moves forward: it is what keeps an occurrence from being
-- planned twice, by however many executors.
create table task (
    id uuid primary key,
    shard smallint not null default 0,
    agent_id uuid not null references agent,
    title text not null,
    -- Trimmed and case-folded: how titles are compared.
    title_key text not null,
    state text not null
        constraint task_state check (state in ('active', 'paused', 'ended', 'cancelled')),
    revision integer not null
        constraint task_revision_counts check (revision >= 1),
    schedule_kind text not null
        constraint task_schedule_kind check (schedule_kind in ('cron', 'rrule', 'once', 'interval', 'event', 'manual')),
    -- What an `event` task listens to.
    topic text
        constraint task_topic check ((topic is not null) = (schedule_kind = 'event')),

    next_occurrence_at timestamptz,
    next_due_at timestamptz,
    -- The last occurrence that was decided, run or skipped.
    last_occurrence_at timestamptz,
    runs_planned bigint not null default 0,

    -- Occurrences before this pass as skipped, for that reason.
    pass_until timestamptz,
    pass_reason text
        constraint task_pass_reason check (pass_reason in ('paused', 'snoozed')),
    -- The next occurrence is held back until then.
    snoozed_until timestamptz,
    skip_next integer not null default 0,
    -- A paused task resumes by itself then.
    resume_at timestamptz,
    paused_because text,

    failures_in_row integer not null default 0,

    -- The open stretch: consecutive occurrences skipped for one reason, written to history when it ends.
    stretch_reason text
        constraint task_stretch_reason
        check (stretch_reason in ('misfire', 'overlap', 'queue_full', 'paused', 'snoozed', 'duplicate', 'budget')),
    stretch_from timestamptz,
    stretch_to timestamptz,
    stretch_count integer,
    stretch_opened_at timestamptz,

    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),

    constraint task_pass check ((pass_until is null) = (pass_reason is null)),
    constraint task_stretch
    check (num_nulls(stretch_reason, stretch_from, stretch_to, stretch_count, stretch_opened_at) in (0, 5)),
    constraint task_live_cursor check (state in ('active', 'paused') or next_due_at is null)
)
with (fillfactor = 80);

create unique index task_title_taken on task (agent_id, title_key) where state in ('active', 'paused');
create index task_due_idx on task (next_due_at) where next_due_at is not null;
create index task_listening_idx on task (agent_id) where schedule_kind = 'event' and state in ('active', 'paused');
create index task_list_idx on task (agent_id, id);

-- Every definition a task has had; a run keeps the one it was planned with.
create table task_revision (
    task_id uuid not null references task,
    revision integer not null,
    shard smallint not null default 0,
    agent_id uuid not null,
    -- `ordinaut_schema::task::TaskSpec` as stored.
    definition jsonb not null,
    created_at timestamptz not null default now(),
    created_by text not null,
    primary key (task_id, revision)
);
