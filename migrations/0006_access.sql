-- Who may touch what. `ordinaut_mcp` is neither owner nor able to bypass: each of its transactions sets
-- `ordinaut.agent`, and rows of other agents do not exist for it. Forced, so that the owner has no way round either
-- except by the policy named here.
grant usage on schema public to ordinaut_mcp, ordinaut_executor;
grant select, insert, update, delete on all tables in schema public to ordinaut_executor;
grant usage, select on all sequences in schema public to ordinaut_executor, ordinaut_mcp;

grant select on agent to ordinaut_mcp;
grant select, insert on audit_log to ordinaut_mcp;
grant select, insert, update on task to ordinaut_mcp;
grant select, insert on task_revision to ordinaut_mcp;
grant select, insert, update, delete on due_work to ordinaut_mcp;
grant select, delete on step_journal to ordinaut_mcp;
grant insert on step_journal to ordinaut_mcp;
grant select, insert on run to ordinaut_mcp;
grant select, insert, update on received to ordinaut_mcp;
grant select, insert, update on concurrency to ordinaut_mcp;
grant select, insert on outbox to ordinaut_mcp;
grant select, insert, update on inbox to ordinaut_mcp;
grant select on executor, mcp_server, action_catalog, gate to ordinaut_mcp;
revoke update, delete on audit_log from ordinaut_executor;

create function current_agent() returns uuid
language sql stable parallel safe
return nullif(current_setting('ordinaut.agent', true), '')::uuid;

do $$
declare
    t text;
begin
    foreach t in array array[
        'audit_log', 'task', 'task_revision', 'due_work', 'step_journal', 'run', 'received', 'concurrency', 'outbox',
        'inbox'
    ] loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format(
            'create policy own_rows on %I to ordinaut_mcp using (agent_id = current_agent()) '
            'with check (agent_id = current_agent())', t);
        execute format(
            'create policy all_rows on %I to current_user, ordinaut_executor using (true) with check (true)', t);
    end loop;
end $$;

alter table agent enable row level security;
alter table agent force row level security;
create policy own_rows on agent to ordinaut_mcp using (id = current_agent());
create policy all_rows on agent to current_user, ordinaut_executor using (true) with check (true);

alter table agent_token enable row level security;
alter table agent_token force row level security;
create policy all_rows on agent_token to current_user, ordinaut_executor using (true) with check (true);

-- A bearer token is looked up before anybody knows whose it is; this is the only way to `agent_token` for MCP.
create function authenticate(token_sha256 bytea)
returns table (agent_id uuid, agent_name text, label text, scopes text[])
language sql stable security definer
set search_path = public, pg_temp
as $$
    select agent.id, agent.name, agent_token.label, agent_token.scopes
    from agent_token
    join agent on agent.id = agent_token.agent_id
    where agent_token.token_sha256 = authenticate.token_sha256
      and agent_token.revoked_at is null
      and agent.revoked_at is null
      and (agent_token.expires_at is null or agent_token.expires_at > now())
$$;

revoke all on function authenticate(bytea) from public;
grant execute on function authenticate(bytea) to ordinaut_mcp, ordinaut_executor;
