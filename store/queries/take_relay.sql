-- Takes or renews the relay's lease of a shard. $1 shard, $2 token, $3 lease in seconds.
-- No row: another relay holds it. A position ahead of the transaction counter comes from another cluster (a restored
-- dump): nothing would ever follow it, so it starts over, and what is still in the outbox is told again.
-- A lease that ends later than one taken now was taken before the clock went back: its end may be hours away, so it is
-- over. Its relay, if there still is one, can move nothing any more, and what both told is told twice.
update relay_position
set lease_token = $2,
    lease_expires_at = clock_timestamp() + make_interval(secs => $3),
    xid = case when xid > pg_snapshot_xmax(pg_current_snapshot()) then '0'::xid8 else xid end,
    id = case when xid > pg_snapshot_xmax(pg_current_snapshot()) then 0 else id end
where shard = $1
  and (
      lease_token = $2
      or lease_token is null
      or lease_expires_at < clock_timestamp()
      or lease_expires_at > clock_timestamp() + make_interval(secs => $3)
  )
returning
    xid::text as "xid!",
    id,
    redis_run_id,
    last_stream_id
