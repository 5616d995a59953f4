-- The outbox has a size limit, and nothing falls out of it without a word.
--
-- While Redis is away for long, a busy outbox could fill the disk within its 24 h: above a limit its oldest hours go
-- early, whole, never the one that is being written. And what had fallen into the default partition (nobody made
-- partitions ahead) was deleted by age without the `events.gap` that dropped hours have.

create function outbox_hours() returns table (name text, starts_at timestamptz)
language sql stable
set timezone = 'UTC'
set search_path = public, pg_temp
as $$
    select relname::text, to_timestamp(right(relname, 10), 'YYYYMMDDHH24')
    from pg_inherits
    join pg_class on pg_class.oid = inhrelid
    where inhparent = 'outbox'::regclass
      and relname ~ '^outbox_\d{10}$'
$$;

-- What the statement `lost` yields of the outbox and was not told yet is lost to Redis (history has it): one
-- `events.gap` for each agent concerned says from when to when, and how many. A gap that is itself lost is told again
-- as part of the next. Not for anybody but the two functions below: it runs what it is given.
create function tell_gap(lost text) returns void
language plpgsql
set search_path = public, pg_temp
as $$
begin
    execute format($gap$
        with lost as (%s)
        insert into outbox (shard, agent_id, topic, payload)
        select
            lost.shard,
            lost.agent_id,
            'events.gap',
            jsonb_build_object(
                'from', min(case when lost.topic = 'events.gap' then (lost.payload ->> 'from')::timestamptz else lost.at end),
                'to', max(case when lost.topic = 'events.gap' then (lost.payload ->> 'to')::timestamptz else lost.at end),
                'count', sum(case when lost.topic = 'events.gap' then (lost.payload ->> 'count')::bigint else 1 end)
            )
        from lost
        join relay_position on relay_position.shard = lost.shard
        where (lost.xid, lost.id) > (relay_position.xid, relay_position.id)
        group by lost.shard, lost.agent_id
    $gap$, lost);
end $$;

create function drop_outbox_hour(part text) returns void
language plpgsql
set search_path = public, pg_temp
as $$
begin
    -- A transaction that began in that hour may still be writing to it: what it writes belongs to the gap.
    execute format('lock table %I in share mode', part);
    perform tell_gap(format('select * from %I', part));
    execute format('drop table %I', part);
end $$;

-- Drops the oldest hour that ends at or before an instant; then, in large bites, what lies before it in the default
-- partition. Null when there is nothing.
create or replace function drop_outbox(before timestamptz) returns text
language plpgsql security definer
set timezone = 'UTC'
set search_path = public, pg_temp
set lock_timeout = '2s'
as $$
declare
    part text;
begin
    perform pg_advisory_xact_lock(hashtextextended('ordinaut partitions', 0));
    select name into part
    from outbox_hours()
    where starts_at + interval '1 hour' <= before
    order by starts_at
    limit 1;
    if part is not null then
        perform drop_outbox_hour(part);
        return part;
    end if;
    if not exists (select from outbox_default where at < before) then
        return null;
    end if;
    perform tell_gap(format(
        'delete from outbox_default where ctid = any (array('
        'select ctid from outbox_default where at < %L order by at limit 100000)) returning *',
        before));
    return 'outbox_default';
end $$;

-- Drops the oldest hour while all hours together are larger than that; says what they weigh when it found nothing to
-- drop: the hour that is being written stays, however large it is.
create function shrink_outbox(max_bytes bigint, out dropped text, out bytes bigint)
language plpgsql security definer
set timezone = 'UTC'
set search_path = public, pg_temp
set lock_timeout = '2s'
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('ordinaut partitions', 0));
    select coalesce(sum(pg_total_relation_size(name::regclass)), 0) into bytes from outbox_hours();
    if bytes <= max_bytes then
        return;
    end if;
    select name into dropped
    from outbox_hours()
    where starts_at + interval '1 hour' <= now()
    order by starts_at
    limit 1;
    if dropped is not null then
        perform drop_outbox_hour(dropped);
    end if;
end $$;

revoke all on function tell_gap(text) from public;
revoke all on function drop_outbox_hour(text) from public;
revoke all on function shrink_outbox(bigint) from public;
grant execute on function shrink_outbox(bigint) to ordinaut_executor;
