-- $1 executor, $2 limit, $3 lease in seconds, $4 low-water mark. Needs index due_work_ready_idx.
-- RETURNING has no order: the caller sorts by rank. Fewer rows than asked is not an empty queue.
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
      and not exists (
          select
          from gate
          where gate.agent_id in (ready.agent_id, '00000000-0000-0000-0000-000000000000')
      )
    order by ready.rank, ready.run_id
    limit (select $2::bigint from set_config('synchronous_commit', 'off', true))
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
