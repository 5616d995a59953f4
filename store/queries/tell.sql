-- Appends events to the outbox, in the order given: ids are drawn row by row, so the task's events keep their order.
-- $1 agents, $2 tasks, $3 runs, $4 topics, $5 cause depths, $6 payloads.
insert into outbox (agent_id, task_id, run_id, topic, cause_depth, payload)
select told.agent_id, told.task_id, told.run_id, told.topic, told.cause_depth, told.payload
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::smallint[], $6::jsonb[])
    with ordinality as told (agent_id, task_id, run_id, topic, cause_depth, payload, place)
order by told.place
