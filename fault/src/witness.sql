-- Witnesses of the lab's own: what happened to runs, in which order, and by whose session.
--
-- A note is written in the transaction that it is about: it is rolled back with it and lost with it, so what is noted is
-- what the database let happen. The sequence's order is the order of a run's writes, which its row's lock makes one.
-- The functions run as the owner, since the programs' roles know nothing of this schema; `session_user` stays theirs.
create schema witness;

create table witness.note (
    seq bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    by text not null default session_user,
    kind text not null,
    run uuid not null,
    before text,
    after text,
    token_before uuid,
    token_after uuid,
    crashed boolean,
    step text,
    state text,
    call bigint
);

create function witness.due_work() returns trigger
language plpgsql security definer
as $$
begin
    insert into witness.note (kind, run, before, after, token_before, token_after, crashed)
    values (
        'moved', coalesce(new.run_id, old.run_id), old.state, new.state, old.lease_token, new.lease_token,
        coalesce(new.crashes > old.crashes, false)
    );
    return null;
end $$;

create trigger witness_come_or_go after insert or delete on due_work
for each row execute function witness.due_work();

create trigger witness_move after update on due_work
for each row
when (old.state is distinct from new.state or old.lease_token is distinct from new.lease_token)
execute function witness.due_work();

create function witness.step_journal() returns trigger
language plpgsql security definer
as $$
begin
    insert into witness.note (kind, run, step, state, call)
    values (
        'journaled', new.run_id,
        case when new.item < 0 then new.step else new.step || '/' || new.item end,
        new.state, (new.output #>> '{body,call}')::bigint
    );
    return null;
end $$;

create trigger witness_step after insert or update on step_journal
for each row execute function witness.step_journal();

create function witness.run() returns trigger
language plpgsql security definer
as $$
begin
    insert into witness.note (kind, run, after) values ('ended', new.id, new.state);
    return null;
end $$;

create trigger witness_end after insert on run
for each row execute function witness.run();
