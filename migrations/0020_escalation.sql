-- Messages that nobody acknowledged are sent to a channel, once, where their task says after how long.
--
-- When that is due stands in the row from the moment it is posted, so that looking for what is due reads an index of
-- waiting messages only, however long the inbox is. Whoever sends moves it ahead first: that is the claim, and after a
-- crash the next try.
alter table inbox
    add column escalate_at timestamptz,
    add column escalate_tries smallint not null default 0,
    -- When a channel took it.
    add column escalated_at timestamptz;

create index inbox_escalate_idx on inbox (escalate_at) where escalate_at is not null and acked_at is null;

-- When a message that a task posts now is due; null where its task does not say. A duration is stored as `1h30m`.
create function escalation_due(task uuid) returns timestamptz
language sql stable
set search_path = public, pg_temp
as $$
    select now() + (task_revision.definition ->> 'escalate_after')::interval
    from task
    join task_revision on task_revision.task_id = task.id and task_revision.revision = task.revision
    where task.id = escalation_due.task
$$;
