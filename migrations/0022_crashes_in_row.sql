-- A run is quarantined for deaths of its executors that say something about it: those between which it got nowhere.
--
-- What it had done when an executor last died with it is remembered, so that the next death can be told apart: calls
-- answered and steps ended, counted in its journal. Programs one version back count `crashes` as before and leave both
-- as they are.
alter table due_work
    add column crashes_in_row integer not null default 0,
    add column done_before_crash integer not null default 0;

-- Runs that may be what kills executors, for the claim, which takes one of them at a time.
create index due_work_suspect_idx on due_work (rank, run_id) where state = 'pending' and crashes_in_row > 0;
