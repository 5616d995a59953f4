-- What the operator offers to steps, and how much of it an agent used today.
--
-- Channels, models and commands are configured in a file that executors read; definitions are judged by programs that
-- never see it. Executors publish names and kinds here: never an address or a credential.
create table offered (
    kind text not null
        constraint offered_kind check (kind in ('channel', 'model', 'command')),
    name text not null,
    shard smallint not null default 0,
    -- The kind of a channel, the model behind a name, what a command is.
    about text not null,
    -- Of models: the one that is used where a step names none.
    is_default boolean not null default false,
    constraint offered_pkey primary key (kind, name)
);

grant select, insert, update, delete on offered to ordinaut_executor;
grant select on offered to ordinaut_mcp;

-- Calls that an agent made on one day (UTC), for limits that a looping task must not pass. Executors only.
create table daily_calls (
    agent_id uuid not null references agent,
    shard smallint not null default 0,
    what text not null,
    day date not null,
    calls integer not null,
    constraint daily_calls_pkey primary key (agent_id, what, day)
);

alter table daily_calls enable row level security;
alter table daily_calls force row level security;
create policy all_rows on daily_calls to current_user, ordinaut_executor using (true) with check (true);
grant select, insert, update, delete on daily_calls to ordinaut_executor;
