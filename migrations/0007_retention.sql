-- Partitions made ahead and dropped whole, by executors that do not own the tables.
--
-- The functions run as their owner and can do nothing else to the two tables. One partition a call: each is a
-- transaction of its own, so that what is locked is locked for a moment. A new partition is filled before it is attached
-- (what the default one took in its range moves over), and attached, not created in place: that locks out nobody but
-- users of the default partition. Any number of executors may call at once; an advisory lock lets them pass one by one.

-- The least id of any run at or after an instant: what history is partitioned by.
create function run_id_floor(at timestamptz) returns uuid
language sql immutable parallel safe
return (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

create function partition_name(parent text, starts_at timestamptz) returns text
language sql immutable parallel safe
return parent || '_'
    || to_char(starts_at at time zone 'UTC', case parent when 'run' then 'YYYYMMDD' else 'YYYYMMDDHH24' end);

-- History daily, a day back and a week ahead; the outbox hourly, an hour back and a day ahead.
create function partitions_missing() returns table (parent text, starts_at timestamptz)
language sql stable
set timezone = 'UTC'
set search_path = public, pg_temp
as $$
    select wanted.parent, wanted.starts_at
    from (
        select 'run' as parent, date_trunc('day', now()) + day * interval '1 day' as starts_at
        from generate_series(-1, 7) as day
        union all
        select 'outbox', date_trunc('hour', now()) + hour * interval '1 hour'
        from generate_series(-1, 24) as hour
    ) as wanted
    where to_regclass(partition_name(wanted.parent, wanted.starts_at)) is null
    order by wanted.starts_at
$$;

-- False when it is there already.
create function make_partition(parent text, starts_at timestamptz) returns boolean
language plpgsql security definer
set timezone = 'UTC'
set search_path = public, pg_temp
as $$
declare
    part text := partition_name(parent, starts_at);
    low text;
    high text;
    key text;
begin
    if parent = 'run' and starts_at = date_trunc('day', starts_at) then
        low := run_id_floor(starts_at)::text;
        high := run_id_floor(starts_at + interval '1 day')::text;
        key := 'id';
    elsif parent = 'outbox' and starts_at = date_trunc('hour', starts_at) then
        low := starts_at::text;
        high := (starts_at + interval '1 hour')::text;
        key := 'at';
    else
        raise exception 'no partition of % begins at %', parent, starts_at using errcode = 'invalid_parameter_value';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('ordinaut partitions', 0));
    -- Read, not looked up: a name that was missing before the wait is still missing in the catalogue's cache.
    if exists (select from pg_class where relname = part and relnamespace = 'public'::regnamespace) then
        return false;
    end if;
    execute format('create table %I (like %I including all)', part, parent);
    execute format('lock table %I in access exclusive mode', parent || '_default');
    execute format(
        'with moved as (delete from %I where %I >= %L and %I < %L returning *) insert into %I select * from moved',
        parent || '_default', key, low, key, high, part);
    execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part, low, high);
    return true;
end $$;

-- Drops the oldest history partition that ends at or before an instant and in whose range no run is in flight: a run
-- that retries or waits long finds its place in history when it ends. Null when there is none.
create function drop_history(before timestamptz) returns text
language plpgsql security definer
set timezone = 'UTC'
set search_path = public, pg_temp
set lock_timeout = '2s'
as $$
declare
    part text;
begin
    perform pg_advisory_xact_lock(hashtextextended('ordinaut partitions', 0));
    select old.name into part
    from (
        select relname::text as name, to_timestamp(right(relname, 8), 'YYYYMMDD') as starts_at
        from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = 'run'::regclass
          and relname ~ '^run_\d{8}$'
    ) as old
    where old.starts_at + interval '1 day' <= before
      and not exists (
          select
          from due_work
          where run_id >= run_id_floor(old.starts_at)
            and run_id < run_id_floor(old.starts_at + interval '1 day')
      )
    order by old.starts_at
    limit 1;
    if part is not null then
        execute format('drop table %I', part);
    end if;
    return part;
end $$;

-- Drops the oldest outbox partition that ends at or before an instant. What was in it and not told yet is lost to Redis
-- (history has it); one `events.gap` for each agent concerned says from when to when, and how many. A gap that is
-- itself lost is told again as part of the next.
create function drop_outbox(before timestamptz) returns text
language plpgsql security definer
set timezone = 'UTC'
set search_path = public, pg_temp
set lock_timeout = '2s'
as $$
declare
    part text;
begin
    perform pg_advisory_xact_lock(hashtextextended('ordinaut partitions', 0));
    select old.name into part
    from (
        select relname::text as name, to_timestamp(right(relname, 10), 'YYYYMMDDHH24') as starts_at
        from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = 'outbox'::regclass
          and relname ~ '^outbox_\d{10}$'
    ) as old
    where old.starts_at + interval '1 hour' <= before
    order by old.starts_at
    limit 1;
    if part is null then
        return null;
    end if;
    execute format($gap$
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
        from %I as lost
        join relay_position on relay_position.shard = lost.shard
        where (lost.xid, lost.id) > (relay_position.xid, relay_position.id)
        group by lost.shard, lost.agent_id
    $gap$, part);
    execute format('drop table %I', part);
    return part;
end $$;

revoke all on function make_partition(text, timestamptz) from public;
revoke all on function drop_history(timestamptz) from public;
revoke all on function drop_outbox(timestamptz) from public;
grant execute on function make_partition(text, timestamptz) to ordinaut_executor;
grant execute on function drop_history(timestamptz) to ordinaut_executor;
grant execute on function drop_outbox(timestamptz) to ordinaut_executor;
