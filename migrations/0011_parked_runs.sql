-- Runs that wait for an instant, a person or another run.
--
-- Such a run is `waiting` like a retry. Whatever it waits for may come while its attempt is still on the way to park
-- it: `wake_asked` says so, and the parking then does not wait at all.
alter table due_work add column wake_asked boolean not null default false;
