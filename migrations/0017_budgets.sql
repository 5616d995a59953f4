-- Budgets: what a task or an agent may use, what runs have set aside of it, and what models cost.
--
-- How many runs a day had, and what is set aside for runs that are not over, is counted from `run` and `due_work` each
-- time and never remembered: a run that ends loses its row, and that is the release. Only what was spent is written
-- down, because nothing else knows it afterwards. A task's own limits stand in its definition.

-- One row an agent that has a budget, and none for the others: whoever plans runs of such an agent locks it first, so
-- that of several planners one counts after the other. Apart from `agent`, which is locked before tasks by whoever
-- revokes, and which MCP must not write: a lock needs the right to write a column.
create table agent_budget (
    agent_id uuid primary key references agent,
    shard smallint not null default 0,
    max_runs_per_day integer
        constraint agent_budget_runs check (max_runs_per_day >= 1),
    -- In the operator's currency.
    max_cost_per_month numeric(20, 9)
        constraint agent_budget_cost check (max_cost_per_month > 0),
    max_tokens_per_run integer
        constraint agent_budget_tokens check (max_tokens_per_run >= 1),
    constraint agent_budget_says_something
    check (num_nonnulls(max_runs_per_day, max_cost_per_month, max_tokens_per_run) > 0)
);

-- What models cost in a month. Each answer is written twice: for its task, in the month of the task's zone, and for its
-- agent, in that of the agent's zone, because the two need not begin at one instant.
create table spending (
    agent_id uuid not null,
    -- The task, or the agent itself.
    owner_id uuid not null,
    shard smallint not null default 0,
    -- Its first day.
    month date not null,
    cost numeric(24, 9) not null,
    tokens bigint not null,
    calls bigint not null,
    constraint spending_pkey primary key (owner_id, month)
);

alter table due_work
    -- Of budgets of cost; null where none applies.
    add column reserved_cost numeric(20, 9),
    -- Of models, by all attempts; counted where a run has a limit.
    add column tokens_used bigint not null default 0;

create index due_work_reserved_idx on due_work (agent_id, task_id) where reserved_cost is not null;

-- A million tokens of a prompt, and of an answer; the most tokens of one answer. Null: the model has no price.
alter table offered
    add column input_price numeric(20, 9),
    add column output_price numeric(20, 9),
    add column max_tokens integer;

grant select, insert, update, delete on agent_budget, spending to ordinaut_executor;
grant select on agent_budget, spending to ordinaut_mcp;
grant update (shard) on agent_budget to ordinaut_mcp;

do $$
declare
    t text;
begin
    foreach t in array array['agent_budget', 'spending'] loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format(
            'create policy own_rows on %I to ordinaut_mcp using (agent_id = current_agent()) '
            'with check (agent_id = current_agent())', t);
        execute format(
            'create policy all_rows on %I to current_user, ordinaut_executor using (true) with check (true)', t);
    end loop;
end $$;
