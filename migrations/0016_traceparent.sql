-- One trace from the call that asks for a run to the run's steps: the call's W3C `traceparent` waits with the run.
--
-- By a default and not by each statement that plans runs: whoever plans one in the transaction of a call leaves the
-- call's trace with it, and a run of a schedule has none.
alter table due_work
    add column traceparent text default nullif(current_setting('ordinaut.traceparent', true), '');
