-- Who may schedule, and as whom the programs work.
--
-- Two roles without login: programs connect as they are told and `set role` to one of them. `ordinaut_mcp` sees one
-- agent at a time, by row-level security; `ordinaut_executor` sees all. Roles belong to the cluster, not the
-- database, hence the exception handling: another database may have made them.
do $$
begin
    create role ordinaut_mcp nologin;
exception when duplicate_object or unique_violation then null;
end $$;

do $$
begin
    create role ordinaut_executor nologin;
exception when duplicate_object or unique_violation then null;
end $$;

create table agent (
    id uuid primary key,
    shard smallint not null default 0,
    name text not null
        constraint agent_name_taken unique,
    -- An IANA name; null: whoever runs the program decides.
    timezone text,
    -- `ordinaut_schema::action::Grants`.
    grants jsonb not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

-- The agent of this machine's own user, over stdio and the command line.
insert into agent (id, name, grants)
values ('00000000-0000-8000-8000-000000000001', 'local', '{"all": true}');

create table agent_token (
    id uuid primary key,
    agent_id uuid not null references agent,
    label text not null,
    -- The token itself is never stored.
    token_sha256 bytea not null
        constraint agent_token_known unique
        constraint agent_token_is_sha256 check (octet_length(token_sha256) = 32),
    scopes text[] not null
        constraint agent_token_scopes check (
            scopes <@ array['task:read', 'task:write', 'run:control', 'event:publish', 'approval:answer', 'admin']
        ),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

-- The kill switch: while a row is here, nothing of that agent is claimed; the nil agent stands for everyone.
create table gate (
    agent_id uuid primary key,
    shut_at timestamptz not null default now(),
    shut_by text not null
);

-- Who did what, when, through which client. Append-only by privilege.
create table audit_log (
    id bigint generated always as identity primary key,
    shard smallint not null default 0,
    agent_id uuid not null,
    principal text not null,
    client text,
    verb text not null,
    task_id uuid,
    run_id uuid,
    detail jsonb,
    at timestamptz not null default now()
);

create index audit_log_agent_idx on audit_log (agent_id, id);
