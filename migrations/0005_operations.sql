-- What executors say of themselves and of the actions they can perform.
create table executor (
    id uuid primary key,
    shard smallint not null default 0,
    name text not null,
    version text not null,
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now(),
    state text not null default 'running'
        constraint executor_state check (state in ('running', 'draining', 'stopped'))
);

-- The operator's MCP servers, as last tried.
create table mcp_server (
    name text primary key,
    shard smallint not null default 0,
    -- Null: never seen.
    seen_at timestamptz,
    error text
);

-- The tools those servers declare.
create table action_catalog (
    name text primary key,
    shard smallint not null default 0,
    server text not null references mcp_server on delete cascade,
    tool text not null,
    -- `ordinaut_schema::action::Descriptor`.
    descriptor jsonb not null,
    -- SHA-256 over description and schema.
    sha256 bytea not null,
    seen_at timestamptz not null default now()
);
