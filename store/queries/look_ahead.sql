-- $1 limit. What is woken here still waits in this statement's own view of the queue. Needs indexes due_work_wake_idx and
-- task_due_idx.
with woken as (
    update due_work
    set state = 'pending',
        rank = (extract(epoch from wake_at) * 1000000)::bigint + (priority - 1) * 30000000::bigint,
        wake_at = null
    where ctid = any (array(
        select waiting.ctid
        from due_work as waiting
        where waiting.state = 'waiting'
          and waiting.wake_at <= now()
        order by waiting.wake_at
        limit $1
        for update skip locked
    ))
    returning run_id
)

select
    (select count(*) from woken) as "woken!",
    least(
        (select min(next_due_at) from task where next_due_at is not null),
        (
            select min(wake_at)
            from due_work
            where state = 'waiting'
              and run_id <> all (array(select run_id from woken))
        )
    ) as "next: jiff_sqlx::Timestamp",
    now() as "now!: jiff_sqlx::Timestamp"
