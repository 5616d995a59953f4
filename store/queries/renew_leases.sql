-- $1 runs and $2 their lease tokens, one element a lease in each array, in id order, so that whoever else locks several waits
-- for them in that order; $3 lease in seconds.
-- Lateral, and by an array: as joins, a plan that was made while the queue was short reads all of it for each lease (of a
-- queue of 100,000, no renewal was answered in time).
update due_work
set lease_expires_at = now() + make_interval(secs => $3)
where run_id = any (array(
    select locked.run_id
    from unnest($1::uuid [], $2::uuid []) as mine (run_id, lease_token)
    cross join lateral (
        select held.run_id
        from due_work as held
        where held.run_id = mine.run_id
          and held.lease_token = mine.lease_token
        for update
    ) as locked
))
returning
    run_id,
    (cancel_asked_at is not null) as "cancel_asked!",
    exists (
        select
        from gate
        where gate.agent_id in (due_work.agent_id, '00000000-0000-0000-0000-000000000000')
    ) as "gate_shut!"
