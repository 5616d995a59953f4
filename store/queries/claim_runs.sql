-- $1 executor, $2 limit, $3 lease in seconds, $4 low-water mark, $5 from how many crashes in a row a run is a suspect,
-- $6 how many suspects at most, $7 how many more where all that is pending is pure. Needs due_work_ready_idx,
-- due_work_suspect_idx and due_work_effects_idx.
-- RETURNING has no order: the caller sorts by rank. Fewer rows than asked is not an empty queue.
-- No gate for all: then nothing is claimed at all, and it is seen once. Agents behind one are a list that is made once, too:
-- as a join, nobody could tell how many runs it leaves, and the whole queue was sorted for a few (236 ms of 100,000).
-- By ctid: joined by key, 500 rows become a scan of the whole queue (48k/s against 88k/s).
-- What a run was woken for before its claim, its attempt sees: only what comes after it is owed a wake.
-- The limit's subselect makes this statement's commit asynchronous: a claim that is lost is only made again.
update due_work
set state = 'running',
    lease_token = gen_random_uuid(),
    lease_owner = $1,
    lease_expires_at = now() + make_interval(secs => $3),
    attempt = due_work.attempt + 1,
    wake_asked = false,
    started_at = coalesce(due_work.started_at, now()),
    claimed_at = now()
where ctid = any (array(
    select ready.ctid
    from due_work as ready
    where ready.state = 'pending'
      and ready.rank >= $4
      and (ready.crashes_in_row < $5 or ready.run_id = any (array(
          select suspect.run_id
          from due_work as suspect
          where suspect.state = 'pending'
            and suspect.crashes_in_row > 0
            and suspect.crashes_in_row >= $5
            and suspect.agent_id <> all (array(select agent_id from gate))
          order by suspect.rank, suspect.run_id
          limit $6
      )))
      and ready.agent_id <> all (array(select agent_id from gate))
      and not exists (select from gate where agent_id = '00000000-0000-0000-0000-000000000000')
    order by ready.rank, ready.run_id
    limit (
        select $2::bigint + case
            when exists (
                select
                from due_work as other
                where other.state = 'pending'
                  and not other.pure
                  and other.agent_id <> all (array(select agent_id from gate))
            ) then 0
            else $7::bigint
        end
        from set_config('synchronous_commit', 'off', true)
    )
    for no key update skip locked
))
returning
    run_id,
    task_id,
    agent_id,
    revision,
    lease_token as "lease_token!",
    attempt,
    failures,
    crashes,
    crashes_in_row,
    rank,
    trigger,
    occurrence_key,
    occurrence_at as "occurrence_at: jiff_sqlx::Timestamp",
    root_run_id,
    cause_depth,
    event,
    params,
    pinned,
    last_error,
    planned_at as "planned_at: jiff_sqlx::Timestamp",
    started_at as "started_at!: jiff_sqlx::Timestamp",
    running_ms,
    traceparent,
    (cancel_asked_at is not null) as "cancel_asked!"
