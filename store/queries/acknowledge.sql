-- Acknowledges what listings showed that ended at these rows. $1 agent, $2 the ids: of a message, of a problem's run.
-- Reaches what the listing's snapshot saw, and never a row that was committed after it, wherever that sorts. A row
-- that ended no listing is acknowledged alone: nobody knows what was shown before it.
with gone as (
    delete from problem
    using problem as through
    where through.run_id = any ($2)
      and through.agent_id = $1
      and problem.agent_id = $1
      and (problem.noted_at, problem.run_id) >= (through.noted_at, through.run_id)
      and (problem.run_id = through.run_id or pg_visible_in_snapshot(problem.xid, through.shown_in))
)

update inbox
set acked_at = now()
from inbox as through
where through.id = any ($2)
  and through.agent_id = $1
  and inbox.agent_id = $1
  and inbox.acked_at is null
  and inbox.id <= through.id
  and (inbox.id = through.id or pg_visible_in_snapshot(inbox.xid, through.shown_in))
