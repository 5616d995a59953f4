-- What parked runs wait for: a person's decision, another run's end.
--
-- An approval asks once, and what it shows never changes: its SHA-256 is what is approved. It belongs to the agent whose
-- run asks. Whoever may answer is somebody else: principals of other agents and whoever holds a link reach it through
-- the functions below, which tell whose it is and nothing more.
create table approval (
    id uuid primary key,
    shard smallint not null default 0,
    agent_id uuid not null,
    task_id uuid not null,
    run_id uuid not null,
    -- The idempotency key of the call that asks: asking again under it asks nothing new.
    key text not null,
    message text not null,
    data jsonb not null,
    shown_sha256 bytea not null
        constraint approval_shown_is_sha256 check (octet_length(shown_sha256) = 32),
    -- What it counts as when nobody answers.
    on_timeout text not null
        constraint approval_on_timeout check (on_timeout in ('reject', 'approve', 'fail')),
    cause_depth smallint not null default 0,
    requested_at timestamptz not null default now(),
    expires_at timestamptz not null,
    state text not null default 'waiting'
        constraint approval_state check (state in ('waiting', 'approved', 'rejected', 'timed_out', 'closed')),
    answered_at timestamptz,
    answered_by text,
    comment text,
    approved_items jsonb,
    constraint approval_requested_once unique (agent_id, key),
    constraint approval_answered
    check ((state in ('approved', 'rejected')) = (num_nulls(answered_at, answered_by) = 0))
);

create index approval_waiting_idx on approval (agent_id, id) where state = 'waiting';
create index approval_run_idx on approval (run_id) where state = 'waiting';

-- Links that decide an approval once. A token is 256 random bits, and never stored itself.
create table approval_link (
    token_sha256 bytea primary key
        constraint approval_link_is_sha256 check (octet_length(token_sha256) = 32),
    shard smallint not null default 0,
    approval_id uuid not null references approval on delete cascade,
    made_at timestamptz not null default now()
);

create index approval_link_approval_idx on approval_link (approval_id);

-- Sub-runs by the run that waits for them: their key begins with `s:` and its id.
create index due_work_sub_run_idx on due_work (left(occurrence_key, 38)) where trigger = 'step';

grant select, insert, update, delete on approval, approval_link to ordinaut_executor;
grant select on approval to ordinaut_mcp;
grant update (state, answered_at, answered_by, comment, approved_items) on approval to ordinaut_mcp;

alter table approval enable row level security;
alter table approval force row level security;
create policy own_rows on approval to ordinaut_mcp
    using (agent_id = current_agent()) with check (agent_id = current_agent());
create policy all_rows on approval to current_user, ordinaut_executor using (true) with check (true);

alter table approval_link enable row level security;
alter table approval_link force row level security;
create policy all_rows on approval_link to current_user, ordinaut_executor using (true) with check (true);

-- Whose an approval is.
create function approval_agent(approval uuid) returns uuid
language sql stable security definer
set search_path = public, pg_temp
as $$
    select agent_id from approval where id = approval_agent.approval
$$;

-- What a link decides, and whose that is.
create function approval_of_link(token_sha256 bytea) returns table (approval_id uuid, agent_id uuid)
language sql stable security definer
set search_path = public, pg_temp
as $$
    select approval.id, approval.agent_id
    from approval_link
    join approval on approval.id = approval_link.approval_id
    where approval_link.token_sha256 = approval_of_link.token_sha256
$$;

-- What waits for an answer from somebody other than this agent, oldest first.
create function approvals_of_others(agent uuid, most bigint) returns table (approval_id uuid, agent_id uuid)
language sql stable security definer
set search_path = public, pg_temp
as $$
    select approval.id, approval.agent_id
    from approval
    where approval.state = 'waiting'
      and approval.expires_at > now()
      and approval.agent_id <> approvals_of_others.agent
    order by approval.id
    limit approvals_of_others.most
$$;

revoke all on function approval_agent(uuid) from public;
revoke all on function approval_of_link(bytea) from public;
revoke all on function approvals_of_others(uuid, bigint) from public;
grant execute on function approval_agent(uuid) to ordinaut_mcp, ordinaut_executor;
grant execute on function approval_of_link(bytea) to ordinaut_mcp, ordinaut_executor;
grant execute on function approvals_of_others(uuid, bigint) to ordinaut_mcp, ordinaut_executor;
