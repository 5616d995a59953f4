-- What happened, on its way to Redis and to inboxes.
--
-- The outbox is only inserted into, and dropped by the hour: that is faster than deleting each row once it is
-- told, and is what a lost Redis is filled again from. `xid` lets the relay stop below the oldest transaction
-- still open, so that a late commit is never overtaken.
create sequence outbox_id_seq as bigint;

create table outbox (
    id bigint not null default nextval('outbox_id_seq'),
    xid xid8 not null default pg_current_xact_id(),
    at timestamptz not null default now(),
    shard smallint not null default 0,
    event_id uuid not null default gen_random_uuid(),
    agent_id uuid not null,
    task_id uuid,
    run_id uuid,
    topic text not null,
    cause_depth smallint not null default 0,
    payload jsonb not null
)
partition by range (at);

create table outbox_default partition of outbox default;

create index outbox_order_idx on outbox (xid, id);

-- How far the relay of each shard has told, and which Redis it told.
create table relay_position (
    shard smallint primary key,
    xid xid8 not null default '0',
    id bigint not null default 0,
    redis_run_id text,
    last_stream_id text,
    lease_token uuid,
    lease_expires_at timestamptz
);

insert into relay_position (shard) values (0);

-- Messages that the assistant picks up with `check_inbox`.
create table inbox (
    id uuid primary key,
    shard smallint not null default 0,
    agent_id uuid not null,
    task_id uuid,
    run_id uuid,
    -- The idempotency key of the step that posted: posting again under it changes nothing.
    key text not null,
    level text not null
        constraint inbox_level check (level in ('info', 'warning', 'error')),
    title text,
    body text not null,
    posted_at timestamptz not null default now(),
    -- Commit order, so that a late commit is not taken for shown.
    xid xid8 not null default pg_current_xact_id(),
    acked_at timestamptz,
    constraint inbox_posted_once unique (agent_id, key)
);

create index inbox_new_idx on inbox (agent_id, id) where acked_at is null;
