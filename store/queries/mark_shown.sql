-- Keeps the snapshot of a listing on the rows that it showed last. $1 agent, $2 snapshot, $3 message or null, $4 run of a
-- problem or null. The first listing that ends at a row keeps its snapshot: one that came later may have shown more than
-- the first one's reader knows.
with problems as (
    update problem
    set shown_in = $2::text::pg_snapshot
    where run_id = $4
      and agent_id = $1
      and shown_in is null
)

update inbox
set shown_in = $2::text::pg_snapshot
where id = $3
  and agent_id = $1
  and shown_in is null
