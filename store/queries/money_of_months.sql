-- One element a budget in each array: $1 its number, $2 the agent, $3 the task or the agent itself, $4 the month's first
-- day. Amounts in billionths. What is set aside is counted of runs that are not over, whatever month they were planned
-- in: they are about to cost it now.
select
    budget.n as "n!",
    coalesce((
        select (spending.cost * 1000000000)::bigint
        from spending
        where spending.owner_id = budget.owner_id
          and spending.month = budget.month::date
    ), 0) as "spent!",
    coalesce((
        select (sum(due_work.reserved_cost) * 1000000000)::bigint
        from due_work
        where due_work.agent_id = budget.agent_id
          and due_work.reserved_cost is not null
          and (budget.owner_id = budget.agent_id or due_work.task_id = budget.owner_id)
    ), 0) as "reserved!"
from unnest($1::integer [], $2::uuid [], $3::uuid [], $4::text []) as budget (n, agent_id, owner_id, month)
