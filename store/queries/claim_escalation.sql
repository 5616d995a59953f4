-- The message that has been due longest, unless another sends it now; its next try is moved ahead, twice as far each
-- time, and is none after the last. Needs inbox_escalate_idx. $1 the first distance in seconds, $2 tries.
-- What its task says now counts: one that no longer escalates gives no channel.
update inbox
set escalate_at = case
        when inbox.escalate_tries + 1 < $2::integer
            then now() + make_interval(secs => $1::double precision * (2 ^ inbox.escalate_tries))
    end,
    escalate_tries = inbox.escalate_tries + 1
from (
    select id
    from inbox
    where escalate_at <= now()
      and acked_at is null
    order by escalate_at
    limit 1
    for no key update skip locked
) as due
where inbox.id = due.id
returning
    inbox.id,
    inbox.agent_id,
    inbox.task_id as "task_id!",
    inbox.run_id,
    inbox.level,
    inbox.title,
    inbox.body,
    inbox.posted_at as "posted_at: jiff_sqlx::Timestamp",
    inbox.escalate_at is null as "is_last!",
    (
        select
            case
                when task_revision.definition ? 'escalate_after'
                    then coalesce(task_revision.definition ->> 'escalate_to', 'me')
            end
        from task
        join task_revision on task_revision.task_id = task.id and task_revision.revision = task.revision
        where task.id = inbox.task_id
    ) as channel
