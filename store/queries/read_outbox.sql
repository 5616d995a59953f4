-- The next events of a shard in order of (xid, id). Needs outbox_order_idx.
-- $1 shard, $2 and $3 the position last told, $4 limit.
-- Only transactions below every open one are told of, so that one that commits late is never overtaken. Of the others it
-- is said that they are there, without payload: they are to be looked for again soon.
select
    outbox.xid::text as "xid!",
    outbox.id,
    outbox.event_id,
    outbox.at as "at: jiff_sqlx::Timestamp",
    outbox.agent_id,
    outbox.task_id,
    outbox.run_id,
    outbox.topic,
    case
        when outbox.xid < pg_snapshot_xmin(pg_current_snapshot()) then outbox.payload
    end as payload
from outbox
where outbox.shard = $1
  and (outbox.xid, outbox.id) > ($2::text::xid8, $3)
order by outbox.xid, outbox.id
limit $4
