-- Runs that did not go well, until the agent has acknowledged them.
--
-- History grows to millions of rows, of which an inbox wants the few that are new. They are noted here by the statement
-- that writes them to history, whichever program it comes from, and go when they are acknowledged: what is read is as
-- long as what is new. `xid` and `shown_in` are what they are in `inbox`: acknowledging reaches exactly what a listing
-- showed, however late a row of the same moment commits.
create table problem (
    run_id uuid primary key,
    shard smallint not null default 0,
    agent_id uuid not null,
    noted_at timestamptz not null default now(),
    xid xid8 not null default pg_current_xact_id(),
    shown_in pg_snapshot
)
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

create index problem_new_idx on problem (agent_id, noted_at desc, run_id desc);
-- For retention, which asks for no agent.
create index problem_age_idx on problem (noted_at);

create function note_problem() returns trigger
language plpgsql
set search_path = public, pg_temp
as $$
begin
    insert into problem (run_id, shard, agent_id)
    values (new.id, new.shard, new.agent_id)
    on conflict (run_id) do nothing;
    return null;
end $$;

-- Whoever writes history notes it, in the writer's own rights: a partition that is attached later gets it too.
create trigger note_problem
after insert on run
for each row
when (new.state in ('failed', 'quarantined', 'skipped'))
execute function note_problem();

grant select, insert, update, delete on problem to ordinaut_executor;
grant select, insert, delete on problem to ordinaut_mcp;
grant update (shown_in) on problem to ordinaut_mcp;

alter table problem enable row level security;
alter table problem force row level security;
create policy own_rows on problem to ordinaut_mcp
    using (agent_id = current_agent()) with check (agent_id = current_agent());
create policy all_rows on problem to current_user, ordinaut_executor using (true) with check (true);

-- What an inbox showed of history until now: the last day.
insert into problem (run_id, shard, agent_id, noted_at)
select id, shard, agent_id, finished_at
from run
where id >= run_id_floor(now() - interval '1 day')
  and state in ('failed', 'quarantined', 'skipped');
